"""build_lut: one look-up table per query."""

import numpy as np
import numpy.typing as npt

from gpuann._nvtx import annotate
from gpuann.backends.numpy_ops import _threads
from gpuann.backends.seam import Array


@annotate("build_lut")
def build_lut(queries: Array, codebooks: Array, dtype: npt.DTypeLike = np.float32) -> Array:
    """See `seam.Ops.build_lut`. Built once per query, not once per (query, list): everything that
    depends on the list is in N(v) and A(q, l).

    Cost: 2 Q D J flop; memory Q M J entries.
    """
    pq_dim, _, pq_len = codebooks.shape
    parts = queries.reshape(len(queries), pq_dim, pq_len)
    with _threads.single_thread_blas():
        lut = np.matmul(parts.transpose(1, 0, 2), codebooks.transpose(0, 2, 1))
    with np.errstate(over="ignore"):  # beyond float16: infinite, and `scan_lut` knows
        return np.ascontiguousarray(lut.transpose(1, 0, 2), dtype)
