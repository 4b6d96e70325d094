"""IVF-SQ: what its codes stand for, their bounds, and what they lose."""

import dataclasses

import models
import numpy as np
import pytest
from compare import assert_close, assert_same, assert_same_knn
from test_models import recall, truth

import gpuann
from bench.data import clustered
from gpuann import ivf_flat, ivf_sq
from gpuann.codecs import sq

ROWS, QUERIES = clustered(4000, 20, 100)
ALL = ivf_sq.SearchParams(n_probes=16)


def build(metric="sqeuclidean", rows=ROWS, *, device="cpu", **more):
    params = ivf_sq.IndexParams(n_lists=16, metric=metric, **more)
    return ivf_sq.build(params, rows, device="cpu")


def decoded(index):
    """The rows that the codes stand for, float64, by id."""
    payload, lists = index.core.payload, index.core.lists
    x = payload.codes.astype(np.float64) * payload.step + payload.middle
    if payload.centers is not None:
        x += np.repeat(payload.centers, index.list_sizes, axis=0)
    shift = index.core.coarse.axes.shift
    x = x if shift is None else x + shift
    return x[np.argsort(lists.ids)]


@pytest.mark.parametrize("by_residual", [True, False])
@pytest.mark.parametrize("metric", models.METRICS)
def test_the_distance_is_to_the_decoded_row(metric, by_residual):
    index = build(metric, by_residual=by_residual)
    dists, ids = ivf_sq.search(ALL, index, QUERIES, 10)
    queries = QUERIES.astype(np.float64)
    if metric == "cosine":
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    near = decoded(index)[ids]
    square = ((queries[:, None] - near) ** 2).sum(axis=2)
    want = {
        "sqeuclidean": square,
        "euclidean": np.sqrt(square),
        "cosine": square / 2,
        "inner_product": (queries[:, None] * near).sum(axis=2),
    }
    assert_close(dists, want[metric], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("by_residual", [True, False])
def test_a_component_errs_by_half_a_step(by_residual):
    """All rows train, so none lies beyond the bounds."""
    index = build(by_residual=by_residual, kmeans_trainset_fraction=1.0)
    error = np.abs(decoded(index) - ROWS)
    assert (error <= 0.5001 * index.step).all()
    assert (error > 0.25 * index.step).any()


# measured 0.981 to 0.989; whole rows 0.981 to 0.984
@pytest.mark.parametrize(("by_residual", "floor"), [(True, 0.961), (False, 0.961)])
@pytest.mark.parametrize("metric", models.METRICS)
def test_recall(metric, by_residual, floor):
    index = build(metric, by_residual=by_residual)
    ids = ivf_sq.search(ALL, index, QUERIES, 10)[1]
    assert recall(ids, truth(ROWS, QUERIES, 10, metric)[1]) >= floor


def test_refine_finds_the_truth():
    ids = ivf_sq.search(ALL, build(), QUERIES, 30)[1]
    got = gpuann.refine(ROWS, QUERIES, ids, 10)
    assert_same(got[1], truth(ROWS, QUERIES, 10, "sqeuclidean")[1])


def test_whole_bytes_are_coded_without_loss():
    """Steps of one: the index answers as IVF-Flat, in a quarter of its memory."""
    rng = np.random.default_rng(3)
    rows = rng.integers(-128, 128, (900, 12)).astype(np.float32)
    params = ivf_sq.IndexParams(n_lists=8, by_residual=False)
    bounds = np.float32([[-128] * 12, [127] * 12])
    index = ivf_sq.build(params, rows, bounds=bounds, device="cpu")
    assert_same(index.step, np.ones(12, np.float32))
    assert_same(index.middle, np.zeros(12, np.float32))
    flat = ivf_flat.build(ivf_flat.IndexParams(n_lists=8), rows, device="cpu")
    want = ivf_flat.search(ivf_flat.SearchParams(n_probes=3), flat, rows[:50], 9)
    assert_same_knn(ivf_sq.search(ivf_sq.SearchParams(n_probes=3), index, rows[:50], 9), want)


def test_given_bounds_are_in_the_coordinates_of_the_data():
    far = ROWS + np.float32(1000)
    bounds = np.stack([far.min(axis=0), far.max(axis=0)])
    params = ivf_sq.IndexParams(n_lists=16, by_residual=False)
    index = ivf_sq.build(params, far, bounds=bounds, device="cpu")
    assert index.core.coarse.axes.shift is not None
    assert_close(index.middle - 128 * index.step, bounds[0], rtol=1e-6, atol=1e-3)
    assert (np.abs(decoded(index) - far) <= 0.51 * index.step).all()
    again = ivf_sq.build_precomputed(params, far, index.centers, bounds, device="cpu")
    assert (np.abs(decoded(again) - far) <= 0.51 * index.step).all()


def test_values_beyond_the_bounds_get_the_nearest_code():
    params = ivf_sq.IndexParams(n_lists=4, by_residual=False)
    bounds = np.stack([np.full(20, -0.1), np.full(20, 0.1)])
    index = ivf_sq.build(params, ROWS, bounds=bounds, device="cpu")
    want = np.clip(ROWS, bounds[0], bounds[1])
    assert_close(decoded(index), want, rtol=0, atol=0.001)


def test_a_component_that_never_changes_is_exact():
    rows = ROWS.copy()
    rows[:, 3] = 7.25
    for by_residual in (True, False):
        index = build(rows=rows, by_residual=by_residual)
        assert_close(decoded(index)[:, 3], np.full(4000, 7.25), rtol=1e-6, atol=0)
        assert index.step[3] == 0


def test_steps_reach_the_bounds():
    steps = sq.steps_of(np.float32([[-3, 0, 5], [1, 0, 260]]))
    codes = np.int8([[-128] * 3, [127] * 3])
    assert_close(
        sq.decode(np, codes, steps), np.float32([[-3, 0, 5], [1, 0, 260]]), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        (np.zeros((2, 3)), r"bounds must have shape \(2, 20\), got \(2, 3\)"),
        (np.stack([np.ones(20), np.zeros(20)]), r"bounds must hold smallest values, then largest"),
        (np.full((2, 20), np.nan), r"bounds must be finite"),
    ],
)
def test_wrong_bounds_are_refused(bounds, words):
    with pytest.raises(ValueError, match=r"ivf_sq.build: " + words):
        ivf_sq.build(ivf_sq.IndexParams(n_lists=4), ROWS, bounds=bounds.astype(np.float32))


def test_by_residual_is_a_bool():
    with pytest.raises(TypeError, match=r"ivf_sq.IndexParams: by_residual must be True or False"):
        ivf_sq.IndexParams(by_residual=1)


def test_it_says_what_it_is():
    index = build(by_residual=False)
    assert "ivf_sq.Index(4,000 rows, dim 20, sqeuclidean, n_lists 16, int8, no residuals" in repr(
        index
    )
    assert dataclasses.asdict(ivf_sq.IndexParams())["by_residual"] is True
    assert index.nbytes < 0.5 * ROWS.nbytes
