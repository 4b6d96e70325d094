"""merge_topk: results over disjoint rows become one."""

import numpy as np

from gpuann._nvtx import annotate
from gpuann.backends.numpy_ops.select_k import select_k
from gpuann.backends.seam import Array


@annotate("merge_topk")
def merge_topk(dists: Array, ids: Array, k: int) -> tuple[Array, Array]:
    """See `seam.Ops.merge_topk`: the k smallest by (distance, id) of S sources a query."""
    n_sources, n_queries, width = dists.shape
    shape = (n_queries, n_sources * width)
    side_by_side = np.ascontiguousarray(dists.transpose(1, 0, 2)).reshape(shape)
    return select_k(side_by_side, np.ascontiguousarray(ids.transpose(1, 0, 2)).reshape(shape), k)
