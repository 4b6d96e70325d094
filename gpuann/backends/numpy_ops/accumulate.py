"""accumulate: sums and counts of clusters, the additive half of Lloyd's iteration."""

import itertools

import numpy as np

from gpuann._nvtx import annotate
from gpuann.backends.numpy_ops import _threads
from gpuann.backends.numpy_ops.group import group
from gpuann.backends.seam import Array

_NARROW = 16  # up to here one weighted count per column beats gathering rows by cluster
_CLUSTERS_AT_ONCE = 16  # whose rows are gathered together


@annotate("accumulate")
def accumulate(x: Array, labels: Array, n_clusters: int) -> tuple[Array, Array]:
    """See `seam.Ops.accumulate`. float64 sums in row order, whatever the number of threads.

    Cost: one pass over x, gathered by cluster.
    """
    n_problems, _, dim = x.shape
    sums = np.zeros((n_problems, n_clusters, dim))
    counts = np.empty((n_problems, n_clusters), np.int64)

    def narrow(b: int) -> None:
        counts[b] = np.bincount(labels[b], minlength=n_clusters)
        for d in range(dim):
            sums[b, :, d] = np.bincount(labels[b], x[b, :, d], n_clusters)

    if dim <= _NARROW:
        _threads.run(narrow, range(n_problems))
        return sums, counts

    for b in range(n_problems):
        order, offsets = group(labels[b], n_clusters)
        counts[b] = np.diff(offsets)
        _threads.run(
            lambda first: _sum_clusters(x[b], order, offsets, first, sums[b]),  # noqa: B023
            range(0, n_clusters, _CLUSTERS_AT_ONCE),
        )
    return sums, counts


def _sum_clusters(x: Array, order: Array, offsets: Array, first: int, sums: Array) -> None:
    """Sum clusters first ... first + _CLUSTERS_AT_ONCE - 1 of one problem into sums (C, D)."""
    ends = offsets[first : first + _CLUSTERS_AT_ONCE + 1] - offsets[first]
    rows = x.take(order[offsets[first] : offsets[first] + ends[-1]], axis=0)
    for c, (start, stop) in enumerate(itertools.pairwise(ends.tolist()), first):
        if start < stop:
            np.add.reduce(rows[start:stop], axis=0, dtype=np.float64, out=sums[c])
