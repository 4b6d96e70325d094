"""select_k and merge_topk: by (distance, id), padded, associative."""

import numpy as np
import pytest
from compare import assert_same_knn
from hypothesis import given
from hypothesis import strategies as st

from gpuann.backends.numpy_ops import merge_topk, select_k


def sorted_rows(dists, ids, k):
    """The slow way: Python's sort of (distance, id)."""
    out_d = np.full((len(dists), k), np.inf, np.float32)
    out_i = np.full((len(dists), k), -1, np.int64)
    for r, (row, names) in enumerate(zip(dists, ids, strict=True)):
        good = [(d, i) for d, i in zip(row, names, strict=True) if i >= 0 and not np.isnan(d)]
        for place, (d, i) in enumerate(sorted(good)[:k]):
            out_d[r, place], out_i[r, place] = d, i
    return out_d, out_i


@given(st.integers(0, 6), st.sampled_from([1, 2, 9, 33, 100]), st.sampled_from([1, 2, 8, 40]))
def test_ties_signs_and_padding(n_rows, n, k):
    rng = np.random.default_rng([n_rows, n, k])
    dists = rng.integers(-3, 4, (n_rows, n)).astype(np.float32)
    ids = np.argsort(rng.random((n_rows, n)), axis=1) * 7
    dists[rng.random((n_rows, n)) < 0.1] = np.inf
    assert_same_knn(select_k(dists, ids, k), sorted_rows(dists, ids, k))
    columns = np.broadcast_to(np.arange(n), (n_rows, n))
    assert_same_knn(select_k(dists, None, k), sorted_rows(dists, columns, k))


def test_nan_and_missing_are_never_selected():
    dists = np.array([[np.nan, 1.0, np.inf, -2.0]], np.float32)
    ids = np.array([[5, 6, -1, 8]])
    got = select_k(dists, ids, 4)
    assert got[1].tolist() == [[8, 6, -1, -1]]
    assert got[0].tolist() == [[-2.0, 1.0, np.inf, np.inf]]


def test_negative_zero_ties_with_zero():
    got = select_k(np.array([[0.0, -0.0]], np.float32), np.array([[1, 2]]), 2)
    assert got[1].tolist() == [[1, 2]]


@pytest.mark.parametrize("n_sources", [1, 2, 5])
@pytest.mark.parametrize("k", [1, 4, 30])
def test_merge_equals_one_selection(rng, n_sources, k):
    dists = rng.integers(0, 5, (n_sources, 8, 6)).astype(np.float32)
    ids = rng.permutation(n_sources * 48).reshape(dists.shape)
    ids[dists == 4], dists[dists == 4] = -1, np.inf
    flat = dists.transpose(1, 0, 2).reshape(8, -1), ids.transpose(1, 0, 2).reshape(8, -1)
    assert_same_knn(merge_topk(dists, ids, k), sorted_rows(*flat, k))


def test_merge_is_associative_and_commutative(rng):
    dists = rng.integers(0, 5, (3, 8, 6)).astype(np.float32)
    ids = rng.permutation(3 * 48).reshape(dists.shape)
    both = merge_topk(dists[:2], ids[:2], 6)
    left = merge_topk(np.stack([both[0], dists[2]]), np.stack([both[1], ids[2]]), 6)
    assert_same_knn(left, merge_topk(dists, ids, 6))
    assert_same_knn(merge_topk(dists[::-1], ids[::-1], 6), merge_topk(dists, ids, 6))


def test_missing_entries_do_not_count_for_the_bound():
    got = select_k(np.array([[0.0, 1.0, 2.0]], np.float32), np.array([[-1, 5, 6]]), 1)
    assert got[1].tolist() == [[5]]
