"""An upper bound of the k-th smallest, cheaper than selecting it."""

import numpy as np

from gpuann.backends.numpy_ops import _threads
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
    """Smallest of each of n / size groups of columns: (m, n) -> (m, n / size) float32, scratch of
    this thread, or `scores` where a group is one column.

    scores: C- or F-contiguous; n must be a multiple of `size`. A group is every (n / size)-th
    column, so that halving makes long inner loops.
    """
    if size == 1:
        return scores
    m, width = scores.shape[0], scores.shape[1] // 2
    if scores.flags.c_contiguous:
        out = _threads.scratch("minima", (m, width), np.float32)
    else:
        out = _threads.scratch("minima", (width, m), np.float32).T
    np.minimum(scores[:, :width], scores[:, width:], out=out)
    while size > 2:
        width, size = width // 2, size // 2
        np.minimum(out[:, :width], out[:, width : 2 * width], out=out[:, :width])
    return out[:, :width]


def kth_smallest(values: Array, k: int) -> Array:
    """k-th smallest of each row: (m, n) -> (m,) float32, +inf where n < k."""
    if values.shape[1] < k:
        return np.full(len(values), np.inf, np.float32)
    # a copy: a view of one column would keep the whole matrix alive
    return np.partition(values, k - 1, axis=1)[:, k - 1].copy()
