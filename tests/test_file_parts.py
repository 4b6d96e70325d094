"""Files in another number of parts: the same answers, and of each file every row is read once."""

import contextlib
import tracemalloc

import emulated
import numpy as np
import pytest
from compare import assert_same, assert_same_knn
from emu import Fibers
from engines import needs_fibers
from models import METRICS
from on_disk import KINDS, QUERIES, ROWS, folder, search

import gpuann
from gpuann import distributed, filters, ivf_flat, ivf_pq, refined, shards, storage, updates
from gpuann.distributed import file_parts, shard_file
from gpuann.distributed.shard import Shard

__all__ = ["folder"]  # a fixture
N_FILES = [1, 3]
IDS = np.random.default_rng(5).permutation(10_000)[: len(ROWS)]  # in no order


def saved(path, kind, n_files, ids=None, params=None):
    """Rows of a kind in one file or in a folder of several -> the index in one piece."""
    made = shards.build(params or KINDS[kind][0], ROWS, ["cpu"])
    ids = np.arange(len(ROWS)) if ids is None else ids
    models = made.models[0] or made.metric
    some = [
        distributed.build_part(models, ROWS[rows], ids[rows], device="cpu")
        for rows in np.array_split(np.arange(len(ROWS)), n_files)
    ]
    if n_files == 1:
        shard_file.save_shard(path, some[0])
    else:
        distributed.commit(path, [distributed.write_shard(path, one) for one in some])
    return shards.from_shards([distributed.merge(some)], ["cpu"])


@pytest.fixture
def read(monkeypatch):
    """Rows of (array, file) that are read, in the order of the parts."""
    found, rows, part = [], storage.StoredFile.read_rows, file_parts.FileParts.read

    def noted(file, name, row, out):
        if found and name in shard_file.ROWS:
            found[-1].setdefault((name, file.path.name), []).extend(range(row, row + len(out)))
        return rows(file, name, row, out)

    monkeypatch.setattr(storage.StoredFile, "read_rows", noted)
    monkeypatch.setattr(file_parts.FileParts, "read", lambda *args: found.append({}) or part(*args))
    return found


def refuse(*_):
    raise AssertionError("a whole array was touched")


@pytest.mark.parametrize("n_parts", [2, 5])
@pytest.mark.parametrize("n_files", N_FILES)
@pytest.mark.parametrize("kind", KINDS)
def test_each_row_is_read_by_one_part_and_no_other(
    folder, kind, n_files, n_parts, read, monkeypatch
):
    want = search(kind, saved(folder, kind, n_files, IDS))
    monkeypatch.setattr(storage.StoredFile, "map", refuse)
    monkeypatch.setattr(storage.StoredFile, "verify", refuse)
    loaded = shards.load(folder, ["cpu"] * n_parts, verify=False)
    assert_same_knn(search(kind, loaded), want)
    assert len(read) == n_parts
    sizes = [len(shard[0]) for shard in loaded.shards]
    assert max(sizes) - min(sizes) <= 1
    names = {name for part in read for name, _ in part}
    assert names == {"ids", "norms", "vectors", "scale", "codes"} & names
    for part, size in zip(read, sizes, strict=True):
        for name in names:
            assert sum(len(rows) for (n, _), rows in part.items() if n == name) == size
    for name in names:
        for file in {file for part in read for _, file in part}:
            every = sorted(row for part in read for row in part.get((name, file), []))
            assert every == list(range(len(every)))


@pytest.mark.parametrize("kind", KINDS)
def test_replicas_read_their_part_once(folder, kind, read):
    want = search(kind, saved(folder, kind, 1))
    loaded = shards.load(folder, ["cpu"] * 6, n_replicas=2)
    assert len(read) == 3
    assert_same_knn(search(kind, loaded), want)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n_files", N_FILES)
@pytest.mark.parametrize("kind", ["brute_force", "ivf_flat", "ivf_pq", "ivf_sq"])
def test_every_metric_filter_and_look_up(folder, kind, n_files, metric):
    params = metric if kind == "brute_force" else None
    if params is None:
        params = type(KINDS[kind][0])(n_lists=10, metric=metric)
    whole = saved(folder, kind, n_files, IDS, params)
    loaded = shards.load(folder, ["cpu"] * 4)
    asked = KINDS[kind][1]
    every = np.zeros((len(QUERIES), 10_000), bool)
    every[:, IDS] = np.random.default_rng(6).random((len(QUERIES), len(IDS))) < 0.3
    for only in (None, filters.from_ids(IDS[::3]), filters.from_ids(IDS[:4]), every):
        got, want = (
            shards.search(asked, index, QUERIES, 10, filter=only) for index in (loaded, whole)
        )
        assert_same_knn(got, want)
    radius = float(np.median(want[0][np.isfinite(want[0])]))
    within = [shards.range_search(asked, index, QUERIES, radius) for index in (loaded, whole)]
    for got, want in zip(*within, strict=True):
        assert_same(got, want)
    if kind != "brute_force":
        lists = np.random.default_rng(7).permuted(np.tile(np.arange(10), (30, 1)), axis=1)[:, :3]
        got, want = (
            shards.search_preassigned(asked, index, QUERIES, 5, lists) for index in (loaded, whole)
        )
        assert_same_knn(got, want)


@needs_fibers
@pytest.mark.parametrize("n_files", N_FILES)
@pytest.mark.parametrize("kind", KINDS)
def test_on_devices(folder, kind, n_files, read):
    want = search(kind, saved(folder, kind, n_files))
    with contextlib.ExitStack() as stack:
        for number, limits in enumerate((emulated.H200, emulated.RTX)):
            device = emulated.EmulatedDevice(Fibers(checked=False), limits, number)
            device.watched = True
            stack.enter_context(emulated.stands_in(device))
        loaded = shards.load(folder, ["cuda:0", "cuda:1"])
        assert len(read) == 2
        assert_same_knn(search(kind, loaded), want)
        mixed = shards.load(folder, ["cuda:1", "cpu", "cuda:0", "cpu"], n_replicas=2)
        assert_same_knn(search(kind, mixed), want)


@pytest.mark.parametrize("n_files", N_FILES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_loaded_is_saved_and_extended(tmp_path, kind, n_files):
    """In parts that share the range of ids: what follows has the answers of one index."""
    whole = saved(tmp_path / "old", kind, n_files)
    loaded = shards.load(tmp_path / "old", ["cpu"] * 4)
    assert loaded.next_id == whole.next_id == len(ROWS)
    shards.save(tmp_path / "new", loaded)
    assert_same(shards.extend(tmp_path / "new", ROWS[:9], device="cpu"), np.arange(700, 709))
    models = whole.models[0] or whole.metric
    rows = np.concatenate([ROWS, ROWS[:9]])
    want = search(kind, shards.from_shards([distributed.build_part(models, rows)], ["cpu"]))
    assert_same_knn(search(kind, shards.load(tmp_path / "new", ["cpu"] * 2)), want)
    with pytest.raises(ValueError, match="ids must be those of no other row"):
        shards.extend(tmp_path / "new", ROWS[:1], [350], device="cpu")
    distributed.rebalance_folder(tmp_path / "new", 3)
    assert_same_knn(search(kind, shards.load(tmp_path / "new", ["cpu"])), want)


@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_pq"])
def test_memory_is_that_of_a_part(tmp_path, kind):
    rows = np.random.default_rng(8).standard_normal((40_000, 64), dtype=np.float32)
    params = ivf_flat.IndexParams(n_lists=50, kmeans_n_iters=2)
    if kind == "ivf_pq":
        params = ivf_pq.IndexParams(n_lists=50, pq_dim=32, kmeans_n_iters=2)
    module = ivf_flat if kind == "ivf_flat" else ivf_pq
    module.save(tmp_path / "x.ann", module.build(params, rows, device="cpu"))
    size = (tmp_path / "x.ann").stat().st_size
    file = storage.StoredFile("test", tmp_path / "x.ann", "index")
    tracemalloc.start()
    try:
        parts = file_parts.FileParts("test", [file], 8)
        made = [len(parts.read(number)) for number in range(8)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert made == [5000] * 8
    assert peak < 0.2 * size, "an eighth, and the models"


def test_rows_are_dealt_evenly():
    rng = np.random.default_rng(9)
    for _ in range(200):
        sizes = rng.integers(0, 7, rng.integers(1, 20))
        n_parts = int(rng.integers(1, 9))
        ends = np.stack([file_parts.dealt(sizes, n_parts, p) for p in range(n_parts + 1)])
        assert_same(ends[0], np.zeros_like(sizes))
        assert_same(ends[-1], sizes)
        held = np.diff(ends, axis=0)
        assert held.min() >= 0
        assert (held.max(axis=0) - held.min(axis=0) <= 1).all(), "of every list"
        total = held.sum(axis=1)
        assert total.max() - total.min() <= 1, "and in all"


def test_what_is_damaged_or_of_another_kind_is_refused(tmp_path):
    index = ivf_flat.build(ivf_flat.IndexParams(n_lists=10), ROWS, device="cpu")
    path = tmp_path / "x.ann"
    ivf_flat.save(path, index)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"shards.load: .*x.ann must have the checksum of"):
        shards.load(path, ["cpu", "cpu"])
    shards.load(path, ["cpu", "cpu"], verify=False)  # the last byte is one of the rows'
    refined.save(path, refined.build(index, ROWS))
    with pytest.raises(ValueError, match="hold an index alone, got rows beside it; load it with g"):
        shards.load(path, ["cpu"])
    made = updates.as_shard(index)
    arrays = shard_file.arrays_of(made)
    for name, wrong, text in [
        ("ids", arrays["ids"] - 1, "negative ids"),
        ("ids", np.array(3), r"ids of shape \(\)"),
        ("norms", arrays["norms"][:-1], "norms of shape"),
        ("offsets", arrays["offsets"][:-1], "offsets of shape"),
        ("radius", arrays["radius"][None], "radius of shape"),
    ]:
        storage.write(path, "index", shard_file.about(made), arrays | {name: wrong})
        for load in (lambda: shards.load(path, ["cpu"] * 2), lambda: gpuann.load(path)):
            with pytest.raises(ValueError, match=f"must hold an index, got a damaged one: {text}"):
                load()
    storage.write(path, "index", shard_file.about(made), arrays)
    with pytest.raises(ValueError, match="devices must be at most the 700 rows, got 701"):
        shards.load(path, ["cpu"] * 701)


def test_files_of_other_models_are_no_index(tmp_path):
    """A manifest that says so does not make them one."""
    files = []
    for seed in range(2):
        params = ivf_flat.IndexParams(n_lists=10, seed=seed)
        path = tmp_path / str(seed)
        ivf_flat.save(path, ivf_flat.build(params, ROWS, device="cpu"))
        files.append(storage.StoredFile("test", path, "index"))
    with pytest.raises(ValueError, match=r"shard 1 must have the models .* of the first"):
        file_parts.FileParts("test", files, 3)


def test_a_head_has_all_but_rows(folder):
    saved(folder, "ivf_pq", 1)
    head = shard_file.read_head("test", storage.StoredFile("test", folder, "index"))
    assert isinstance(head, Shard)
    assert len(head) == 0
    assert head.next_id == len(ROWS)
    assert head.lists.offsets[-1] == len(ROWS)
