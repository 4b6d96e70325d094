"""assign: nearest centre of every row, for a batch of problems."""

from gpuann._nvtx import annotate
from gpuann.backends.cuda_ops._halves import half_words, tile_shape
from gpuann.backends.cuda_ops._select import check_dim
from gpuann.backends.cuda_ops._sizes import GROUP, ROWS, TILE, TILE_BYTES
from gpuann.backends.seam import Array
from gpuann.cuda import devices, variants
from gpuann.cuda.launch import arguments, launch

BLOCKS_PER_SM = 2  # that look at unsure rows


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
    split = dim <= variants.SPLIT_DIM
    source = variants.assign(split=split)
    words = half_words(3 * dim if split else dim)
    tile = tile_shape(2 * words)
    shape = (n_problems, n_centers)
    work = arguments(
        device,
        source,
        x=x,
        centers=centers,
        origin=device.scratch("assign.origin", (n_problems, dim), xp.float32),
        lower=device.scratch("assign.lower", shape, xp.float32),
        error=device.scratch("assign.error", shape, xp.float32),
        factor=device.scratch("assign.factor", shape, xp.float32),
        halves=device.scratch(
            "assign.halves", (n_problems * n_centers + ROWS - 1, words), xp.uint32
        ),
        unsure=device.scratch("assign.unsure", (n_problems, n), xp.int32),
        n_unsure=device.scratch("assign.n_unsure", (n_problems,), xp.int32),
        labels=labels,
        dists=dists,
        n=n,
        n_problems=n_problems,
        n_centers=n_centers,
        dim=dim,
        words=words,
        depth=tile.depth,
    )
    shared, tiles = TILE_BYTES + tile.bytes, -(-n // TILE)
    some = max(1, BLOCKS_PER_SM * device.limits.n_sms // n_problems)
    launch(work, "assign_origin", (-(-n_problems * dim // source.block),))
    launch(work, "assign_centers", (-(-n_problems * n_centers * GROUP // source.block),))
    launch(work, "assign", (tiles, n_problems), shared)
    launch(work, "assign_unsure", (min(tiles, some), n_problems), shared)
    return labels, dists
