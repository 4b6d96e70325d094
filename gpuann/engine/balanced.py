"""k-means with clusters of about one size: one that has few rows takes a part of one that has many.

After each iteration but the last few, the centres of the smallest clusters move beside those of the
largest, a little to either side, and so split them (as FAISS does for empty clusters); their own
rows go to their neighbours. The last iterations trade what is left of balance for exactness.
"""

import numpy as np

from gpuann._progress import bar
from gpuann.arrays import HostArray
from gpuann.backends import Backend
from gpuann.backends.seam import Array

_LARGE = 1.5  # times the mean: what is less is not split
_RATIO = 4  # times as large as the one that moves
_ASIDE = 1 / 1024  # of a component
_AT_REST = 2  # iterations, the last, that move no cluster to another


def lloyd(backend: Backend, x: Array, centers: Array, n_iters: int, *, progress: bool) -> Array:
    """n_iters iterations from centers (C, D); x (N, D) -> (C, D) float32 on the device."""
    xp = backend.xp
    for done in bar(range(n_iters), "balanced centres", show=progress):
        labels, _ = backend.ops.assign(x[None], centers[None], rescore=False)
        sums, counts = backend.ops.accumulate(x[None], labels, len(centers))
        means = (sums[0] / xp.maximum(counts[0], 1)[:, None]).astype(xp.float32)
        centers = xp.where((counts[0] > 0)[:, None], means, centers)
        if done < n_iters - _AT_REST:
            centers = backend.put(_split(backend.get(centers), backend.get(counts[0])))
    return centers


def _split(centers: HostArray, counts: HostArray) -> HostArray:
    """Centres (C, D) with those of small clusters beside those of large ones; counts (C,)."""
    mean, size = counts.mean(), counts.astype(np.float64)
    side = np.where(np.arange(centers.shape[1]) % 2, 1 + _ASIDE, 1 - _ASIDE).astype(np.float32)
    out = centers.copy()
    for small in np.argsort(size, kind="stable").tolist():
        large = int(size.argmax())
        if size[large] <= max(_LARGE * mean, _RATIO * size[small]):
            break
        out[small] = out[large] * side
        out[large] = out[large] * (2 - side)
        size[small] = size[large] = size[large] / 2
    return out
