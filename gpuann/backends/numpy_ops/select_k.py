"""select_k: the k smallest of each row."""

import numpy as np

from gpuann._nvtx import annotate
from gpuann.backends.numpy_ops import _survivors
from gpuann.backends.seam import Array


@annotate("select_k")
def select_k(dists: Array, ids: Array | None, k: int) -> tuple[Array, Array]:
    """See `seam.Ops.select_k`. Ties go to the smaller id; NaN and id -1 are never selected.

    Cost: one partial sort of the row, one sort of what ties with the k-th.
    """
    n_rows, n = dists.shape
    candidate = ~np.isnan(dists)
    if ids is not None:
        candidate &= ids >= 0
    if n > k:
        comparable = np.where(candidate, dists, np.float32(np.inf))
        candidate &= comparable <= np.partition(comparable, k - 1, axis=1)[:, k - 1 : k]
    at = np.flatnonzero(candidate)
    row, column = np.divmod(at, max(n, 1))
    name = column if ids is None else ids.reshape(-1).take(at)
    value = dists.reshape(-1).take(at)
    order = _survivors.best_first(row, value, name)
    return _survivors.top_k(row.take(order), value.take(order), name.take(order), n_rows, k)
