"""A comparator that cannot fail is a defect: each is fed what it must refuse."""

import compare
import numpy as np
import pytest

D = np.array([[0.0, 1.0, 4.0], [0.5, 2.0, np.inf]], np.float32)
I = np.array([[3, 1, 2], [0, 5, -1]], np.int64)


def refused(call, *args, **kwargs):
    with pytest.raises(AssertionError):
        call(*args, **kwargs)


def changed(array, at, value):
    out = array.copy()
    out[at] = value
    return out


def test_equal_passes():
    compare.assert_same_knn((D, I), (D, I))
    compare.assert_knn((D, I), (D, I), rtol=1e-6, atol=0)
    assert compare.recall(I, I) == 1.0


@pytest.mark.parametrize("at", [(0, 0), (1, 1)])
def test_one_bit_is_seen(at):
    refused(compare.assert_same, changed(D, at, np.nextafter(D[at], np.float32(9))), D)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 7.0])
def test_wrong_values_are_seen(bad):
    refused(compare.assert_close, changed(D, (0, 1), bad), D, rtol=1e-3, atol=1e-3)
    refused(compare.assert_knn, (changed(D, (0, 1), bad), I), (D, I), rtol=1e-3, atol=1e-3)


def test_nan_on_both_sides_is_refused():
    nan = changed(D, (0, 0), np.nan)
    refused(compare.assert_same, nan, nan)
    refused(compare.assert_close, nan, nan, rtol=1, atol=1)


def test_wrong_shape_and_dtype_are_refused():
    refused(compare.assert_same, D[:, :2], D)
    refused(compare.assert_same, D.astype(np.float64), D)
    refused(compare.assert_close, D[:, :2], D, rtol=1, atol=1)


@pytest.mark.parametrize(
    "ids", [np.roll(I, 1, axis=1), changed(I, (0, 0), 9), changed(I, (0, 1), 3)]
)
def test_wrong_ids_are_refused(ids):
    refused(compare.assert_knn, (D, ids), (D, I), rtol=1e-6, atol=1e-6)


def test_padding_must_be_inf_and_minus_one():
    refused(compare.assert_knn, (D, changed(I, (1, 2), 4)), (D, I), rtol=1e-6, atol=1e-6)


def test_swapped_near_ties_pass():
    tied = np.array([[1.0, 1.0 + 1e-7, 3.0]], np.float32)
    a, b = np.array([[1, 2, 3]]), np.array([[2, 1, 3]])
    compare.assert_knn((tied, a), (tied, b), rtol=1e-5, atol=0)
    refused(compare.assert_knn, (tied, a), (tied, b), rtol=0, atol=0)


def test_tolerances_are_keyword_only():
    with pytest.raises(TypeError):
        compare.assert_close(D, D, 12, 0)
    with pytest.raises(TypeError):
        compare.assert_knn((D, I), (D, I), 12, 0)


def test_recall_counts_sets_not_places():
    assert compare.recall(I[:, ::-1], I) == 1.0
    assert compare.recall(np.full_like(I, -1), I) == 0.0
    assert compare.recall(changed(I, (0, 0), 99), I) == pytest.approx(0.8)
