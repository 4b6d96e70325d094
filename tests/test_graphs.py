"""Small searches from graphs, on the emulated device: it records work and does it again.

A replay begins with memory that holds nothing of the recording, so an answer that is right was
computed by the recorded work, from the rows that were copied to it.
"""

import gc

import emulated
import models
import numpy as np
import pytest
from compare import assert_same
from device_arrays import DeviceArray
from emu import Fibers
from engines import needs_fibers

from bench.data import clustered
from gpuann import filters, ivf_pq, lookups, updates
from gpuann.engine import graphs

pytestmark = needs_fibers

ROWS, QUERIES = clustered(1500, 24, 140)
IVF = ["ivf_flat", "ivf_pq", "ivf_sq"]


@pytest.fixture
def device(monkeypatch):
    monkeypatch.setenv("GPUANN_GRAPHS", "1")
    with emulated.stands_in(emulated.EmulatedDevice(Fibers(checked=False))) as stand_in:
        stand_in.watched = True
        yield stand_in


def build(kind, metric="sqeuclidean", **more):
    return models.build(kind, ROWS, metric, n_lists=12, pq_dim=8, device="cuda", **more)


def ordinary(index, queries, k, **more):
    """The search without graphs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GPUANN_GRAPHS")
        return models.search(index, queries, k, **more)


def assert_equal(got, want):
    """To the bit."""
    (dists, ids), (want_dists, want_ids) = emulated.to_host(tuple(got)), emulated.to_host(want)
    assert_same(dists.view(np.uint32), want_dists.view(np.uint32))
    assert_same(ids, want_ids)


@pytest.mark.parametrize("metric", models.METRICS)
@pytest.mark.parametrize("kind", IVF)
def test_replayed_answers_are_the_ordinary_ones(device, kind, metric):
    index = build(kind, metric)
    for n, k in ((1, 10), (3, 1), (100, 10), (2, 1600)):
        for at in (0, 40):  # recorded and replayed; replayed with other rows
            queries, before = QUERIES[at : at + n], device.replays
            got = models.search(index, queries, k)
            assert device.replays == before + 1
            assert_equal(got, ordinary(index, queries, k))
            ordinary(index, QUERIES[::3], 5)  # something else in between


@pytest.mark.parametrize("more", [{"rotation": "random"}, {"pq_bits": 5}])
def test_turned_and_packed_codes(device, more):
    index = build("ivf_pq", "cosine", **more)
    for queries in (QUERIES[:5], QUERIES[70:75]):
        assert_equal(models.search(index, queries, 7), ordinary(index, queries, 7))
    assert device.replays == 2


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.uint8])
def test_rows_of_each_dtype_have_their_own_graph(device, dtype):
    index = build("ivf_flat")
    queries = np.clip(np.rint(QUERIES[:3] * 20 + 60), 0, 120).astype(dtype)
    for rows in (queries, QUERIES[:3]):
        assert_equal(models.search(index, rows, 5), ordinary(index, rows, 5))
    assert device.replays == 2


@pytest.mark.parametrize("kind", IVF)
def test_replays_touch_only_memory_that_is_theirs(device, kind):
    """The checked engine knows what is allocated, and what nobody holds any more."""
    index = build(kind)
    for n in (2, 70):
        models.search(index, QUERIES[:n], 5)
        gc.collect()
        device.engine = Fibers(checked=True)
        got = models.search(index, QUERIES[-n:], 5)
        device.engine = Fibers(checked=False)
        assert_equal(got, ordinary(index, QUERIES[-n:], 5))


def test_a_query_that_is_not_finite_finds_nothing(device):
    index, queries = build("ivf_pq"), QUERIES[:3].copy()
    queries[1, 2] = np.nan
    there = device.array(queries)
    models.search(index, device.array(QUERIES[:4]), 5)
    dists, ids = emulated.to_host(models.search(index, there, 5))
    assert (ids[1] == -1).all()
    assert np.isinf(dists[1]).all()
    assert_equal((dists, ids), ordinary(index, there, 5))


@pytest.mark.parametrize("kind", IVF)
def test_a_replay_waits_for_nothing_and_answers_where_the_queries_are(device, kind):
    index, queries = build(kind), device.array(QUERIES[:5])
    want = ordinary(index, queries, 10)
    waits = device.waits
    for _ in range(2):
        got = models.search(index, queries, 10)
        assert all(isinstance(part, DeviceArray) for part in got)
    assert device.waits == waits
    assert_equal(got, want)


def test_results_are_the_callers_own(device):
    index = build("ivf_flat")
    first = models.search(index, device.array(QUERIES[:2]), 5)
    kept = emulated.to_host(first)
    models.search(index, device.array(QUERIES[2:4]), 5)
    assert_equal(first, kept)


@pytest.mark.parametrize("kind", IVF)
def test_threads_take_turns(device, kind):
    index = build(kind)
    parts = [QUERIES[at : at + 1 + at % 3] for at in range(0, 24, 3)]
    want = [ordinary(index, part, 6) for part in parts]

    def work(seed):
        for number in np.random.default_rng(seed).permutation(len(parts)).tolist():
            assert_equal(models.search(index, parts[number], 6), want[number])

    models.at_once(work)
    assert device.replays == 4 * len(parts)


def test_other_rows_other_graph(device):
    index = build("ivf_flat")
    models.search(index, QUERIES[:2], 5)
    grown = updates.extend(index, QUERIES[:2])
    assert graphs.n_bytes(grown.core) == 0
    dists, ids = models.search(grown, QUERIES[:2], 5)
    assert ids[:, 0].tolist() == [len(ROWS), len(ROWS) + 1]
    assert (dists[:, 0] == 0).all()
    assert_equal(models.search(index, QUERIES[:2], 5), ordinary(index, QUERIES[:2], 5))


def test_those_used_longest_ago_make_room(device, monkeypatch):
    monkeypatch.setattr(graphs, "MOST_GRAPHS", 2)
    index = build("ivf_flat")

    def launched(k):
        before = len(device.launches)
        assert_equal(models.search(index, QUERIES[:2], k), want[k])
        return len(device.launches) - before

    want = {k: ordinary(index, QUERIES[:2], k) for k in (3, 4, 5)}
    assert all(launched(k) for k in (3, 4)), "recorded"
    assert launched(3) == 0
    assert launched(5), "in the place of 4"
    assert launched(3) == 0
    assert launched(4), "recorded again"


def test_their_memory_counts_and_goes_with_the_index(device):
    index = build("ivf_pq")
    alone = index.nbytes
    models.search(index, QUERIES[:2], 5)
    held = graphs.n_bytes(index.core)
    assert held > 2 * (24 * 4 + 5 * 12), "rows, results, tables"
    assert index.nbytes == alone + held
    del index
    gc.collect()
    assert not graphs._of


def test_the_ordinary_search_serves_everything_else(device, monkeypatch):
    index = build("ivf_pq")
    chosen = np.arange(10).reshape(2, 5)
    params = ivf_pq.SearchParams(n_probes=4)
    models.search(index, QUERIES[:2], 5, filter=filters.from_mask(np.arange(len(ROWS)) % 2 == 0))
    models.search(index, QUERIES[:129], 5)
    models.search(index, QUERIES[:0], 5)
    lookups.range_search(params, index, QUERIES[:2], 1.0)
    lookups.search_preassigned(params, index, QUERIES[:2], 5, chosen)
    with monkeypatch.context() as patch:
        patch.setenv("GPUANN_SYNC", "1")
        models.search(index, QUERIES[:2], 5)
    with monkeypatch.context() as patch:
        patch.setenv("GPUANN_GRAPHS", "0")
        models.search(index, QUERIES[:2], 5)
    small = ivf_pq.SearchParams(n_probes=4, workspace_limit=1 << 27)
    object.__setattr__(index.backend, "bytes_per_query", 1 << 19)
    ivf_pq.search(small, index, QUERIES[:128], 5)
    assert device.replays == 0
    assert graphs.n_bytes(index.core) == 0
    ivf_pq.search(small, index, QUERIES[:64], 5)
    assert device.replays == 1, "half of them fit"


def test_a_search_that_is_being_captured_is_part_of_that(device):
    index, want = build("ivf_flat"), None

    def work(x):
        return models.search(index, x, 5)

    recorded = device.record(work, (3, 24), np.dtype(np.float32))
    replays = device.replays
    recorded.given.host[...] = QUERIES[:3]
    recorded.launch()
    assert device.replays == replays + 1, "no graph within a graph"
    want = ordinary(index, QUERIES[:3], 5)
    assert_equal(recorded.found, want)


def test_what_waits_cannot_be_recorded(device):
    index = build("ivf_flat")
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        device.record(lambda x: x.get(), (3, 24), np.dtype(np.float32))
    with pytest.raises(RuntimeError, match="host memory may not be read"):
        device.record(lambda _: models.search(index, QUERIES[:2], 5), (1, 1), np.dtype(np.float32))


def test_a_cpu_has_no_graphs(monkeypatch):
    monkeypatch.setenv("GPUANN_GRAPHS", "1")
    index = models.build("ivf_flat", ROWS, n_lists=12, device="cpu")
    models.search(index, QUERIES[:2], 5)
    assert graphs.n_bytes(index.core) == 0


# what a search of n queries launches: kernels of ours, and with the array module's work, each a
# launch of its own on a GPU
COUNTS = {
    ("ivf_flat", 1): (4, 6),
    ("ivf_flat", 100): (6, 8),
    ("ivf_pq", 1): (5, 10),
    ("ivf_pq", 100): (7, 12),
    ("ivf_sq", 1): (4, 8),
    ("ivf_sq", 100): (6, 10),
}


@pytest.mark.parametrize(("kind", "n"), COUNTS)
def test_launches_of_a_search(device, kind, n):
    """A replay is one beside the copies of the rows and the two results."""
    index = models.build(kind, ROWS, n_lists=300, pq_dim=8, device="cuda")
    queries = device.array(QUERIES[:n])
    before = len(device.launches)
    ordinary(index, queries, 10, n_probes=4)
    ours = len(device.launches) - before
    models.search(index, queries, 10, n_probes=4)  # recorded
    assert (ours, device.nodes) == COUNTS[kind, n]
    before, made, replays = len(device.launches), device.made, device.replays
    models.search(index, queries, 10, n_probes=4)
    assert len(device.launches) == before
    assert (device.made - made, device.replays - replays) == (2, 1)
