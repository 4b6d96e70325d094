"""cuVS's calls: names, defaults, order of what is returned, dtypes; on the grids of its tests."""

import inspect

import numpy as np
import pytest
from compare import assert_close, assert_same, assert_same_knn

import gpuann
from gpuann import brute_force, distributed, filters, ivf_flat, ivf_pq, ivf_sq, kmeans, refine

DTYPES = [np.float32, np.float16, np.int8, np.uint8]
N, DIM, N_QUERIES, K = 10_000, 10, 100, 10


def data(dtype, n, seed):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.random((n, DIM)).astype(dtype)
    low, high = (-128, 127) if dtype == np.int8 else (0, 255)
    return rng.integers(low, high, (n, DIM)).astype(dtype)


def truth(rows, queries, k, metric):
    a, b = queries.astype(np.float64), rows.astype(np.float64)
    if metric == "cosine":
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    score = -(a @ b.T) if metric != "sqeuclidean" else (b**2).sum(axis=1) - 2 * (a @ b.T)
    return np.argsort(score, axis=1, kind="stable")[:, :k]


def recall(found, want):
    pairs = zip(found.tolist(), want.tolist(), strict=True)
    return np.mean([len(set(a) & set(b)) for a, b in pairs]) / want.shape[1]


@pytest.mark.parametrize("module", [ivf_flat, ivf_sq, ivf_pq], ids=["ivf_flat", "ivf_sq", "ivf_pq"])
@pytest.mark.parametrize(
    ("dtype", "metric"),
    [(dtype, "sqeuclidean") for dtype in DTYPES]
    + [(np.float32, "inner_product"), (np.float32, "cosine")],
)
def test_build_search_and_recall(module, dtype, metric):
    rows, queries = data(dtype, N, 1), data(dtype, N_QUERIES, 2)
    params = {"n_lists": 100, "metric": metric, "kmeans_n_iters": 10, "add_data_on_build": True}
    if module is ivf_pq:
        params |= {"pq_bits": 8, "pq_dim": 0, "codebook_kind": "subspace"}
        params |= {"kmeans_trainset_fraction": 1.0, "force_random_rotation": False}
    index = module.build(module.IndexParams(**params), rows, resources=None)
    tuning = {"lut_dtype": np.float16, "internal_distance_dtype": np.float32}
    asked = module.SearchParams(n_probes=100, **(tuning if module is ivf_pq else {}))
    neighbors = np.zeros((N_QUERIES, K), np.int64)
    distances = np.zeros((N_QUERIES, K), np.float32)
    out = {"neighbors": neighbors, "distances": distances, "resources": None}
    module.search(asked, index, queries, K, **out)
    assert_same_knn(module.search(asked, index, queries, K), (distances, neighbors))
    assert (distances.dtype, neighbors.dtype) == (np.float32, np.int64)
    assert recall(neighbors, truth(rows, queries, K, metric)) > 0.7


@pytest.mark.parametrize("k", [1, 10, 129, 1025])
@pytest.mark.parametrize("pq_bits", [4, 5, 6, 7, 8])
def test_any_k_and_bits(k, pq_bits):
    """cuVS selects in the scan up to k = 128 only."""
    rows, queries = data(np.float32, 3000, 1), data(np.float32, 20, 2)
    index = ivf_pq.build(ivf_pq.IndexParams(n_lists=30, pq_bits=pq_bits, pq_dim=10), rows)
    distances, neighbors = ivf_pq.search(ivf_pq.SearchParams(n_probes=30), index, queries, k)
    assert distances.shape == neighbors.shape == (20, k)
    assert (np.diff(distances, axis=1) >= 0).all()


def test_index_members_of_ivf_pq():
    rows = data(np.float32, 2000, 1)
    index = ivf_pq.build(ivf_pq.IndexParams(n_lists=20, pq_dim=4, force_random_rotation=True), rows)
    assert (index.n_lists, index.dim, index.pq_dim, index.pq_len, index.pq_bits) == (
        20,
        10,
        4,
        3,
        8,
    )
    assert len(index) == 2000
    assert index.centers.shape == (20, 10)
    assert index.centers_rot.shape == (20, 12)
    assert index.rotation_matrix.shape == (12, 10)
    assert index.pq_centers.shape == (4, 256, 3)
    assert index.list_sizes.sum() == 2000


@pytest.mark.parametrize("pq_bits", [6, 8])
@pytest.mark.parametrize("rotated", [False, True])
def test_build_precomputed_is_the_build(pq_bits, rotated):
    """Parts of the index, given again, make it once more."""
    rows = data(np.float32, 2000, 1)
    params = {"n_lists": 20, "pq_dim": 5, "pq_bits": pq_bits}
    one = ivf_pq.build(ivf_pq.IndexParams(**params, force_random_rotation=rotated), rows)
    parts = rows, one.centers, one.pq_centers
    two = ivf_pq.build_precomputed(
        ivf_pq.IndexParams(**params), *parts, rotation_matrix=one.rotation_matrix
    )
    found = [ivf_pq.search(ivf_pq.SearchParams(n_probes=20), i, rows[:50], 5) for i in (one, two)]
    if rotated:  # centres are turned to and fro
        assert_close(found[1][0], found[0][0], rtol=1e-3, atol=1e-3)
    else:
        assert_same_knn(found[1], found[0])


@pytest.mark.parametrize("module", [ivf_flat, ivf_sq, ivf_pq], ids=["ivf_flat", "ivf_sq", "ivf_pq"])
def test_extend_save_load(tmp_path, module):
    rows, queries = data(np.float32, N, 1), data(np.float32, N_QUERIES, 2)
    index = module.build(module.IndexParams(n_lists=100), rows[: N // 2])
    ids = np.arange(N // 2, N, dtype=np.int64)
    index = module.extend(index, rows[N // 2 :], ids, resources=None)
    assert len(index) == N
    asked = module.SearchParams(n_probes=100)
    want = module.search(asked, index, queries, K)
    assert recall(want[1], truth(rows, queries, K, "sqeuclidean")) > 0.7
    name = str(tmp_path / "my_index.bin")
    module.save(name, index, include_dataset=True)
    assert_same_knn(module.search(asked, module.load(name), queries, K), want)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "inner_product", "cosine"])
@pytest.mark.parametrize("k", [1, 5, 32])
@pytest.mark.parametrize("order", ["C", "F"])
def test_brute_force(metric, k, order):
    rows, queries = data(np.float32, 500, 1), data(np.float32, N_QUERIES, 2)
    index = brute_force.build(np.asarray(rows, order=order), metric=metric)
    distances, neighbors = brute_force.search(index, np.asarray(queries, order=order), k)
    scan = metric if metric != "euclidean" else "sqeuclidean"
    assert_same(neighbors, truth(rows, queries, k, scan))
    near = rows[neighbors].astype(np.float64)
    a = queries[:, None].astype(np.float64)
    want = {
        "sqeuclidean": ((a - near) ** 2).sum(axis=2),
        "euclidean": np.sqrt(((a - near) ** 2).sum(axis=2)),
        "inner_product": (a * near).sum(axis=2),
        "cosine": 1
        - (a * near).sum(axis=2) / (np.linalg.norm(a, axis=2) * np.linalg.norm(near, axis=2)),
    }
    assert_close(distances, want[metric], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sparsity", [0.01, 0.2, 0.4])
@pytest.mark.parametrize("kind", ["bitset", "bitmap"])
def test_filters(sparsity, kind):
    """Words of uint32, 1 keeps; a bitmap's rows follow each other bit by bit."""
    rows, queries = data(np.float32, 1000, 1), data(np.float32, 20, 2)
    shape = (20, 1000) if kind == "bitmap" else (1000,)
    kept = np.random.default_rng(3).random(shape) > sparsity
    bits = np.packbits(kept.reshape(-1), bitorder="little")
    words = np.zeros(-(-len(bits) // 4) * 4, np.uint8)
    words[: len(bits)] = bits
    made = (filters.from_bitmap if kind == "bitmap" else filters.from_bitset)(words.view(np.uint32))
    index = brute_force.build(rows)
    found = brute_force.search(index, queries, 10, prefilter=made)[1]
    each = np.broadcast_to(kept, (20, 1000))
    assert each[np.arange(20)[:, None], found].all()
    whole = truth(rows, queries, 1000, "sqeuclidean")
    want = np.stack([row[own[row]][:10] for row, own in zip(whole, each, strict=True)])
    assert_same(found, want)
    if kind == "bitset":
        for module in (ivf_flat, ivf_sq, ivf_pq):
            other = module.build(module.IndexParams(n_lists=10), rows)
            asked = module.SearchParams(n_probes=10)
            found = module.search(asked, other, queries, 10, filter=made)[1]
            assert kept[found].all()
    assert filters.no_filter() is None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_queries", [300, 37])
@pytest.mark.parametrize("metric", ["sqeuclidean", "inner_product"])
def test_refine(dtype, n_queries, metric):
    rows, queries = data(dtype, 2000, 1), data(dtype, n_queries, 2)
    candidates = truth(rows, queries, 40, metric)
    shuffled = np.random.default_rng(4).permuted(candidates, axis=1)
    distances, indices = refine(rows, queries, shuffled, k=10, metric=metric, resources=None)
    assert (distances.dtype, indices.dtype) == (np.float32, np.int64)
    floor = 0.9 if dtype == np.float16 else 0.999
    assert recall(indices, candidates[:, :10]) >= floor
    out = {"indices": np.empty_like(indices), "distances": np.empty_like(distances)}
    refine(rows, queries, shuffled, metric=metric, **out)
    assert_same_knn((out["distances"], out["indices"]), (distances, indices))


@pytest.mark.parametrize("n_clusters", [2, 15])
def test_kmeans(n_clusters):
    rows = data(np.float32, 1000, 1)
    params = kmeans.KMeansParams(n_clusters=n_clusters, init_method="Random", max_iter=1, tol=0.0)
    start = rows[:n_clusters]
    costs = [kmeans.cluster_cost(rows, start)]
    for _ in range(4):
        again = kmeans.KMeansParams(
            n_clusters=n_clusters, init_method="Array", max_iter=1, tol=0.0, n_init=1
        )
        start, inertia, n_iter = kmeans.fit(again, rows, start)
        assert n_iter == 1
        costs.append(kmeans.cluster_cost(rows, start))
    assert sorted(costs, reverse=True) == costs
    labels, inertia = kmeans.predict(params, rows, start)
    assert labels.dtype == np.int32
    assert inertia == pytest.approx(costs[-1])
    own, _ = kmeans.predict(params, start, start)
    assert_same(own, np.arange(n_clusters, dtype=np.int32))


CUVS = {
    "ivf_flat": {"n_lists": 1024, "metric": "sqeuclidean", "kmeans_n_iters": 20},
    "ivf_sq": {"n_lists": 1024, "metric": "sqeuclidean", "max_train_points_per_cluster": 256},
    "ivf_pq": {"n_lists": 1024, "pq_bits": 8, "pq_dim": 0, "max_train_points_per_pq_code": 256},
}


@pytest.mark.parametrize("kind", CUVS)
def test_defaults_are_those_of_cuvs(kind):
    module = getattr(gpuann, kind)
    params = module.IndexParams()
    assert {name: getattr(params, name) for name in CUVS[kind]} == CUVS[kind]
    assert params.kmeans_trainset_fraction == 0.5
    assert module.SearchParams().n_probes == 20
    kinds = {p.kind for p in inspect.signature(module.IndexParams).parameters.values()}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}
    assert repr(module.SearchParams(n_probes=7)).startswith("SearchParams(n_probes=7")


def test_signatures_are_real():
    for kind in CUVS:
        names = list(inspect.signature(getattr(gpuann, kind).search).parameters)
        want = ["search_params", "index", "queries", "k", "neighbors", "distances", "filter"]
        assert names == [*want, "resources"]
    assert list(inspect.signature(gpuann.refine).parameters)[:7] == [
        *("dataset", "queries", "candidates", "k", "metric", "indices", "distances")
    ]
    assert distributed is gpuann.distributed


@pytest.mark.parametrize("pq_bits", [6, 8])
def test_transform_gives_the_codes_that_are_stored(pq_bits):
    rows = data(np.float32, 2000, 1)
    index = ivf_pq.build(ivf_pq.IndexParams(n_lists=20, pq_bits=pq_bits, pq_dim=4), rows)
    labels, codes = ivf_pq.transform(index, rows)
    assert (labels.dtype, codes.dtype, codes.shape) == (np.int32, np.uint8, (2000, pq_bits // 2))
    for number in range(20):
        ids = index.list_indices(number)
        assert (labels[ids] == number).all()
        assert_same(index.list_data(number), codes[ids])
    assert_same(np.bincount(labels, minlength=20), index.list_sizes)
    with pytest.raises(TypeError, match="index must be of ivf_pq or ivf_sq, got ivf_flat"):
        flat = ivf_flat.build(ivf_flat.IndexParams(n_lists=20), rows)
        ivf_pq.transform(flat, rows)
    with pytest.raises(ValueError, match=r"ivf_pq.Index: label must be between 0 and 19, got 20"):
        index.list_data(20)
