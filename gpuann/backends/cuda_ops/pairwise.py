"""pairwise: a full matrix of distances."""

from gpuann._nvtx import annotate
from gpuann.backends.cuda_ops._sizes import TILE
from gpuann.backends.seam import Array
from gpuann.cuda import devices, variants
from gpuann.cuda.launch import MAX_GRID, arguments, launch
from gpuann.metric import ScanMetric


@annotate("pairwise")
def pairwise(x: Array, y: Array, metric: ScanMetric) -> Array:
    """See `seam.Ops.pairwise`. L2 by differences, so nothing cancels far from the origin."""
    device = devices.of(x)
    out = device.xp.empty((len(x), len(y)), device.xp.float32)
    if out.size == 0:
        return out
    work = arguments(
        device,
        variants.pairwise(metric),
        x=x,
        y=y,
        out=out,
        n_x=len(x),
        n_y=len(y),
        dim=x.shape[1],
        negate=int(metric == "inner_product"),
    )
    launch(work, "pairwise", (-(-len(y) // TILE), min(-(-len(x) // TILE), MAX_GRID[1])))
    return out
