"""pairwise: a full matrix of distances."""

import numpy as np

from gpuann._nvtx import annotate
from gpuann.backends.numpy_ops import _threads
from gpuann.backends.seam import Array
from gpuann.metric import ScanMetric

_TILE_ROWS = 1024


@annotate("pairwise")
def pairwise(x: Array, y: Array, metric: ScanMetric) -> Array:
    """See `seam.Ops.pairwise`. L2 by |x|^2 + |y|^2 - 2 x.y about the mean of y, at least 0, in
    float32.

    Cost: 2 Q N D flop; memory Q N * 4 bytes, the result.
    """
    out = np.empty((len(x), len(y)), np.float32)
    if metric == "inner_product":
        a, b = x, -y.T.astype(np.float64)
    else:
        shift = y.mean(axis=0, dtype=np.float64).astype(np.float32)
        moved, origin = x - shift, y - shift
        norm_x = np.einsum("qd,qd->q", moved, moved, dtype=np.float64)
        norm_y = np.einsum("nd,nd->n", origin, origin, dtype=np.float64)
        one = np.ones((len(x), 1), np.float32)
        a = np.concatenate([-2 * moved, norm_x[:, None].astype(np.float32), one], axis=1)
        below = np.stack([np.ones(len(y)), norm_y]).astype(np.float32)
        b = np.concatenate([origin.T, below])

    def part(start: int) -> None:
        rows, some = out[start : start + _TILE_ROWS], a[start : start + _TILE_ROWS]
        if metric == "inner_product":
            rows[:] = some.astype(np.float64) @ b
        else:
            np.matmul(some, b, out=rows)
            np.maximum(rows, 0, out=rows)

    _threads.run(part, range(0, len(x), _TILE_ROWS))
    return out
