"""assign: labels equal the oracle's, ties to the smaller centre, whatever the tiles or blocks."""

import importlib

import numpy as np
import oracle
import pytest
import strategies
from compare import assert_close, assert_same
from hypothesis import given
from hypothesis import strategies as st

from gpuann.backends.numpy_ops import assign

MODULE = importlib.import_module("gpuann.backends.numpy_ops.assign")


def check(x, centers):
    labels, dists = assign(x, centers)
    assert labels.dtype == np.int32
    for b in range(len(x)):
        want, want_dists = oracle.nearest_center(x[b], centers[b])
        assert_same(labels[b], want.astype(np.int32))
        assert_same(dists[b], want_dists.astype(np.float32))


@given(strategies.SIZES, st.sampled_from([1, 2, 5, 9, 33]), strategies.DIMS, st.integers(1, 3))
def test_lattice_is_exact(n, n_centers, dim, n_problems):
    rng = np.random.default_rng([n, n_centers, dim])
    check(
        strategies.lattice(rng, n_problems, n, dim),
        strategies.lattice(rng, n_problems, n_centers, dim),
    )


def test_real_data(rng):
    x, centers = strategies.real(rng, 2, 300, 24), strategies.real(rng, 2, 40, 24)
    labels, dists = assign(x, centers)
    for b in range(2):
        want, want_dists = oracle.nearest_center(x[b], centers[b])
        assert_same(labels[b], want.astype(np.int32))
        assert_close(dists[b], want_dists, rtol=1e-7, atol=0)


def test_duplicate_centers_give_the_smaller(rng):
    centers = strategies.real(rng, 1, 6, 8)
    centers[0, 4] = centers[0, 1]
    labels, _ = assign(centers, centers)
    assert labels[0].tolist() == [0, 1, 2, 3, 1, 5]


def test_all_rows_and_centers_equal():
    x = np.ones((1, 50, 4), np.float32)
    labels, dists = assign(x, x[:, :7])
    assert (labels == 0).all()
    assert (dists == 0).all()


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("offset", [0.0, 100.0, 1e4])
def test_far_from_the_origin_and_any_norm(rng, scale, offset):
    # offset and scale are powers that float32 carries; the oracle sees the same rounded values
    x = (offset + scale * strategies.real(rng, 1, 200, 16)).astype(np.float32)
    centers = x[:, :20].copy()
    labels, dists = assign(x, centers)
    want, want_dists = oracle.nearest_center(x[0], centers[0])
    assert_same(labels[0], want.astype(np.int32))
    assert_close(dists[0], want_dists, rtol=1e-6, atol=1e-30)


def test_blocks_of_centers_and_tiles_of_rows_do_not_matter(rng, monkeypatch):
    x, centers = strategies.lattice(rng, 1, 500, 5), strategies.lattice(rng, 1, 130, 5)
    want = assign(x, centers)
    monkeypatch.setattr(MODULE, "_CENTERS_AT_ONCE", 7)
    monkeypatch.setattr(MODULE, "TILE_PAIRS", 64)
    got = assign(x, centers)
    assert_same(got[0], want[0])
    assert_same(got[1], want[1])
    check(x, centers)


@pytest.mark.parametrize("n_centers", [1, 2, 130])
def test_without_rescoring_the_labels_are_the_same(rng, n_centers):
    for make in (strategies.real, strategies.lattice):
        x, centers = make(rng, 2, 400, 9), make(rng, 2, n_centers, 9)
        want, got = assign(x, centers), assign(x, centers, rescore=False)
        assert_same(got[0], want[0])
        assert_close(got[1], want[1], rtol=1e-5, atol=1e-4)
