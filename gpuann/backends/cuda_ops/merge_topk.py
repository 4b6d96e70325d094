"""merge_topk: results over disjoint rows become one."""

from gpuann._nvtx import annotate
from gpuann.backends.cuda_ops.select_k import select_from
from gpuann.backends.seam import Array


@annotate("merge_topk")
def merge_topk(dists: Array, ids: Array, k: int) -> tuple[Array, Array]:
    """See `seam.Ops.merge_topk`: `select_k` over the pieces where they lie."""
    n_sources, n_queries, width = dists.shape
    return select_from(dists, ids, k, n_queries, n_sources * width, width, n_queries * width)
