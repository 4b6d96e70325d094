"""The canonical distance: its order of summation, to the letter, on any shape."""

import numpy as np
import oracle
import pytest
from compare import assert_same

from gpuann.backends.numpy_ops import _canonical


@pytest.mark.parametrize(
    "dim", [*range(1, 20), 96, 100, 127, 128, 129, 135, 136, 255, 256, 263, 264, 784, 1025, 4096]
)
@pytest.mark.parametrize("n", [1, 2, 9])
def test_order_of_summation(rng, dim, n):
    values = rng.standard_normal((n, dim)) * 10.0 ** rng.uniform(-8, 8, (n, dim))
    want = np.array([oracle.canonical_sum(row) for row in values])
    assert_same(_canonical.ordered_sum(values), want)


def test_order_can_be_told_apart(rng):
    values = rng.standard_normal((50, 96)) * 10.0 ** rng.uniform(-8, 8, (50, 96))
    plain = np.array([sum(row[1:], row[0]) for row in values])
    assert (plain != _canonical.ordered_sum(values)).any()


@pytest.mark.parametrize("metric", ["sqeuclidean", "inner_product"])
def test_distance(rng, metric):
    rows = rng.standard_normal((20, 33), dtype=np.float32)
    queries = rng.standard_normal((20, 33), dtype=np.float32)
    got = _canonical.distances(rows, queries, metric)
    a, b = rows.astype(np.float64), queries.astype(np.float64)
    terms = a * b if metric == "inner_product" else (a - b) * (a - b)
    want = np.array([oracle.canonical_sum(row) for row in terms])
    assert_same(got, -want if metric == "inner_product" else want)
