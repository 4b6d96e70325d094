"""Range search, search in given lists."""

import models
import numpy as np
import pytest
from compare import assert_close, assert_same, assert_same_knn

import gpuann
from bench.data import clustered
from gpuann import brute_force, ivf_flat, ivf_pq

ROWS, QUERIES = clustered(1200, 10, 30)


@pytest.fixture(scope="module")
def built():
    return {
        (kind, metric): models.build(kind, ROWS, metric, device="cpu", n_lists=9, pq_dim=5)
        for kind in models.KINDS
        for metric in models.METRICS
    }


def params_of(kind, n_probes=4):
    if kind == "brute_force":
        return None
    return getattr(gpuann, kind).SearchParams(n_probes=n_probes)


@pytest.mark.parametrize("kind", models.KINDS)
@pytest.mark.parametrize("metric", models.METRICS)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 1.0])
def test_all_within_the_radius(built, kind, metric, share):
    index = built[kind, metric]
    dists, ids = models.search(index, QUERIES, 1200)
    there = np.sort(dists[ids >= 0])
    at = there[int(share * (len(there) - 1))]
    radius = float(
        -np.sort(-there)[int(share * (len(there) - 1))] if metric == "inner_product" else at
    )
    found = getattr(gpuann, kind).range_search(params_of(kind), index, QUERIES, radius)
    assert found.limits.shape == (31,)
    assert found.limits[0] == 0
    for q in range(30):
        within = (ids[q] >= 0) & (
            dists[q] >= np.float32(radius)
            if metric == "inner_product"
            else dists[q] <= np.float32(radius)
        )
        part = slice(found.limits[q], found.limits[q + 1])
        assert_same(found.ids[part], ids[q][within])
        assert_same(found.distances[part], dists[q][within])
    if share == 1.0:
        assert len(found.ids) == (ids >= 0).sum()


def test_a_radius_that_nothing_is_within(built):
    found = brute_force.range_search(None, built["brute_force", "sqeuclidean"], QUERIES, -1)
    assert_same(found.limits, np.zeros(31, np.int64))
    assert (found.ids.dtype, found.distances.dtype) == (np.int64, np.float32)
    none = brute_force.range_search(None, built["brute_force", "cosine"], QUERIES[:0], 1)
    assert_same(none.limits, np.zeros(1, np.int64))


@pytest.mark.parametrize("kind", models.KINDS)
@pytest.mark.parametrize("per_query", [False, True])
def test_range_and_filter(built, kind, per_query):
    index, rng = built[kind, "sqeuclidean"], np.random.default_rng(2)
    mask = rng.random((30, 1200) if per_query else 1200) < 0.7
    radius = float(np.median(models.search(index, QUERIES, 300)[0]))
    module = getattr(gpuann, kind)
    every = module.range_search(params_of(kind), index, QUERIES, radius)
    some = module.range_search(params_of(kind), index, QUERIES, radius, filter=mask)
    for q in range(30):
        ids = every.ids[every.limits[q] : every.limits[q + 1]]
        own = mask[q] if per_query else mask
        assert_same(some.ids[some.limits[q] : some.limits[q + 1]], ids[own[ids]])


@pytest.mark.parametrize("kind", models.KINDS[1:])
@pytest.mark.parametrize("metric", models.METRICS)
def test_given_lists(built, kind, metric):
    """The lists that a search would probe give its answer; others give theirs."""
    index, module = built[kind, metric], getattr(gpuann, kind)
    centers = index.centers.astype(np.float64)
    queries = QUERIES.astype(np.float64)
    if metric == "cosine":
        queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    if metric == "inner_product":
        order = np.argsort(-(queries @ centers.T), axis=1, kind="stable")
    else:
        order = np.argsort(((queries[:, None] - centers) ** 2).sum(axis=2), axis=1, kind="stable")
    want = models.search(index, QUERIES, 20, n_probes=3)
    nearest = module.search_preassigned(params_of(kind), index, QUERIES, 20, order[:, :3])
    assert_same_knn(nearest, want)
    last = module.search_preassigned(params_of(kind), index, QUERIES, 1200, order[:, 3:])
    everything = models.search(index, QUERIES, 1200, n_probes=9)
    left = models.search(index, QUERIES, 1200, n_probes=3)[1]
    for q in range(30):
        rest = ~np.isin(everything[1][q], left[q][left[q] >= 0])
        n = rest.sum()
        assert_same(last[1][q][:n], everything[1][q][rest])
        assert_close(last[0][q][:n], everything[0][q][rest], rtol=0, atol=0)
        assert (last[1][q][n:] == -1).all()


def test_given_lists_one_by_one_filtered_and_in_place(built):
    index, rng = built["ivf_pq", "sqeuclidean"], np.random.default_rng(3)
    lists = np.argsort(rng.random((30, 9)), axis=1)[:, :4].astype(np.uint8)
    asked = ivf_pq.SearchParams()
    want = ivf_pq.search_preassigned(asked, index, QUERIES, 7, lists)
    one = [
        ivf_pq.search_preassigned(asked, index, QUERIES[i : i + 1], 7, lists[i : i + 1])
        for i in range(30)
    ]
    assert_same_knn([np.concatenate(p) for p in zip(*one, strict=True)], want)
    ids, dists = np.empty((30, 7), np.int64), np.empty((30, 7), np.float32)
    ivf_pq.search_preassigned(asked, index, QUERIES, 7, lists, ids, dists)
    assert_same_knn((dists, ids), want)
    few = ivf_pq.search_preassigned(asked, index, QUERIES, 1200, lists, filter=[3, 4, 5])
    assert set(few[1].ravel().tolist()) <= {-1, 3, 4, 5}


ERRORS = {
    "radius": (
        lambda i: ivf_flat.range_search(ivf_flat.SearchParams(), i, QUERIES, "far"),
        "ivf_flat.range_search: radius must be a number, got 'far'",
    ),
    "infinite": (
        lambda i: ivf_flat.range_search(ivf_flat.SearchParams(), i, QUERIES, np.inf),
        "ivf_flat.range_search: radius must be finite, got inf",
    ),
    "other parameters": (
        lambda i: ivf_flat.range_search(ivf_pq.SearchParams(), i, QUERIES, 1),
        "search_params must be ivf_flat.SearchParams, got ivf_pq.SearchParams",
    ),
    "lists": (
        lambda i: ivf_flat.search_preassigned(
            ivf_flat.SearchParams(), i, QUERIES, 1, [[0, 9]] * 30
        ),
        "ivf_flat.search_preassigned: lists must be between 0 and 8, got 9",
    ),
    "twice": (
        lambda i: ivf_flat.search_preassigned(
            ivf_flat.SearchParams(), i, QUERIES, 1, [[4, 4]] * 30
        ),
        "lists must come once for each query, got 4 twice for query 0",
    ),
    "number": (
        lambda i: ivf_flat.search_preassigned(ivf_flat.SearchParams(), i, QUERIES, 1, [[4]]),
        "lists must have 30 rows, as the queries, got 1",
    ),
    "axes": (
        lambda i: ivf_flat.search_preassigned(ivf_flat.SearchParams(), i, QUERIES, 1, [4] * 30),
        r"lists must have shape \(n_queries, n_probes\), got \(30,\)",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(built, name):
    call, words = ERRORS[name]
    with pytest.raises((ValueError, TypeError), match=words):
        call(built["ivf_flat", "sqeuclidean"])


def test_radii_beyond_float32(built):
    index = built["brute_force", "euclidean"]
    for radius in (1e20, 1e39):
        found = brute_force.range_search(None, index, QUERIES[:2], radius)
        assert_same(found.limits, np.array([0, 1200, 2400]))
    with pytest.raises(ValueError, match="radius must be finite"):
        brute_force.range_search(None, index, QUERIES[:2], 10**400)


def test_ids_of_any_integer_type(built):
    index = built["ivf_flat", "sqeuclidean"]
    far = ivf_flat.extend(index, ROWS[:2] + 9, np.array([2**60, 2**60 + 1], np.uint64))
    got = ivf_flat.reconstruct(far, np.array([2**60 + 1], np.uint64))
    assert_same(got, ROWS[1:2] + 9)
