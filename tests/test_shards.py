"""Partitions give the single index' answer, bit for bit; replicas, failures, device arrays."""

import contextlib
import weakref

import emulated
import models
import numpy as np
import pytest
from compare import assert_same, assert_same_knn
from device_arrays import DeviceArray
from emu import Fibers
from engines import needs_fibers

from bench.data import clustered
from gpuann import BackendError, ivf_flat, ivf_pq, shards
from gpuann.backends import Backend
from gpuann.partitioned import sharded
from gpuann.partitioned.partitions import Partition

ROWS, QUERIES = clustered(1200, 16, 60)
KINDS = {
    "brute_force": (lambda metric: metric, None),
    "ivf_flat": (
        lambda metric: ivf_flat.IndexParams(n_lists=12, metric=metric),
        ivf_flat.SearchParams(n_probes=4),
    ),
    "ivf_pq": (
        lambda metric: ivf_pq.IndexParams(n_lists=12, metric=metric, pq_dim=8, kmeans_n_iters=4),
        ivf_pq.SearchParams(n_probes=4),
    ),
}


def build(kind, devices, rows=ROWS, metric="sqeuclidean", **more):
    return shards.build(KINDS[kind][0](metric), rows, devices, **more)


def search(kind, index, queries=QUERIES, k=10, **more):
    return shards.search(KINDS[kind][1], index, queries, k, **more)


def single(kind, rows=ROWS, metric="sqeuclidean", queries=QUERIES, k=10):
    index = models.build(kind, rows, metric, n_lists=12, pq_dim=8, device="cpu")
    return models.search(index, queries, k, n_probes=4)


@pytest.mark.parametrize("n_shards", [1, 2, 5])
@pytest.mark.parametrize("metric", models.METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_partitions_is_the_single_index(kind, metric, n_shards):
    index = build(kind, ["cpu"] * n_shards, metric=metric)
    assert len(index) == len(ROWS)
    for k in (1, 10, 700):
        got = search(kind, index, k=k)
        assert_same_knn(got, single(kind, metric=metric, k=k))


@pytest.mark.parametrize("kind", KINDS)
def test_ties_between_partitions_go_to_the_smaller_id(kind):
    rows = np.repeat(ROWS[:40], 12, axis=0)[np.random.default_rng(0).permutation(480)]
    index = build(kind, ["cpu"] * 3, rows)
    want = single(kind, rows, queries=rows[:30], k=20)
    assert_same_knn(search(kind, index, rows[:30], 20), want)


@pytest.mark.parametrize(("n_devices", "n_replicas"), [(3, 3), (6, 2), (6, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_replicas(kind, n_devices, n_replicas):
    index = build(kind, ["cpu"] * n_devices, n_replicas=n_replicas)
    assert [len(replicas) for replicas in index.shards] == [n_replicas] * (n_devices // n_replicas)
    assert len(index) == len(ROWS)
    for n in (1, 2, 60):
        want = single(kind, queries=QUERIES[:n])
        assert_same_knn(search(kind, index, QUERIES[:n]), want)


def test_a_batch_is_cut_over_replicas_and_a_lone_query_goes_to_the_idle_one(monkeypatch):
    index = build("ivf_flat", ["cpu"] * 3, n_replicas=3)
    sizes = {}
    scan = Partition.scan

    def noted(partition, queries, *more):
        sizes[id(partition)] = len(queries)
        return scan(partition, queries, *more)

    monkeypatch.setattr(Partition, "scan", noted)
    search("ivf_flat", index)
    assert sorted(sizes.values()) == [20, 20, 20]
    sizes.clear()
    for replica in index.shards[0][:2]:
        replica._waiting[0] += 5
    search("ivf_flat", index, QUERIES[:1])
    assert list(sizes) == [id(index.shards[0][2])]
    assert [replica.busy for replica in index.shards[0]] == [5, 5, 0], "given back when answered"


@pytest.mark.parametrize("metric", models.METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_partitions_of_a_device_bound_the_next(monkeypatch, kind, metric):
    """The second is told how far the k-th of the first is; zero queries and ties included."""
    told = []
    scan = Partition.scan

    def noted(partition, *arguments):
        told.append(arguments[-1])
        return scan(partition, *arguments)

    monkeypatch.setattr(Partition, "scan", noted)
    queries = np.concatenate([QUERIES[:20], np.zeros((1, 16), np.float32)])
    index = build(kind, ["cpu"] * 2, metric=metric)
    got = search(kind, index, queries, 4)
    assert_same_knn(got, single(kind, metric=metric, queries=queries, k=4))
    assert told[0] is None
    assert told[1].shape == (21,)
    assert np.isfinite(told[1]).any()


def test_chunks_of_rows_and_of_queries():
    want = single("ivf_pq")
    chunks = [ROWS[:7], ROWS[7:900], ROWS[900:]]
    for data in (chunks, lambda: iter(chunks), iter(chunks)):
        index = build("ivf_pq", ["cpu"] * 4, data)
        assert_same_knn(search("ivf_pq", index), want)
    got = search("ivf_pq", index, [QUERIES[:5], QUERIES[5:]])
    assert_same_knn(got, want)


def test_outputs_are_filled():
    index = build("brute_force", ["cpu", "cpu"])
    dists, ids = np.empty((60, 10), np.float32), np.empty((60, 10), np.int64)
    got = search("brute_force", index, neighbors=ids, distances=dists)
    assert got[0] is dists
    assert_same_knn((dists, ids), single("brute_force"))


def test_searches_from_many_threads():
    index = build("ivf_flat", ["cpu"] * 4, n_replicas=2)
    want = single("ivf_flat")

    def work(seed):
        order = np.random.default_rng(seed).permutation(60)
        for _ in range(5):
            got = search("ivf_flat", index, QUERIES[order])
            assert_same_knn(got, (want[0][order], want[1][order]))

    models.at_once(work)


@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_pq"])
def test_given_quantisers(kind):
    one = models.build(kind, ROWS, n_lists=12, pq_dim=8, device="cpu")
    given = {"centers": one.centers}
    if kind == "ivf_pq":
        given["pq_centers"] = one.pq_centers
    index = build(kind, ["cpu"] * 3, **given)
    module = ivf_flat if kind == "ivf_flat" else ivf_pq
    params = KINDS[kind][0]("sqeuclidean")
    precomputed = module.build_precomputed(params, ROWS, *given.values(), device="cpu")
    want = models.search(precomputed, QUERIES, 10, n_probes=4)
    assert_same_knn(search(kind, index), want)


def test_independent_models_cover_their_own_rows():
    """Probing every list is exact whatever the models; few probes are not the single index."""
    index = build("ivf_flat", ["cpu"] * 3, scope="independent")
    every = shards.search(ivf_flat.SearchParams(n_probes=12), index, QUERIES, 10)
    assert_same_knn(every, single("brute_force"))
    centers = [replicas[0].part.coarse.centers for replicas in index.shards]
    assert (centers[0] != centers[1]).any()
    shared = build("ivf_flat", ["cpu"] * 3)
    centers = [replicas[0].part.coarse.centers for replicas in shared.shards]
    assert_same(centers[0], centers[1])


@pytest.mark.parametrize("kind", KINDS)
def test_zero_queries_under_cosine_have_the_single_index_answer(kind):
    """All rows are as far: what is left of order is rounding, which a merge must not disturb."""
    queries = np.zeros((3, 16), np.float32)
    queries[1] = 1e-41  # too short for a direction
    queries[2] = 1e-30
    for seed in range(5):
        rows = np.random.default_rng(seed).standard_normal((60, 16), dtype=np.float32)
        index = build(kind, ["cpu"] * 3, rows, metric="cosine")
        got = search(kind, index, queries, 5)
        assert_same_knn(got, single(kind, rows, metric="cosine", queries=queries, k=5))
        assert kind == "ivf_pq" or (np.abs(got[0][:2] - 1) < 1e-6).all()


def test_independent_partitions_are_trained_once_each(monkeypatch):
    trained = []
    train = shards.training.train
    monkeypatch.setattr(
        shards.training, "train", lambda *a, **k: trained.append(1) or train(*a, **k)
    )
    index = build("ivf_flat", ["cpu"] * 4, n_replicas=2, scope="independent")
    assert len(trained) == 2
    for own, replicas in zip(index.models, index.shards, strict=True):
        for replica in replicas:
            assert_same(replica.part.coarse.centers, own.centers)


@pytest.fixture
def pair():
    """Two emulated devices: cuda:0 and cuda:1, of different sizes."""
    with contextlib.ExitStack() as stack:
        made = [
            emulated.EmulatedDevice(Fibers(checked=False), limits, number)
            for number, limits in enumerate((emulated.H200, emulated.RTX))
        ]
        for device in made:
            device.watched = True
            stack.enter_context(emulated.stands_in(device))
        yield made


@needs_fibers
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "devices", [["cuda:0", "cuda:1"], ["cuda:0", "cuda:0"], ["cuda:1", "cpu", "cuda:0"]]
)
def test_devices_and_mixtures(pair, kind, devices):
    index = build(kind, devices)
    assert index.devices == [[device] for device in devices]
    for n in (2, 60):
        got = search(kind, index, QUERIES[:n])
        assert isinstance(got[0], np.ndarray)
        assert_same_knn(got, single(kind, queries=QUERIES[:n]))
    for number, device in enumerate(pair):
        partitions = devices.count(f"cuda:{number}")
        assert device.streams == bool(partitions), "a stream for each device"
        assert bool(device.launches) == bool(partitions)


@needs_fibers
def test_device_queries_and_outputs(pair):
    index = build("ivf_pq", ["cuda:0", "cuda:1"])
    queries = pair[0].array(QUERIES)
    want = single("ivf_pq")
    got = search("ivf_pq", index, queries)
    assert all(isinstance(part, DeviceArray) for part in got)
    assert_same_knn(emulated.to_host(got), want)
    dists, ids = pair[0].empty((60, 10), np.float32), pair[0].empty((60, 10), np.int64)
    assert search("ivf_pq", index, queries, neighbors=ids, distances=dists)[1] is ids
    assert_same(ids.host, want[1])
    with pytest.raises(TypeError, match="neighbors must be a device array"):
        search("ivf_pq", index, queries, neighbors=np.empty((60, 10), np.int64))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ValueError, match="must have shape"):
        patch.setattr(sharded, "search", lambda *_: pytest.fail("searched before it was checked"))
        search("ivf_pq", index, queries, neighbors=pair[0].empty((60, 9), np.int64))


@needs_fibers
@pytest.mark.parametrize("kind", KINDS)
def test_a_part_is_finished_when_it_is_returned(pair, kind, monkeypatch):
    """It may be searched on another stream: the wait is the last thing that a build does."""
    steps = []

    def note(owner, name, step):
        plain = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args: steps.append(step) or plain(*args))

    note(Backend, "put", "work")
    note(Backend, "synchronize", "wait")
    note(DeviceArray, "__getitem__", "work")
    index = build(kind, ["cuda:0"])
    assert "work" in steps
    assert steps[-1] == "wait"
    assert len(index) == len(ROWS)


@needs_fibers
def test_a_lost_device_is_named_and_the_others_go_on(pair, monkeypatch):
    index = build("ivf_flat", ["cuda:0", "cuda:1"])
    run = emulated.EmulatedDevice.run

    def lost(device, *more):
        if device.number == 1:
            raise RuntimeError("the device fell off the bus")
        return run(device, *more)

    monkeypatch.setattr(emulated.EmulatedDevice, "run", lost)
    with pytest.raises(BackendError, match=r"lists on cuda:1 must answer, got RuntimeError"):
        search("ivf_flat", index)
    assert all(replica.busy == 0 for replicas in index.shards for replica in replicas)
    with pytest.raises(BackendError, match=r"shards.build: partition 1 on cuda:1 must answer"):
        build("ivf_flat", ["cuda:0", "cuda:1"])
    monkeypatch.undo()
    assert_same_knn(search("ivf_flat", index), single("ivf_flat"))


def test_out_of_memory_while_building_names_the_device(monkeypatch):
    from gpuann.indexes import brute_force as module

    part, kept = module.build_part, []

    def full(backend, rows, how, ids):
        if ids[0] > 0:
            raise MemoryError("no room")
        made = part(backend, rows, how, ids)
        kept.append(weakref.ref(made))
        return made

    monkeypatch.setattr(module, "build_part", full)
    with pytest.raises(BackendError, match=r"shards.build: partition 1 on cpu .* MemoryError"):
        build("brute_force", ["cpu", "cpu"])
    assert [ref() for ref in kept] == [None], "the other partition is let go of"


ERRORS = {
    "no devices": (lambda: build("ivf_flat", []), ValueError, "devices must be a list of devices"),
    "one name": (
        lambda: build("ivf_flat", "cpu"),
        ValueError,
        "be a list of devices, as .* got 'cpu'",
    ),
    "replicas": (
        lambda: build("ivf_flat", ["cpu"] * 3, n_replicas=2),
        ValueError,
        "the number of devices must be a multiple of n_replicas=2, got 3",
    ),
    "no replicas": (lambda: build("ivf_flat", ["cpu"], n_replicas=0), ValueError, "at least 1"),
    "scope": (lambda: build("ivf_flat", ["cpu"], scope="own"), ValueError, "scope must be one of"),
    "device": (lambda: build("ivf_flat", ["cpu", "tpu"]), ValueError, 'must be "cpu", "cuda"'),
    "metric": (lambda: shards.build("l2", ROWS, ["cpu"]), ValueError, "metric must be one of"),
    "params": (lambda: shards.build(3, ROWS, ["cpu"]), TypeError, "index_params must be"),
    "more shards than rows": (
        lambda: shards.build("cosine", ROWS[:2], ["cpu"] * 3),
        ValueError,
        "devices must be at most the 2 rows, got 3",
    ),
    "wrong search params": (
        lambda: shards.search(
            ivf_pq.SearchParams(), build("ivf_flat", ["cpu"], ROWS[:50]), QUERIES, 3
        ),
        TypeError,
        "search_params must be",
    ),
    "dim": (
        lambda: search("brute_force", build("brute_force", ["cpu"]), QUERIES[:, :5]),
        ValueError,
        r"shards.search: queries must have shape \(n, 16\), got \(60, 5\)",
    ),
    "k": (
        lambda: search("brute_force", build("brute_force", ["cpu"]), k=0),
        ValueError,
        "k must be at least 1",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_messages(case):
    call, kind, text = ERRORS[case]
    with pytest.raises(kind, match=text):
        call()


def test_a_shard_is_described():
    assert repr(build("brute_force", ["cpu", "cpu"])) == (
        "shards.ShardedIndex(1,200 rows, dim 16, sqeuclidean, [['cpu'], ['cpu']])"
    )
