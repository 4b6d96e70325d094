"""refine: exact distances of the candidates, each once."""

import numpy as np
import oracle
import pytest
import strategies
from compare import assert_same

from gpuann.backends.numpy_ops import refine


@pytest.mark.parametrize("metric", ["sqeuclidean", "inner_product"])
@pytest.mark.parametrize("k", [1, 5, 40])
def test_lattice_is_exact(rng, metric, k):
    vectors, queries = strategies.lattice(rng, 100, 6), strategies.lattice(rng, 12, 6)
    candidates = rng.integers(-1, 100, (12, 20))
    names = np.where(candidates >= 0, candidates * 10, -1)
    dists, ids = refine(queries, vectors, candidates, names, k, metric)
    for q in range(12):
        rows = np.unique(candidates[q][candidates[q] >= 0])
        want_d, want_i = oracle.knn(queries[q : q + 1], vectors[rows], k, metric, rows * 10)
        assert_same(ids[q], want_i[0])
        assert_same(dists[q], want_d[0].astype(np.float32))


def test_scale_and_zero_rows():
    vectors = np.array([[3, 4], [0, 0], [0, 2]], np.int8)
    scale = np.array([0.2, 0.0, 0.5], np.float32)
    queries = np.array([[1.0, 0.0]], np.float32)
    rows = np.array([[0, 1, 2]])
    dists, ids = refine(queries, vectors, rows, rows, 3, "sqeuclidean", scale)
    assert ids.tolist() == [[0, 1, 2]]
    # (0.6, 0.8), then two that are orthogonal to the query: the zero row counts as such
    assert dists[0].tolist() == pytest.approx([0.8, 2.0, 2.0])
