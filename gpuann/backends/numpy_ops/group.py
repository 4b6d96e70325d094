"""group: stable counting sort of small integers."""

import numpy as np

from gpuann._nvtx import annotate
from gpuann.backends.seam import Array

_RADIX = 1 << 16  # NumPy's stable sort is a radix sort for 16-bit integers only


@annotate("group")
def group(keys: Array, n_groups: int) -> tuple[Array, Array]:
    """Order rows by group: keys (N,) int32 in [0, n_groups) -> order (N,) int64 with
    keys[order] ascending and ties in input order, offsets (n_groups + 1,) int64.

    Cost: N log_65536(n_groups).
    """
    low = np.argsort((keys & (_RADIX - 1)).astype(np.uint16), kind="stable")
    order = low
    if n_groups > _RADIX:
        high = (keys >> 16).astype(np.uint16)
        order = low.take(np.argsort(high.take(low), kind="stable"))
    offsets = np.zeros(n_groups + 1, np.int64)
    np.cumsum(np.bincount(keys, minlength=n_groups), out=offsets[1:])
    return order.astype(np.int64, copy=False), offsets
