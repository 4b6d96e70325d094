"""The library on a real CUDA device: `GPUANN_REQUIRE_GPU=1 pytest -m gpu`, with `test_cuda_ops`.

What the emulated device cannot show: real arrays, streams, threads and capture. These tests have
been written without a GPU; the README says whether they have run on one.
"""

import models
import numpy as np
import pytest
from compare import assert_same_knn
from engines import needs_gpu

import gpuann
from bench.data import clustered
from gpuann import ivf_flat, ivf_pq, kmeans, shards, streamed
from gpuann.cuda import devices

pytestmark = [needs_gpu, pytest.mark.gpu]

ROWS, QUERIES = clustered(20_000, 96, 500)


@pytest.fixture(scope="module")
def cupy():
    return devices.get(0).xp


@pytest.mark.parametrize("metric", models.METRICS)
@pytest.mark.parametrize("kind", models.KINDS)
def test_build_and_search_equal_numpy(kind, metric):
    want = models.build(kind, ROWS, metric, n_lists=64, pq_dim=48, device="cpu")
    got = models.build(kind, ROWS, metric, n_lists=64, pq_dim=48, device="cuda")
    for k, n in ((10, 500), (10, 3), (100, 50)):
        answer = models.search(got, QUERIES[:n], k, n_probes=8)
        assert_same_knn(answer, models.search(want, QUERIES[:n], k, n_probes=8))


@pytest.mark.parametrize("kind", models.KINDS)
def test_device_queries_give_device_results(cupy, kind):
    index = models.build(kind, ROWS, n_lists=64, pq_dim=48, device="cuda")
    want = models.search(index, QUERIES, 10)
    got = models.search(index, cupy.asarray(QUERIES), 10)
    assert all(isinstance(part, cupy.ndarray) for part in got)
    assert_same_knn([part.get() for part in got], want)


@pytest.mark.parametrize("kind", models.KINDS)
@pytest.mark.parametrize("n", [2, 500])
def test_a_search_can_be_captured(cupy, kind, n):
    """Anything that waits for the device raises while a stream is captured."""
    index = models.build(kind, ROWS, n_lists=64, pq_dim=48, device="cuda")
    queries = cupy.asarray(QUERIES[:n])
    want = models.search(index, queries, 10)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        models.search(index, queries, 10)  # memory pools and scratch are warm
        stream.synchronize()
        stream.begin_capture()
        got = models.search(index, queries, 10)
        graph = stream.end_capture()
        graph.launch(stream)
    stream.synchronize()
    assert_same_knn([part.get() for part in got], [part.get() for part in want])


@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_pq", "ivf_sq"])
def test_replayed_searches_equal_ordinary_ones(cupy, monkeypatch, kind):
    """On streams of several threads, between searches of other sizes, without waiting."""
    index = models.build(kind, ROWS, "cosine", n_lists=64, pq_dim=48, device="cuda")
    want = models.search(index, QUERIES, 10)
    monkeypatch.setenv("GPUANN_GRAPHS", "1")

    def work(seed):
        rng = np.random.default_rng(seed)
        with cupy.cuda.Stream(non_blocking=True) as stream:
            found = []
            for n in rng.integers(1, 129, 50).tolist():
                at = int(rng.integers(0, len(QUERIES) - n))
                queries = cupy.asarray(QUERIES[at : at + n])
                found.append((at, n, models.search(index, queries, 10)))
                models.search(index, queries, int(rng.integers(1, 12)))  # 96 graphs: some make room
            stream.synchronize()
        for at, n, got in found:
            assert_same_knn([part.get() for part in got], [part[at : at + n] for part in want])

    models.at_once(work)


def test_streams_and_threads_do_not_meet(cupy):
    index = models.build("ivf_flat", ROWS, n_lists=64, device="cuda")
    want = models.search(index, QUERIES, 10)

    def work(seed):
        stream = cupy.cuda.Stream(non_blocking=True)
        order = np.random.default_rng(seed).permutation(len(QUERIES))
        with stream:
            for _ in range(20):
                got = models.search(index, cupy.asarray(QUERIES[order]), 10)
                stream.synchronize()
                assert_same_knn([part.get() for part in got], [part[order] for part in want])

    models.at_once(work)


@pytest.mark.parametrize("kind", models.KINDS)
def test_batches_on_two_streams_are_one_search(kind):
    index = models.build(kind, ROWS, n_lists=64, pq_dim=48, device="cuda")
    want = models.search(index, QUERIES, 10)
    params = None if kind == "brute_force" else getattr(gpuann, kind).SearchParams(n_probes=4)
    batches = np.array_split(QUERIES, 17)
    found = list(getattr(gpuann, kind).search_batches(params, index, batches, 10))
    assert_same_knn([np.concatenate(part) for part in zip(*found, strict=True)], want)


def test_a_search_between_torchs_work(cupy):
    """On torch's stream, by DLPack, without a copy to the host."""
    torch = pytest.importorskip("torch")
    index = models.build("ivf_pq", ROWS, n_lists=64, pq_dim=48, device="cuda")
    want = models.search(index, QUERIES, 10)
    values = torch.arange(len(ROWS), device="cuda") * 2
    with torch.cuda.stream(torch.cuda.Stream()):
        x = torch.from_numpy(QUERIES).to("cuda", non_blocking=True) + 0.0
        with cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream):
            _, ids = models.search(index, x, 10)
            picked = values[torch.from_dlpack(ids)]
        found = picked.cpu().numpy()
    assert (found == 2 * want[1]).all()


def test_filters_codes_and_rotations_equal_numpy(cupy):
    kept = np.random.default_rng(0).random(len(ROWS)) < 0.3
    for kind, more in (
        ("ivf_sq", {}),
        ("ivf_pq", {"pq_dim": 40, "pq_bits": 5}),
        ("ivf_pq", {"pq_dim": 24, "rotation": "opq"}),
    ):
        pair = [models.build(kind, ROWS, n_lists=64, device=d, **more) for d in ("cpu", "cuda")]
        for keep in (None, kept, kept & (np.arange(len(ROWS)) % 50 == 0)):
            want, got = (models.search(index, QUERIES, 10, filter=keep) for index in pair)
            assert_same_knn(got, want)


def test_kmeans_and_refine_equal_numpy(cupy, rng):
    params = kmeans.KMeansParams(n_clusters=50, max_iter=8, tol=0.0)
    want, got = (kmeans.fit(params, ROWS, device=d) for d in ("cpu", "cuda"))
    assert (want[0] == got[0]).all()
    candidates = rng.integers(-1, len(ROWS), (len(QUERIES), 100))
    for metric in models.METRICS:
        want = gpuann.refine(ROWS, QUERIES, candidates, 10, metric, device="cpu")
        there = [cupy.asarray(a) for a in (ROWS, QUERIES, candidates)]
        got = gpuann.refine(*there, 10, metric, device="cuda")
        assert_same_knn([part.get() for part in got], want)
        got = gpuann.refine(ROWS, QUERIES, candidates, 10, metric, device="cuda")
        assert_same_knn(got, want)


@pytest.mark.parametrize("devices", [["cuda", "cuda"], ["cuda", "cpu"]])
@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_pq"])
def test_partitions_and_streams_of_lists_equal_numpy(cupy, tmp_path, kind, devices):
    module = ivf_flat if kind == "ivf_flat" else ivf_pq
    more = {} if kind == "ivf_flat" else {"pq_dim": 48, "kmeans_n_iters": 4}
    params, probe = module.IndexParams(n_lists=64, **more), module.SearchParams(n_probes=8)
    single = module.build(params, ROWS, device="cpu")
    want = module.search(probe, single, QUERIES, 10)
    index = shards.build(params, ROWS, devices)
    assert_same_knn(shards.search(probe, index, QUERIES, 10), want)
    shards.save(tmp_path, index)
    streamed_index = streamed.open(tmp_path, device="cuda", block_bytes=1 << 20)
    for _ in range(3):
        assert_same_knn(streamed.search(probe, streamed_index, QUERIES, 10), want)
    got = streamed.search(probe, streamed_index, cupy.asarray(QUERIES), 10)
    assert_same_knn([part.get() for part in got], want)
