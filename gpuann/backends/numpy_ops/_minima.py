"""An upper bound of the k-th smallest, cheaper than selecting it."""

import numpy as np

from gpuann.backends.seam import Array


def group_size(n: int, k: int) -> int:
    """Rows per group so that n rows leave at least 2.5 k groups: 8, 4, 2 or 1.

    With so many groups the k smallest rows rarely share one, and the bound loosens little.
    """
    size = 8
    while size > 1 and 2 * n < 5 * k * size:
        size //= 2
    return size


def group_minima(scores: Array, size: int) -> Array:
    """Smallest of each of n / size groups of columns: (m, n) -> view (m, n / size) of `scores`.

    Overwrites the first half of the columns; n must be a multiple of `size`. A group is every
    (n / size)-th column, so that halving makes long inner loops.
    """
    width = scores.shape[1]
    for _ in range(size.bit_length() - 1):
        width //= 2
        np.minimum(scores[:, :width], scores[:, width : 2 * width], out=scores[:, :width])
    return scores[:, :width]


def kth_smallest(values: Array, k: int) -> Array:
    """k-th smallest of each row: (m, n) -> (m,) float32, +inf where n < k."""
    if values.shape[1] < k:
        return np.full(len(values), np.inf, np.float32)
    # a copy: a view of one column would keep the whole matrix alive
    return np.partition(values, k - 1, axis=1)[:, k - 1].copy()
