"""Shapes and data for the property tests."""

import numpy as np
from hypothesis import strategies as st

SIZES = st.sampled_from([1, 2, 3, 7, 8, 13, 31, 32, 33, 64, 65, 127])
DIMS = st.sampled_from([1, 2, 3, 5, 7, 8, 9, 16, 17, 31, 33, 96, 100, 129, 200])
METRICS = st.sampled_from(["sqeuclidean", "inner_product"])


def lattice(rng, *shape):
    """Integers up to 3 in modulus as float32: every sum is exact, and ties are everywhere."""
    return rng.integers(-3, 4, shape).astype(np.float32)


def real(rng, *shape):
    """Gaussian float32."""
    return rng.standard_normal(shape, dtype=np.float32)


def partition(rng, n_rows, n_lists):
    """Rows dealt to lists at random, some lists empty -> offsets (n_lists + 1,) int64."""
    labels = rng.integers(0, max(1, n_lists - n_lists // 4), n_rows)
    return np.concatenate([[0], np.cumsum(np.bincount(labels, minlength=n_lists))]).astype(np.int64)
