"""pairwise: to rounding, also far from the origin."""

import numpy as np
import oracle
import pytest
import strategies
from compare import assert_close

from gpuann.backends.numpy_ops import pairwise


@pytest.mark.parametrize("metric", ["sqeuclidean", "inner_product"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 33, 17), (30, 5, 128)])
def test_lattice_is_exact_enough(rng, metric, shape):
    n, m, dim = shape
    x, y = strategies.lattice(rng, n, dim), strategies.lattice(rng, m, dim)
    want = [[oracle.distance(a, b, metric) for b in y] for a in x]
    assert_close(pairwise(x, y, metric), want, rtol=1e-5, atol=1e-4)


def test_offset_does_not_cost_bits(rng):
    x = (1000 + strategies.real(rng, 40, 16)).astype(np.float32)
    want = [[oracle.distance(a, b, "sqeuclidean") for b in x] for a in x]
    got = pairwise(x, x, "sqeuclidean")
    assert_close(got, want, rtol=1e-5, atol=1e-4)
    assert (got >= 0).all()
