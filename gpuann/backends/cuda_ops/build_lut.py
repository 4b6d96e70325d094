"""build_lut: one look-up table per query."""

import numpy as np
import numpy.typing as npt

from gpuann._nvtx import annotate
from gpuann.backends.cuda_ops._sizes import QUERIES
from gpuann.backends.seam import Array
from gpuann.cuda import devices, variants
from gpuann.cuda.launch import MAX_GRID, arguments, launch


@annotate("build_lut")
def build_lut(queries: Array, codebooks: Array, dtype: npt.DTypeLike = np.float32) -> Array:
    """See `seam.Ops.build_lut`."""
    device = devices.of(queries)
    xp = device.xp
    pq_dim, pq_book_size, pq_len = codebooks.shape
    source = variants.build_lut(dtype)
    lut = xp.empty((len(queries), pq_dim, pq_book_size), dtype)
    step = QUERIES * MAX_GRID[2]
    for start in range(0, len(queries), step):
        some = queries[start : start + step]
        work = arguments(
            device,
            source,
            queries=some,
            codebooks=codebooks,
            lut=lut[start : start + step],
            n_queries=len(some),
            pq_dim=pq_dim,
            pq_book_size=pq_book_size,
            pq_len=pq_len,
        )
        grid = (pq_dim, -(-pq_book_size // source.block), -(-len(some) // QUERIES))
        launch(work, "build_lut", grid)
    return lut
