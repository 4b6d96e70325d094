"""accumulate: the sums that shards add up, the same bits every time."""

import numpy as np
import oracle
import pytest
import strategies
from compare import assert_close, assert_same
from hypothesis import given
from hypothesis import strategies as st

from gpuann.backends.numpy_ops import accumulate


@given(strategies.SIZES, strategies.DIMS, st.sampled_from([1, 3, 70]), st.integers(1, 2))
def test_lattice_is_exact(n, dim, n_clusters, n_problems):
    rng = np.random.default_rng([n, dim])
    x = strategies.lattice(rng, n_problems, n, dim)
    labels = rng.integers(0, n_clusters, (n_problems, n)).astype(np.int32)
    sums, counts = accumulate(x, labels, n_clusters)
    for b in range(n_problems):
        want, want_counts = oracle.cluster_sums(x[b], labels[b], n_clusters)
        assert_same(sums[b], want)
        assert_same(counts[b], want_counts.astype(np.int64))


@pytest.mark.parametrize("dim", [2, 96])
def test_bits_do_not_depend_on_threads(rng, threads, dim):
    x = strategies.real(rng, 1, 5000, dim)
    labels = rng.integers(0, 300, (1, 5000)).astype(np.int32)
    threads(1)
    one = accumulate(x, labels, 300)
    threads(4)
    four = accumulate(x, labels, 300)
    assert_same(one[0], four[0])
    want, _ = oracle.cluster_sums(x[0].astype(np.float64), labels[0], 300)
    assert_close(one[0][0], want, rtol=1e-12, atol=1e-12)


def test_parts_add_up(rng):
    x = strategies.lattice(rng, 1, 1000, 20)
    labels = rng.integers(0, 50, (1, 1000)).astype(np.int32)
    whole = accumulate(x, labels, 50)
    cuts = [slice(0, 300), slice(300, 301), slice(301, 1000)]
    parts = [accumulate(np.ascontiguousarray(x[:, c]), labels[:, c], 50) for c in cuts]
    assert_same(sum(p[0] for p in parts), whole[0])
    assert_same(sum(p[1] for p in parts), whole[1])
