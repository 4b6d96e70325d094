"""accumulate: sums and counts of clusters, the additive half of Lloyd's iteration."""

from gpuann._nvtx import annotate
from gpuann.backends.cuda_ops import group
from gpuann.backends.seam import Array
from gpuann.cuda import devices, variants
from gpuann.cuda.launch import arguments, launch


@annotate("accumulate")
def accumulate(x: Array, labels: Array, n_clusters: int) -> tuple[Array, Array]:
    """See `seam.Ops.accumulate`. float64 sums in row order: the bits of the NumPy backend."""
    device = devices.of(x)
    xp = device.xp
    n_problems, _n, dim = x.shape
    sums = xp.empty((n_problems, n_clusters, dim), xp.float64)
    counts = xp.empty((n_problems, n_clusters), xp.int64)
    order, offsets = group.by_problem(labels, n_clusters)
    source = variants.plain("accumulate")
    work = arguments(
        device,
        source,
        x=x,
        order=order,
        offsets=offsets,
        sums=sums,
        counts=counts,
        n_clusters=n_problems * n_clusters,
        dim=dim,
    )
    if sums.size:
        launch(work, "accumulate", (-(-sums.size // source.block),))
    return sums, counts
