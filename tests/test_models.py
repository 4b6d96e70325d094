"""The indexes against float64 truth: metrics, duplicates, padding, given quantisers, refining."""

import models
import numpy as np
import oracle
import pytest
from compare import assert_close, assert_knn, assert_same, recall

import gpuann
from bench.data import clustered
from gpuann import brute_force, ivf_pq, kmeans
from gpuann.codecs.pq import default_pq_dim

ROWS, QUERIES = clustered(1500, 20, 40)


def truth(rows, queries, k, metric):
    """Reported distances and ids in float64."""
    if metric == "cosine":
        rows, queries = (
            x / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True) for x in (rows, queries)
        )
    scan = "inner_product" if metric == "inner_product" else "sqeuclidean"
    dists, ids = oracle.knn(queries, rows, k, scan)
    reported = {"euclidean": np.sqrt, "cosine": lambda d: d / 2, "inner_product": np.negative}
    return reported.get(metric, np.asarray)(dists), ids


@pytest.mark.parametrize("metric", models.METRICS)
def test_brute_force_is_the_truth(metric):
    got = models.search(models.build("brute_force", ROWS, metric), QUERIES, 10)
    assert_knn(got, truth(ROWS, QUERIES, 11, metric), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", models.KINDS)
@pytest.mark.parametrize("metric", models.METRICS)
def test_k_beyond_the_rows_is_padded(kind, metric):
    dists, ids = models.search(models.build(kind, ROWS[:30], metric, n_lists=3), QUERIES, 50, 3)
    assert (ids[:, 30:] == -1).all()
    assert (np.sort(ids[:, :30], axis=1) == np.arange(30)).all()
    assert np.isfinite(dists[:, :30]).all()
    assert (dists[:, 30:] == (-np.inf if metric == "inner_product" else np.inf)).all()
    steps = np.diff(dists[:, :30], axis=1)
    assert (steps <= 0).all() if metric == "inner_product" else (steps >= 0).all()


@pytest.mark.parametrize("kind", models.KINDS)
def test_fewer_rows_probed_than_k(kind):
    index = models.build(kind, ROWS, n_lists=64)
    dists, ids = models.search(index, QUERIES, 200, n_probes=1)
    assert ((ids < 0) == np.isinf(dists)).all()
    if kind != "brute_force":
        assert (ids < 0).any()


@pytest.mark.parametrize("kind", models.KINDS)
@pytest.mark.parametrize("metric", models.METRICS)
def test_duplicates_only(kind, metric):
    rows = np.repeat(ROWS[:1], 400, axis=0)
    dists, ids = models.search(models.build(kind, rows, metric, n_lists=8), ROWS[:3], 5, 8)
    assert (ids == np.arange(5)).all()
    assert (dists == dists[:, :1]).all()
    if metric != "inner_product" and kind != "ivf_pq":
        assert (dists[0] == 0).all()


@pytest.mark.parametrize("kind", models.KINDS)
@pytest.mark.parametrize("metric", models.METRICS)
def test_one_row(kind, metric):
    index = models.build(kind, ROWS[:1], metric, n_lists=1)
    dists, ids = models.search(index, QUERIES, 2, n_probes=5)
    assert (ids == [0, -1]).all()
    assert np.isfinite(dists[:, 0]).all()


@pytest.mark.parametrize("kind", models.KINDS)
def test_zero_queries(kind):
    dists, ids = models.search(models.build(kind, ROWS), np.empty((0, 20), np.float32), 7)
    assert dists.shape == ids.shape == (0, 7)
    assert (dists.dtype, ids.dtype) == (np.float32, np.int64)


@pytest.mark.parametrize("kind", ["brute_force", "ivf_flat"])
def test_cosine_of_zero_rows_and_queries_is_one(kind):
    rows = ROWS[:50].copy()
    rows[[3, 17]] = 0
    queries = np.stack([np.zeros(20, np.float32), ROWS[0]])
    dists, ids = models.search(models.build(kind, rows, "cosine", n_lists=4), queries, 50, 4)
    assert_close(dists[0], np.ones(50), rtol=1e-6, atol=0)
    zero = np.isin(ids[1], [3, 17])
    assert (dists[1][zero] == 1).all()
    unit = rows.astype(np.float64) / np.maximum(np.linalg.norm(rows, axis=1), 1e-9)[:, None]
    want = 1 - unit @ (ROWS[0] / np.linalg.norm(ROWS[0].astype(np.float64)))
    assert_close(dists[1], want[ids[1]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("metric", models.METRICS)
@pytest.mark.parametrize("pq_dim", [1, 3, 7, 10, 20])
def test_adc_is_the_distance_to_the_decoded_row(metric, pq_dim):
    index = models.build("ivf_pq", ROWS, metric, pq_dim=pq_dim)
    dists, ids = models.search(index, QUERIES, 10, n_probes=16)
    payload, lists = index.core.payload, index.core.lists
    list_of = np.repeat(np.arange(16), index.list_sizes)
    decoded = oracle.decode(payload.codes, payload.codebooks, payload.centers[list_of])[:, :20]
    decoded = decoded[np.argsort(lists.ids)]
    queries = QUERIES.astype(np.float64)
    if metric == "cosine":
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    near = decoded[ids]
    square = ((queries[:, None] - near) ** 2).sum(axis=2)
    want = {
        "sqeuclidean": square,
        "euclidean": np.sqrt(square),
        "cosine": square / 2,
        "inner_product": (queries[:, None] * near).sum(axis=2),
    }
    assert_close(dists, want[metric], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("metric", models.METRICS)
def test_pq_with_refine_finds_the_truth(metric):
    index = models.build("ivf_pq", ROWS, metric, pq_dim=10)
    ids = models.search(index, QUERIES, 60, n_probes=16)[1]
    got = gpuann.refine(ROWS, QUERIES, ids, 10, metric)
    want = truth(ROWS, QUERIES, 10, metric)
    assert recall(got[1], want[1]) >= 0.98  # measured 1.0 for each metric


@pytest.mark.parametrize("metric", models.METRICS)
def test_refine_of_everything_is_brute_force(metric):
    everything = np.broadcast_to(np.arange(len(ROWS)), (len(QUERIES), len(ROWS)))
    got = gpuann.refine(ROWS, QUERIES, everything, 10, metric)
    want = models.search(models.build("brute_force", ROWS, metric), QUERIES, 10)
    assert_same(got[1], want[1])
    assert_same(got[0], want[0])


def test_refine_pads_and_skips_missing():
    candidates = np.array([[5, -1, 5, 2], [-1, -1, -1, -1]])
    dists, ids = gpuann.refine(ROWS, QUERIES[:2], candidates)
    assert sorted(ids[0][:2].tolist()) == [2, 5]
    assert (ids[0, 2:] == -1).all()
    assert (ids[1] == -1).all()
    assert np.isinf(dists[1]).all()


def test_precomputed_equals_built():
    built = models.build("ivf_pq", ROWS, pq_dim=10)
    params = ivf_pq.IndexParams(n_lists=16, pq_dim=10)
    given = ivf_pq.build_precomputed(params, ROWS, built.centers, built.pq_centers)
    assert_same(given.core.payload.codes, built.core.payload.codes)
    for a, b in zip(*(models.search(i, QUERIES, 9) for i in (built, given)), strict=True):
        assert_same(a, b)


def test_default_pq_dim_is_cuvs_rule():
    rule = {1: 1, 2: 2, 5: 4, 31: 16, 32: 32, 96: 96, 100: 96, 127: 96, 128: 64, 200: 96, 768: 384}
    assert {dim: default_pq_dim(dim) for dim in rule} == rule


def test_outputs_are_written_in_place():
    index = models.build("ivf_flat", ROWS)
    ids, dists = np.empty((40, 5), np.int64), np.empty((40, 5), np.float32)
    got = models.search(index, QUERIES, 5, neighbors=ids, distances=dists)
    assert got[0] is dists
    assert got[1] is ids
    want = models.search(index, QUERIES, 5)
    assert_same(ids, want[1])
    assert_same(dists, want[0])


def test_index_properties_and_repr():
    flat, pq = models.build("ivf_flat", ROWS), models.build("ivf_pq", ROWS, pq_dim=7)
    assert len(flat) == len(pq) == 1500
    assert (flat.dim, flat.n_lists, flat.metric, flat.device) == (20, 16, "sqeuclidean", "cpu")
    assert (pq.pq_dim, pq.pq_len, pq.pq_bits, pq.pq_centers.shape) == (7, 3, 8, (7, 256, 3))
    assert flat.list_sizes.sum() == 1500
    assert flat.centers.shape == (16, 20)
    assert flat.nbytes >= ROWS.nbytes
    assert pq.nbytes < ROWS.nbytes
    assert repr(flat).startswith("ivf_flat.Index(1,500 rows, dim 20, sqeuclidean, n_lists 16")
    assert repr(pq).startswith("ivf_pq.Index(1,500 rows, dim 20, sqeuclidean, n_lists 16, pq_dim 7")
    assert repr(brute_force.build(ROWS)).startswith("brute_force.Index(1,500 rows, dim 20, sqeuc")


def test_far_centers_come_back_in_the_data_coordinates():
    index = models.build("ivf_flat", ROWS + np.float32(1000))
    assert index.core.coarse.axes.shift is not None
    nearest = kmeans.predict(kmeans.KMeansParams(), ROWS + np.float32(1000), index.centers)[0]
    assert_same(np.bincount(nearest, minlength=16), index.list_sizes)


@pytest.mark.parametrize("kind", models.KINDS)
@pytest.mark.parametrize("scale", [1e-24, 1e-12, 1e6])
def test_inner_product_of_tiny_and_large_queries(kind, scale):
    rows = (ROWS[:1] + np.float32(1e-3) * ROWS).astype(np.float32)
    queries = (QUERIES * np.float32(scale)).astype(np.float32)
    index = models.build(kind, rows, "inner_product", n_lists=8)
    want = models.search(index, queries, 10, n_probes=8)
    one = [models.search(index, q[None], 10, n_probes=8) for q in queries]
    assert_same(np.concatenate([o[1] for o in one]), want[1])
    if kind in ("brute_force", "ivf_flat"):  # whose rows are whole
        products = queries.astype(np.float64) @ rows.astype(np.float64).T
        order = np.argsort(-products.astype(np.float32), axis=1, kind="stable")[:, :10]
        assert_same(want[1], order)


@pytest.mark.parametrize("kind", models.KINDS)
def test_cosine_of_subnormal_rows_and_queries(kind):
    rows = ROWS[:300].copy()
    rows[7] = 0
    rows[7, 0] = 1e-40
    queries = np.concatenate([QUERIES, rows[7:8]])
    index = models.build(kind, rows, "cosine", n_lists=4)
    dists, ids = models.search(index, queries, 5, n_probes=4)
    assert np.isfinite(dists).all()
    assert (ids >= 0).all()
    plain = models.search(models.build(kind, ROWS[:300], "cosine", n_lists=4), QUERIES, 5, 4)
    if kind == "brute_force":
        same = (plain[1] != 7).all(axis=1)
        assert_same(ids[:-1][same], plain[1][same])
    again = gpuann.refine(rows, queries, ids, 5, "cosine")
    assert np.isfinite(again[0]).all()


def test_orthogonal_rows_have_product_zero():
    rows = np.eye(4, dtype=np.float32)
    dists, _ = brute_force.search(brute_force.build(rows, "inner_product"), rows[:1], 4)
    assert not np.signbit(dists).any()


def test_codebooks_cannot_be_changed_from_outside():
    index = models.build("ivf_pq", ROWS, pq_dim=10)
    want = models.search(index, QUERIES, 5)
    index.pq_centers[:] = 0
    index.centers[:] = 0
    assert_same(models.search(index, QUERIES, 5)[1], want[1])
