"""What both quantisers do with rows from outside."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gpuann import arrays, kmeans
from gpuann.arrays import HostArray
from gpuann.backends import Backend
from gpuann.backends.seam import Array
from gpuann.errors import bad_type, bad_value

_ROWS_AT_ONCE = 1 << 16


def checked(where: str, data: Any, dim: int | None = None) -> arrays.Rows:
    """Rows of a caller, finite, of dim components."""
    rows = arrays.Rows(where, "dataset", data)
    if dim is not None and rows.dim != dim:
        raise bad_value(where, "dataset", f"have shape (n, {dim})", (rows.n_rows, rows.dim))
    rows.check()
    return rows


def sample(rows: arrays.Rows, most: int, seed: int) -> HostArray:
    """At most so many rows, drawn evenly -> (n, dim) float32 on the host."""
    return rows.take(kmeans.sample_rows(rows.n_rows, most, seed)).astype(np.float32, copy=False)


def each_chunk(backend: Backend, rows: arrays.Rows, run: Callable[[Array], Array]) -> HostArray:
    """run(x) of every chunk x (n, dim) float32 on the device, put together on the host."""
    xp = backend.xp
    with backend.active():
        chunks = (backend.put(chunk).astype(xp.float32, copy=False) for _, chunk in rows.chunks())
        return np.concatenate([backend.get(run(x)) for x in chunks])


def given_codes(where: str, codes: Any, width: int, dtype: Any) -> HostArray:
    """Codes (n, width) of a caller, on the host."""
    array = arrays.as_host(where, "codes", codes)
    if array.ndim != 2 or array.shape[1] != width:
        raise bad_value(where, "codes", f"have shape (n, {width})", array.shape)
    if array.dtype != dtype:
        raise bad_type(where, "codes", f"be {np.dtype(dtype)}", array.dtype)
    return array


def mean_square_error(rows: arrays.Rows, coded: Callable[[HostArray], HostArray]) -> float:
    """Mean over rows of |x - coded(x)|^2."""
    total = 0.0
    for _, chunk in rows.chunks():
        for at in range(0, len(chunk), _ROWS_AT_ONCE):
            x = np.asarray(chunk[at : at + _ROWS_AT_ONCE], np.float32)
            total += float(np.square(x.astype(np.float64) - coded(x)).sum())
    return total / max(1, rows.n_rows)
