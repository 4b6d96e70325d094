"""group: a stable sort, below and above the 16 bits that NumPy sorts by radix."""

import numpy as np
import pytest
from compare import assert_same

from gpuann.backends.numpy_ops import group


@pytest.mark.parametrize("n_groups", [1, 2, 1000, 65_535, 65_536, 65_537, 200_000])
@pytest.mark.parametrize("n", [0, 1, 7, 5000])
def test_against_a_stable_sort(rng, n, n_groups):
    keys = rng.integers(0, n_groups, n).astype(np.int32)
    if n:
        keys[-1] = n_groups - 1
    order, offsets = group(keys, n_groups)
    want = np.array(sorted(range(n), key=lambda i: keys[i]), np.int64)
    assert_same(order, want)
    assert_same(np.diff(offsets), np.bincount(keys, minlength=n_groups))
    assert offsets[0] == 0
    assert offsets.dtype == np.int64
