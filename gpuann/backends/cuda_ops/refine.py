"""refine: exact distances of given candidates."""

from gpuann._nvtx import annotate
from gpuann.backends.cuda_ops._select import capacity, check_dim
from gpuann.backends.cuda_ops._sizes import BLOCK, BYTES_PER_PLACE, GROUP
from gpuann.backends.seam import Array
from gpuann.cuda import devices, variants
from gpuann.cuda.launch import arguments, launch
from gpuann.metric import ScanMetric


@annotate("refine")
def refine(
    queries: Array,
    vectors: Array,
    candidates: Array,
    ids: Array,
    k: int,
    metric: ScanMetric,
    scale: Array | None = None,
) -> tuple[Array, Array]:
    """See `seam.Ops.refine`. A candidate given twice counts once."""
    device = devices.of(queries)
    xp = device.xp
    n_queries, dim = queries.shape
    check_dim("refine", dim)
    dists, names = xp.empty((n_queries, k), xp.float32), xp.empty((n_queries, k), xp.int64)
    if n_queries == 0:
        return dists, names
    # places for all candidates are enough, but for those that a block looks at together
    enough = max(BLOCK // GROUP, 1 << (max(k, candidates.shape[1]) - 1).bit_length())
    places = min(capacity("refine", device, k), enough)
    work = arguments(
        device,
        variants.refine(vectors.dtype),
        queries=queries,
        rows=vectors,
        scale=scale,
        candidates=candidates,
        ids=ids,
        dists=dists,
        names=names,
        n_rows=len(vectors),
        n_candidates=candidates.shape[1],
        k=k,
        dim=dim,
        inner=int(metric == "inner_product"),
        capacity=places,
    )
    launch(work, "refine", (n_queries,), places * BYTES_PER_PLACE)
    return dists, names
