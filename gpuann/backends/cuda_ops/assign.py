"""assign: nearest centre of every row, for a batch of problems."""

from gpuann._nvtx import annotate
from gpuann.backends.cuda_ops._select import check_dim
from gpuann.backends.cuda_ops._sizes import GROUP, TILE
from gpuann.backends.seam import Array
from gpuann.cuda import devices, variants
from gpuann.cuda.launch import arguments, launch


@annotate("assign")
def assign(x: Array, centers: Array, rescore: bool = True) -> tuple[Array, Array]:
    """See `seam.Ops.assign`. Distances are canonical, with `rescore` or without."""
    device = devices.of(x)
    xp = device.xp
    n_problems, n, dim = x.shape
    n_centers = centers.shape[1]
    check_dim("assign", dim)
    labels = xp.empty((n_problems, n), xp.int32)
    dists = xp.empty((n_problems, n), xp.float32)
    if labels.size == 0:
        return labels, dists
    source = variants.plain("assign")
    shape = (n_problems, n_centers)
    work = arguments(
        device,
        source,
        x=x,
        centers=centers,
        mean=device.scratch("assign.mean", (n_problems, dim), xp.float32),
        lower=device.scratch("assign.lower", shape, xp.float32),
        error=device.scratch("assign.error", shape, xp.float32),
        labels=labels,
        dists=dists,
        n=n,
        n_problems=n_problems,
        n_centers=n_centers,
        dim=dim,
    )
    launch(work, "assign_mean", (-(-n_problems * dim // source.block),))
    launch(work, "assign_norms", (-(-n_problems * n_centers * GROUP // source.block),))
    launch(work, "assign", (-(-n // TILE), n_problems))
    return labels, dists
