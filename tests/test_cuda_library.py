"""The whole library on the emulated device: the host code that a GPU will run, NumPy's answers.

Builds equal NumPy's to the last bit (labels, sums and codes are exact there), so searches are
compared with those of the NumPy index of the same parameters.
"""

import emulated
import models
import numpy as np
import pytest
import strategies
from compare import assert_close, assert_same, assert_same_knn
from device_arrays import DeviceArray
from emu import Fibers
from engines import needs_fibers

import gpuann
from bench.data import clustered
from gpuann import backends, brute_force, filters, ivf_flat, ivf_pq, kmeans
from gpuann.backends import cuda_ops
from gpuann.codecs import opq
from gpuann.engine import plan

pytestmark = needs_fibers

ROWS, QUERIES = clustered(1500, 24, 40)


@pytest.fixture
def device(request):
    """Checked, but for tests that say "fast" because they are long."""
    checked = getattr(request, "param", "checked") == "checked"
    with emulated.stands_in(emulated.EmulatedDevice(Fibers(checked))) as stand_in:
        stand_in.watched = True
        yield stand_in


fast = pytest.mark.parametrize("device", ["fast"], indirect=True)


def on(device, host):
    """A host array as a device array of the user's."""
    return device.array(np.ascontiguousarray(host))


@pytest.mark.parametrize("metric", models.METRICS)
@pytest.mark.parametrize("kind", models.KINDS)
def test_build_and_search_equal_numpy(device, kind, metric):
    want = models.build(kind, ROWS, metric, n_lists=12, pq_dim=8, device="cpu")
    got = models.build(kind, ROWS, metric, n_lists=12, pq_dim=8, device="cuda")
    assert got.device == "cuda:0"
    for k, n in ((10, 40), (3, 2), (60, 7)):
        answer = models.search(got, QUERIES[:n], k)
        assert isinstance(answer[0], np.ndarray), "host queries give host results"
        assert_same_knn(answer, models.search(want, QUERIES[:n], k))


@pytest.mark.parametrize("kind", models.KINDS)
def test_an_index_is_the_same_bytes(device, kind):
    """All but what only filters: norms and radius are sums in the array module's own order."""
    want = models.build(kind, ROWS, n_lists=12, pq_dim=8, device="cpu")
    got = models.build(kind, ROWS, n_lists=12, pq_dim=8, device="cuda")
    parts = ("payload", "lists") if kind == "brute_force" else ("payload", "lists", "coarse")
    for part in parts:
        ours = getattr(got if kind == "brute_force" else got.core, part)
        theirs = getattr(want if kind == "brute_force" else want.core, part)
        for name, a, b in zip(ours._fields, ours, theirs, strict=True):
            if name == "halves":  # of the device alone
                assert b is None
                assert (a is None) == (kind == "ivf_pq" and part == "payload")
            elif name in ("norms", "radius"):
                assert_close(a.host, b, rtol=1e-6, atol=0)
            elif isinstance(b, np.ndarray):
                assert_same(a.host, b)
            else:
                assert (a is None) == (b is None), name


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.uint8])
def test_stored_dtypes(device, dtype):
    rows = np.clip(np.rint(ROWS * 20 + 60), 0, 120).astype(dtype)
    for kind in models.KINDS:
        want = models.build(kind, rows, n_lists=5, pq_dim=6, device="cpu")
        got = models.build(kind, rows, n_lists=5, pq_dim=6, device="cuda")
        answer = models.search(got, rows[:9], 5)
        assert_same_knn(answer, models.search(want, rows[:9], 5))


def test_data_far_from_the_origin(device):
    rows = ROWS + np.float32(100)
    for kind in models.KINDS:
        want = models.build(kind, rows, n_lists=6, pq_dim=8, device="cpu")
        got = models.build(kind, rows, n_lists=6, pq_dim=8, device="cuda")
        assert_same_knn(models.search(got, rows[:20], 5), models.search(want, rows[:20], 5))


@pytest.mark.parametrize("kind", models.KINDS)
def test_split_batches_and_paths_equal_one(device, kind):
    index = models.build(kind, ROWS, n_lists=12, pq_dim=8, device="cuda")
    want = models.search(index, QUERIES, 10)
    entries = {launch.entry for launch in device.launches}
    parts = [models.search(index, part, 10) for part in np.split(QUERIES, [1, 3, 20])]
    assert_same_knn([np.concatenate(p) for p in zip(*parts, strict=True)], want)
    small = {launch.entry for launch in device.launches} - entries
    if kind == "ivf_flat":
        assert "scan_queries" in small, "small batches took the same path as large ones"


@pytest.mark.parametrize("bits", [4, 7])
def test_packed_codes_are_those_of_the_cpu(device, bits):
    shape = {"n_lists": 12, "pq_dim": 7, "pq_bits": bits}
    there = models.build("ivf_pq", ROWS, **shape, device="cuda")
    here = models.build("ivf_pq", ROWS, **shape, device="cpu")
    assert_same(there.core.payload.codes.get(), here.core.payload.codes)
    for queries in (QUERIES, QUERIES[:2]):
        assert_same_knn(models.search(there, queries, 10), models.search(here, queries, 10))


@pytest.mark.parametrize("rotation", ["random", "opq"])
def test_turned_rows_are_those_of_the_cpu(device, monkeypatch, rotation):
    monkeypatch.setattr(opq, "N_ITERS", 2)
    shape = {"n_lists": 12, "pq_dim": 5, "rotation": rotation}
    there = models.build("ivf_pq", ROWS, **shape, device="cuda")
    here = models.build("ivf_pq", ROWS, **shape, device="cpu")
    assert_same(there.rotation_matrix.get(), here.rotation_matrix)
    assert_same(there.centers_rot.get(), here.centers_rot)
    assert_same(there.core.payload.codes.get(), here.core.payload.codes)
    assert_same_knn(models.search(there, QUERIES, 10), models.search(here, QUERIES, 10))


@pytest.mark.parametrize("metric", models.METRICS)
def test_all_lists_probed_is_brute_force(device, metric):
    flat = models.build("ivf_flat", ROWS, metric, n_lists=7, device="cuda")
    exact = models.build("brute_force", ROWS, metric, device="cuda")
    want = models.search(exact, QUERIES, 20)
    assert_same_knn(models.search(flat, QUERIES, 20, n_probes=7), want)


@pytest.mark.parametrize("init", ["Random", "KMeansPlusPlus", "Array"])
def test_kmeans(device, init):
    params = kmeans.KMeansParams(n_clusters=9, init_method=init, max_iter=5, tol=0.0)
    start = ROWS[:9] if init == "Array" else None
    want = kmeans.fit(params, ROWS, start, device="cpu")
    got = kmeans.fit(params, ROWS, start, device="cuda")
    assert_same(got[0], want[0])
    assert got[1:] == (pytest.approx(want[1], rel=1e-12), want[2])
    labels, inertia = kmeans.predict(params, ROWS, got[0], device="cuda")
    assert_same(labels, kmeans.predict(params, ROWS, want[0], device="cpu")[0])
    assert inertia == kmeans.cluster_cost(ROWS, want[0], device="cuda") == got[1]
    centers, _, _ = kmeans.fit(params, on(device, ROWS), start, device="cuda")
    assert isinstance(centers, DeviceArray)
    assert_same(centers.host, want[0])


def test_empty_clusters(device):
    rows = np.repeat(np.eye(4, dtype=np.float32), 10, axis=0)
    params = kmeans.KMeansParams(n_clusters=7, max_iter=4, tol=0.0)
    want, got = (kmeans.fit(params, rows, device=d) for d in ("cpu", "cuda"))
    assert_same(got[0], want[0])


@pytest.mark.parametrize("metric", models.METRICS)
def test_refine_from_host_and_on_the_device(device, rng, metric):
    candidates = rng.integers(-1, len(ROWS), (len(QUERIES), 30))
    want = gpuann.refine(ROWS, QUERIES, candidates, 10, metric, device="cpu")
    assert_same_knn(gpuann.refine(ROWS, QUERIES, candidates, 10, metric, device="cuda"), want)
    there = [on(device, a) for a in (ROWS, QUERIES, candidates)]
    waits = device.waits
    got = gpuann.refine(*there, 10, metric, device="cuda")
    assert device.waits == waits, "refine waited for the device"
    assert_same_knn(emulated.to_host(got), want)
    mixed = gpuann.refine(ROWS, *there[1:], 10, metric, device="cuda")
    assert isinstance(mixed[0], DeviceArray), "results are where the queries are"
    assert_same_knn(emulated.to_host(mixed), want)


@pytest.mark.parametrize("metric", ["sqeuclidean", "inner_product", "cosine"])
def test_refine_reads_page_locked_rows_where_they_are(device, rng, metric):
    candidates = rng.integers(-1, len(ROWS), (len(QUERIES), 20))
    want = gpuann.refine(ROWS, QUERIES, candidates, 5, metric, device="cpu")
    device.page_locked.append(ROWS)
    refined = gpuann.refine(ROWS, QUERIES, candidates, 5, metric, device="cuda")
    assert_same_knn(refined, want)
    read = [launch for launch in device.launches if launch.entry == "refine"]
    assert read
    assert device.waits == (2 if metric == "cosine" else 3), "the result, and that it is done"


def test_a_data_set_on_the_device_stays_there(device, rng):
    """Host queries and candidates go to it; it does not come to them."""
    candidates = rng.integers(-1, len(ROWS), (len(QUERIES), 30))
    want = gpuann.refine(ROWS, QUERIES, candidates, 10, device="cpu")
    there = on(device, ROWS)
    copied = []
    get = DeviceArray.get
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DeviceArray, "get", lambda a: copied.append(a.nbytes) or get(a))
        got = gpuann.refine(there, QUERIES, candidates, 10, device="cuda")
    assert_same_knn(got, want)
    assert sum(copied) == got[0].nbytes + got[1].nbytes, "more than the result came back"
    with pytest.raises(ValueError, match="candidates must lie in"):
        gpuann.refine(there, QUERIES, candidates + len(ROWS), 10, device="cuda")


def test_tables_stay_within_the_workspace(device):
    index = models.build("ivf_pq", ROWS, n_lists=200, pq_dim=8, device="cuda")
    want = models.search(index, QUERIES, 5, n_probes=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "table_batches", lambda n, entries, limit: batches(n))
        before = len(device.launches)
        got = models.search(index, QUERIES, 5, n_probes=8)
    assert_same_knn(got, want)
    assert [l.entry for l in device.launches[before:]].count("build_lut") == 6
    assert list(plan.table_batches(100, 1024, 1 << 18)) == [
        slice(at, min(at + 32, 100)) for at in range(0, 100, 32)
    ]


def batches(n):
    return [slice(at, min(at + 7, n)) for at in range(0, n, 7)]


def test_candidates_outside_the_rows_count_as_none_on_the_device(device):
    candidates = np.array([[3, len(ROWS), -5, 2**40]])
    there = [on(device, a) for a in (ROWS, ROWS[3:4], candidates)]
    dists, ids = emulated.to_host(gpuann.refine(*there, 3, device="cuda"))
    assert ids.tolist() == [[3, -1, -1]]
    assert dists.tolist() == [[0.0, np.inf, np.inf]]


@pytest.mark.parametrize("metric", ["inner_product", "cosine"])
@pytest.mark.parametrize("kind", models.KINDS)
def test_device_queries_wait_for_nothing(device, kind, metric):
    index = models.build(kind, ROWS, metric, n_lists=12, pq_dim=8, device="cuda")
    want = models.search(index, QUERIES, 10)
    for n in (2, 40):
        queries = on(device, QUERIES[:n])
        waits = device.waits
        got = models.search(index, queries, 10)
        assert device.waits == waits, "the search waited for the device"
        assert isinstance(got[0], DeviceArray), "device queries give device results"
        assert_same_knn(emulated.to_host(got), (want[0][:n], want[1][:n]))


class DlpackOnly:
    """A device array that only speaks DLPack."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self):
        return self.array

    def __dlpack_device__(self):
        return (2, 0)  # kDLCUDA


def test_dlpack_queries(device):
    index = models.build("ivf_flat", ROWS, n_lists=12, device="cuda")
    want = models.search(index, QUERIES, 5)
    got = models.search(index, DlpackOnly(on(device, QUERIES)), 5)
    assert_same_knn(emulated.to_host(got), want)


def test_given_outputs_and_chunks_on_the_device(device):
    index = models.build("brute_force", ROWS, device="cuda")
    want = models.search(index, QUERIES, 5)
    queries = on(device, QUERIES)
    dists, ids = device.empty((40, 5), np.float32), device.empty((40, 5), np.int64)
    got = brute_force.search(index, queries, 5, ids, dists)
    assert got[0] is dists
    assert_same_knn(emulated.to_host(got), want)
    chunked = brute_force.search(index, [queries[:7], queries[7:]], 5)
    assert_same_knn(emulated.to_host(chunked), want)
    with pytest.raises(TypeError, match="distances must be a device array"):
        brute_force.search(index, queries, 5, ids, np.empty((40, 5), np.float32))
    with pytest.raises(TypeError, match="neighbors must be a NumPy array"):
        brute_force.search(index, QUERIES, 5, ids)


def test_values_of_device_queries_are_looked_at_when_asked(device, monkeypatch):
    index = models.build("ivf_pq", ROWS, n_lists=5, pq_dim=6, device="cuda")
    queries = QUERIES.copy()
    queries[1, 3] = np.nan
    for n in (2, 40):  # both paths
        dists, ids = emulated.to_host(models.search(index, on(device, queries[:n]), 4))
        assert (ids[1] == -1).all()
        assert np.isinf(dists[1]).all()
        assert (ids[0] >= 0).all()
    monkeypatch.setenv("GPUANN_CHECK", "1")
    with pytest.raises(ValueError, match="nan in row 1, column 3"):
        models.search(index, on(device, queries), 4)


def test_a_device_data_set_builds_the_same_index(device):
    want = models.build("ivf_flat", ROWS, n_lists=5, device="cuda")
    got = models.build("ivf_flat", on(device, ROWS), n_lists=5, device="cuda")
    assert_same_knn(models.search(got, QUERIES, 5), models.search(want, QUERIES, 5))


def test_default_device_and_numbers(device):
    assert backends.choose("test").device == "cuda:0"
    assert backends.choose("test", "cuda:0").ops is cuda_ops
    assert backends.choose("test", "cpu").device == "cpu"


def test_results_beyond_the_shared_memory_are_named(device):
    exact = models.build("brute_force", ROWS, device="cuda")
    index = models.build("ivf_flat", ROWS, n_lists=600, kmeans_n_iters=1, device="cuda")
    device.limits = device.limits._replace(shared_bytes=20_000)
    text = r"brute_force.search: k must be at most 512 on cuda:0 with 24 components, got 1500; use"
    with pytest.raises(ValueError, match=text):
        models.search(exact, QUERIES, 9000)
    with pytest.raises(ValueError, match=r"ivf_flat.search: n_probes must be at most 512 on cuda"):
        models.search(index, QUERIES, 3, n_probes=6000)
    models.search(index, QUERIES, 3, n_probes=512)


def test_precomputed_quantisers(device):
    params = ivf_flat.IndexParams(n_lists=6)
    want, got = (
        ivf_flat.build_precomputed(params, ROWS, ROWS[:6], device=d) for d in ("cpu", "cuda")
    )
    assert_same_knn(models.search(got, QUERIES, 5), models.search(want, QUERIES, 5))
    pq_params = ivf_pq.IndexParams(n_lists=6, pq_dim=8)
    books = strategies.real(np.random.default_rng(0), 8, 256, 3)
    want, got = (
        ivf_pq.build_precomputed(pq_params, ROWS, ROWS[:6], books, device=d)
        for d in ("cpu", "cuda")
    )
    assert_same_knn(models.search(got, QUERIES, 5), models.search(want, QUERIES, 5))
    assert_same(got.pq_centers.host, want.pq_centers)
    assert_same(got.centers.host, want.centers)
    assert_same(got.list_sizes.host, want.list_sizes)
    assert repr(got) == repr(want).replace("cpu", "cuda:0")


@fast
@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_pq"])
def test_larger_in_the_fast_build(device, kind):
    rows, queries = clustered(5000, 48, 300)
    want = models.build(kind, rows, n_lists=40, pq_dim=12, device="cpu")
    got = models.build(kind, rows, n_lists=40, pq_dim=12, device="cuda")
    for k, n_probes in ((10, 4), (100, 40)):
        answer = models.search(got, queries, k, n_probes)
        assert_same_knn(answer, models.search(want, queries, k, n_probes))


@pytest.mark.parametrize("kind", models.KINDS)
def test_filters(device, kind):
    rng = np.random.default_rng(5)
    there = models.build(kind, ROWS, n_lists=12, pq_dim=8, device="cuda")
    here = models.build(kind, ROWS, n_lists=12, pq_dim=8, device="cpu")
    name = "prefilter" if kind == "brute_force" else "filter"
    for share in (0.5, 0.02):
        for mask in (rng.random(len(ROWS)) < share, rng.random((len(QUERIES), len(ROWS))) < share):
            keep = filters.from_mask(mask)
            want = models.search(here, QUERIES, 10, **{name: keep})
            assert_same_knn(models.search(there, QUERIES, 10, **{name: keep}), want)


@pytest.mark.parametrize("kind", ["brute_force", "ivf_pq"])
def test_a_filtered_search_of_device_queries_does_not_wait(device, kind):
    index = models.build(kind, ROWS, n_lists=12, pq_dim=8, device="cuda")
    name = "prefilter" if kind == "brute_force" else "filter"
    for share in (0.5, 0.02):
        keep = filters.from_mask(np.random.default_rng(5).random(len(ROWS)) < share)
        queries = on(device, QUERIES)
        models.search(index, queries, 10, **{name: keep})  # makes what it keeps
        waits = device.waits
        models.search(index, queries, 10, **{name: keep})
        assert device.waits == waits
