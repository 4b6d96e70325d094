"""select_k: the k smallest of each row."""

from gpuann._nvtx import annotate
from gpuann.backends.cuda_ops._select import capacity
from gpuann.backends.cuda_ops._sizes import BYTES_PER_PLACE
from gpuann.backends.seam import Array
from gpuann.cuda import devices, variants
from gpuann.cuda.launch import arguments, launch


@annotate("select_k")
def select_k(dists: Array, ids: Array | None, k: int) -> tuple[Array, Array]:
    """See `seam.Ops.select_k`. Ties go to the smaller id; NaN and id -1 are never selected."""
    n_rows, n = dists.shape
    return select_from(dists, ids, k, n_rows, n, n, 0)


def select_from(
    dists: Array, ids: Array | None, k: int, n_rows: int, n: int, width: int, stride: int
) -> tuple[Array, Array]:
    """As `select_k`, of rows that lie in pieces of `width` entries, `stride` entries apart."""
    device = devices.of(dists)
    xp = device.xp
    out, names = xp.empty((n_rows, k), xp.float32), xp.empty((n_rows, k), xp.int64)
    if n_rows == 0:
        return out, names
    places = capacity("select_k", device, k)
    work = arguments(
        device,
        variants.plain("select_k"),
        dists=dists,
        ids=ids,
        out=out,
        names=names,
        n_rows=n_rows,
        n=n,
        width=max(width, 1),
        stride=stride,
        k=k,
        capacity=places,
    )
    launch(work, "select_k", (n_rows,), places * BYTES_PER_PLACE)
    return out, names
