"""Searches of what stays on disk or in host memory: the answers of the index in memory."""

import contextlib

import emulated
import models
import numpy as np
import pytest
from compare import assert_same, assert_same_knn
from device_arrays import DeviceArray
from emu import Fibers
from engines import needs_fibers
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data import clustered
from gpuann import distributed, ivf_flat, ivf_pq, shards, storage, streamed
from gpuann.distributed import blocks

ROWS, QUERIES = clustered(1200, 16, 60)
SEARCH = {
    "brute_force": None,
    "ivf_flat": ivf_flat.SearchParams(n_probes=5),
    "ivf_pq": ivf_pq.SearchParams(n_probes=5),
}


def build(kind, metric="sqeuclidean", devices=("cpu",) * 3, rows=ROWS):
    if kind == "brute_force":
        params = metric
    elif kind == "ivf_flat":
        params = ivf_flat.IndexParams(n_lists=12, metric=metric)
    else:
        params = ivf_pq.IndexParams(n_lists=12, metric=metric, pq_dim=8, kmeans_n_iters=4)
    return shards.build(params, rows, list(devices))


def search(kind, index, queries=QUERIES, k=10, **more):
    module = streamed if isinstance(index, streamed.StreamedIndex) else shards
    return module.search(SEARCH[kind], index, queries, k, **more)


@pytest.fixture
def saved(tmp_path):
    """Makes a folder of an index and says what the index in memory answers."""

    def make(kind, metric="sqeuclidean", queries=QUERIES, k=10):
        index = build(kind, metric)
        shards.save(tmp_path / "index", index, replace=True)
        return tmp_path / "index", search(kind, index, queries, k)

    return make


ZERO = np.concatenate([QUERIES[:20], np.zeros((1, 16), np.float32)])


@pytest.mark.parametrize("block_bytes", [1 << 12, 20_000, 1 << 28])
@pytest.mark.parametrize("metric", models.METRICS)
@pytest.mark.parametrize("kind", SEARCH)
def test_the_answer_is_that_of_the_index_in_memory(saved, kind, metric, block_bytes):
    """Blocks of a few rows of a list, of some lists, of all; a zero query."""
    for queries, k in [(QUERIES, 10), (ZERO, 1), (QUERIES[:1], 10), (QUERIES, 700)]:
        folder, want = saved(kind, metric, queries, k)
        index = streamed.open(folder, device="cpu", block_bytes=block_bytes)
        assert len(index) == 1200
        assert_same_knn(search(kind, index, queries, k), want)


@pytest.mark.parametrize("kind", SEARCH)
def test_shards_in_host_memory(kind):
    index = build(kind)
    made = [
        distributed.build_part(index.models[0] or "cosine", ROWS[a : a + 400], a, device="cpu")
        for a in (0, 400, 800)
    ]
    want = search(kind, shards.from_shards(made, ["cpu"]))
    held = streamed.open(made, device="cpu", block_bytes=9000)
    assert_same_knn(search(kind, held), want)
    assert_same_knn(search(kind, streamed.open(made[::-1], device="cpu")), want)


def test_ties_and_duplicates(tmp_path):
    rows = np.repeat(ROWS[:40], 12, axis=0)[np.random.default_rng(0).permutation(480)]
    index = build("ivf_flat", rows=rows)
    shards.save(tmp_path, index)
    held = streamed.open(tmp_path, device="cpu", block_bytes=1 << 12)
    got = search("ivf_flat", held, rows[:30], 20)
    assert_same_knn(got, search("ivf_flat", index, rows[:30], 20))


def test_batches_chunks_and_outputs(saved):
    folder, want = saved("ivf_pq")
    index = streamed.open(folder, device="cpu", block_bytes=9000)
    assert_same_knn(search("ivf_pq", index, [QUERIES[:7], QUERIES[7:]]), want)
    dists, ids = np.empty((60, 10), np.float32), np.empty((60, 10), np.int64)
    got = search("ivf_pq", index, neighbors=ids, distances=dists)
    assert got[1] is ids
    assert_same_knn((dists, ids), want)
    nothing = search("ivf_pq", index, QUERIES[:0])
    assert nothing[0].shape == (0, 10)


def test_only_probed_lists_are_read_and_each_once(saved, monkeypatch):
    folder, _ = saved("ivf_flat")
    index = streamed.open(folder, device="cpu", block_bytes=9000)
    read = []
    block = blocks.read_block

    def noted(sources, name, pieces, out):
        if name == "ids":
            read.extend(pieces)
        return block(sources, name, pieces, out)

    monkeypatch.setattr(blocks, "read_block", noted)
    params = ivf_flat.SearchParams(n_probes=3)
    streamed.search(params, index, QUERIES[:2], 5)
    assert len({piece.list for piece in read}) <= 6
    n_rows = sum(piece.stop - piece.start for piece in read)
    assert n_rows == sum(index.stored.sizes[l] for l in {piece.list for piece in read})
    read.clear()
    search("ivf_flat", index)
    assert sum(piece.stop - piece.start for piece in read) <= 1200


def test_searches_from_many_threads(saved):
    folder, want = saved("ivf_pq")
    index = streamed.open(folder, device="cpu", block_bytes=5000)

    def work(seed):
        order = np.random.default_rng(seed).permutation(60)
        for _ in range(3):
            got = search("ivf_pq", index, QUERIES[order])
            assert_same_knn(got, (want[0][order], want[1][order]))

    models.at_once(work)


@pytest.fixture
def device():
    with contextlib.ExitStack() as stack:
        made = emulated.EmulatedDevice(Fibers(checked=False), emulated.RTX)
        made.watched = True
        stack.enter_context(emulated.stands_in(made))
        yield made


@needs_fibers
@pytest.mark.parametrize("kind", SEARCH)
def test_on_a_device(saved, device, kind):
    """Rows pass through pinned memory; queries and results on the host or the device."""
    folder, want = saved(kind)
    index = streamed.open(folder, device="cuda", block_bytes=12_000)
    assert_same_knn(search(kind, index), want)
    assert 12_000 < device.pinned_bytes < 13_000
    got = search(kind, index, device.array(QUERIES))
    assert all(isinstance(part, DeviceArray) for part in got)
    assert_same_knn(emulated.to_host(got), want)
    assert device.pinned_bytes < 13_000, "the memory of the first search is used again"


def test_the_files_may_go_while_the_index_is_open(saved):
    folder, want = saved("ivf_flat")
    index = streamed.open(folder, device="cpu")
    distributed.rebalance_folder(folder, 2)
    assert_same_knn(search("ivf_flat", index), want)
    assert_same_knn(search("ivf_flat", streamed.open(folder, device="cpu")), want)


def test_damage_is_found_when_it_is_opened(saved):
    folder, _ = saved("ivf_flat")
    path = next(folder.glob("shard-*"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="must have the checksum of"):
        streamed.open(folder, device="cpu")
    assert len(streamed.open(folder, device="cpu", verify=False)) == 1200
    file = storage.StoredFile("test", path, "index")
    other = distributed.build_part("cosine", ROWS[:9], device="cpu")
    entry = distributed.write_shard(folder, other)
    (folder / entry.file).replace(file.path)
    with pytest.raises(ValueError, match="must be as the manifest says"):
        streamed.open(folder, device="cpu")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=4),
    st.integers(1, 30),
    st.sets(st.integers(0, 2)),
)
def test_blocks_hold_every_wanted_row_once(sizes, most, wanted):
    """sizes[s][l]: rows of list l in source s; row values say where they come from."""
    sources = []
    for s, own in enumerate(sizes):
        offsets = np.concatenate([[0], np.cumsum(own)])
        values = [1000 * l + 100 * s + i for l, n in enumerate(own) for i in range(n)]
        source = type("Fake", (), {})()
        source.offsets, data = offsets, np.array(values, np.int64)
        source.read = lambda _, at, out, data=data: out.__setitem__(..., data[at : at + len(out)])
        sources.append(source)
    total = np.sum(sizes, axis=0)
    got = {l: [] for l in range(3)}
    for block in blocks.cut(total, sorted(wanted), most):
        n = sum(piece.stop - piece.start for piece in block)
        assert 0 < n <= most
        assert len({piece.list for piece in block}) == len(block)
        out = np.full(n, -1, np.int64)
        blocks.read_block(sources, "ids", block, out)
        at = 0
        for piece in block:
            size = piece.stop - piece.start
            assert piece.stop - piece.start == total[piece.list] or total[piece.list] > most
            got[piece.list] += out[at : at + size].tolist()
            at += size
    for l in range(3):
        want = [1000 * l + 100 * s + i for s, own in enumerate(sizes) for i in range(own[l])]
        assert got[l] == (want if l in wanted else [])


ERRORS = {
    "k": (lambda i: streamed.search(SEARCH["ivf_flat"], i, QUERIES, 0), ValueError, "k must be at"),
    "dim": (
        lambda i: streamed.search(SEARCH["ivf_flat"], i, QUERIES[:, :4], 3),
        ValueError,
        r"streamed.search: queries must have shape \(n, 16\)",
    ),
    "kind": (
        lambda i: streamed.search(SEARCH["ivf_pq"], i, QUERIES, 3),
        TypeError,
        "search_params must be ivf_flat.SearchParams",
    ),
    "index": (
        lambda i: streamed.search(SEARCH["ivf_flat"], i.stored, QUERIES, 3),
        TypeError,
        "index must be streamed.StreamedIndex",
    ),
    "block": (
        lambda i: streamed.open([], block_bytes=1),
        ValueError,
        "block_bytes must be at least 4096",
    ),
    "nothing": (lambda i: streamed.open([]), ValueError, "shards must be at least one"),
    "no shard": (
        lambda i: streamed.open([i]),
        TypeError,
        "shard 0 must be a distributed.Shard, got StreamedIndex",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_messages(saved, case):
    call, kind, text = ERRORS[case]
    with pytest.raises(kind, match=text):
        call(streamed.open(saved("ivf_flat")[0], device="cpu"))


def test_independent_models_are_refused(tmp_path):
    params = ivf_flat.IndexParams(n_lists=4)
    shards.save(tmp_path, shards.build(params, ROWS, ["cpu"] * 2, scope="independent"))
    with pytest.raises(ValueError, match=r'must be of scope "shared", got "independent"; load it'):
        streamed.open(tmp_path, device="cpu")


def test_rows_of_two_kinds_are_refused():
    made = [
        distributed.build_part("cosine", rows, at, device="cpu")
        for rows, at in [(ROWS[:50], 0), (ROWS[:50].astype(np.float16), 50)]
    ]
    with pytest.raises(TypeError, match="shard 1 must have rows of float32"):
        streamed.open(made, device="cpu")


def test_it_is_described(saved):
    index = streamed.open(saved("ivf_pq")[0], device="cpu")
    want = "streamed.StreamedIndex(ivf_pq, 1,200 rows, dim 16, sqeuclidean, 3 shards, cpu)"
    assert repr(index) == want
    assert_same(index.stored.sizes.sum(), np.int64(1200))
