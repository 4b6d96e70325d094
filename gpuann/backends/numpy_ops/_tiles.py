"""Stored rows as float32: whole tiles for the product, picked rows for the canonical distance."""

import numpy as np

from gpuann.backends import packing
from gpuann.backends.numpy_ops import _threads
from gpuann.backends.numpy_ops._slack import NEVER
from gpuann.backends.seam import Array, FlatPayload, Lists, Payload, PqPayload, SqPayload

# one codebook entry as one NumPy item, where there is one of that size: the fastest gather
_ITEM_OF_PQ_LEN = {1: np.float32, 2: np.complex64, 4: np.complex128}


def dim_of(payload: Payload) -> int:
    """Components of a scanned vector."""
    if isinstance(payload, FlatPayload):
        return int(payload.vectors.shape[1])
    if isinstance(payload, SqPayload):
        return int(payload.codes.shape[1])
    return int(payload.centers.shape[1])


def tile(payload: Payload, lists: Lists, start: int, stop: int, padded: int) -> Array:
    """Storage rows [start, stop) ready for the product: [r(v), N(v)] -> (padded, dim + 1) float32.

    Rows from stop - start on are padding: r = 0 and N = NEVER, so no bound lets them pass. The
    result is scratch of this thread.
    """
    dim, n = dim_of(payload), stop - start
    out = _threads.scratch("tile", (padded, dim + 1), np.float32)
    out[:n, :dim] = rows(payload, slice(start, stop))
    out[:n, dim] = lists.norms[start:stop]
    out[n:, :dim] = 0
    out[n:, dim] = NEVER
    return out


def rows(payload: Payload, which: slice | Array) -> Array:
    """Some storage rows as the product sees them, r(v) -> (n, dim) float32.

    A view of the stored rows where they are that already and a slice is asked for, else fresh or
    scratch of this thread.
    """
    if isinstance(payload, PqPayload):
        return residuals(payload, payload.codes[which])
    if isinstance(payload, SqPayload):
        return _scalars(payload, payload.codes[which])
    if isinstance(which, slice):
        stored = payload.vectors[which]
    else:
        stored = pick(payload.vectors, which, "picked")
    if stored.dtype == np.float32 and payload.scale is None and payload.shift is None:
        return stored
    out = _threads.scratch("rows", stored.shape, np.float32)
    if payload.scale is None:
        out[:] = stored
    else:
        np.multiply(stored, payload.scale[which, None], out=out)
    if payload.shift is not None:
        out -= payload.shift
    return out


def residuals(payload: PqPayload, codes: Array) -> Array:
    """Decode stored codes (n, row_bytes) uint8 -> (n, dim) float32."""
    n, (pq_dim, pq_book_size, pq_len) = len(codes), payload.codebooks.shape
    entry = entries(codes, pq_dim, pq_book_size)
    item = _ITEM_OF_PQ_LEN.get(pq_len)
    if item is None:
        picked = payload.codebooks.reshape(-1, pq_len).take(entry, axis=0)
    else:
        picked = payload.codebooks.view(item).reshape(-1).take(entry).view(np.float32)
    return picked.reshape(n, pq_dim * pq_len)


def _scalars(payload: SqPayload, codes: Array) -> Array:
    """Decode codes (n, dim) int8 -> (n, dim) float32, scratch of this thread."""
    out = _threads.scratch("rows", codes.shape, np.float32)
    np.multiply(codes, payload.step, out=out)
    out += payload.middle
    return out


def entries(packed: Array, pq_dim: int, pq_book_size: int) -> Array:
    """Stored codes (n, row_bytes) uint8 as numbers m * pq_book_size + code of one table
    -> (n, pq_dim) intp.

    Scratch of this thread.
    """
    codes = packing.unpack(np, packed, pq_dim, packing.bits_of(pq_book_size))
    first = np.arange(0, pq_dim * pq_book_size, pq_book_size)
    out = _threads.scratch("entry", codes.shape, np.intp)
    if first[-1] + pq_book_size <= 1 << 16:  # widened after: casting inside the sum is slower
        out[:] = np.add(codes, first.astype(np.uint16), dtype=np.uint16)
    else:
        np.add(codes, first, out=out)
    return out


def decode(payload: Payload, position: Array, list_of: Array) -> tuple[Array, Array | None]:
    """Picked storage rows as they count for the distance -> rows (n, dim), zero (n,) bool.

    Rows are float32, or as they are stored where that is all there is to them; they may be scratch
    of this thread. `zero` marks rows without a direction under cosine, None where there is no such
    thing.
    """
    if isinstance(payload, FlatPayload):
        rows = pick(payload.vectors, position, "picked")
        if payload.scale is None:
            return rows, None
        scale = payload.scale[position]
        return rows * scale[:, None], scale == 0
    codes = payload.codes[position]
    decoded = residuals if isinstance(payload, PqPayload) else _scalars
    rows = decoded(payload, codes)  # type: ignore[arg-type]  # the one that is for it
    if payload.centers is not None:
        rows += payload.centers.take(list_of, axis=0)
    return rows, None


def pick(table: Array, row: Array, name: str) -> Array:
    """table[row], rows of (N, D) -> (n, D) of its dtype: scratch `name` of this thread."""
    if not table.flags.c_contiguous:  # `take` would copy all of it first
        return table[row]
    out = _threads.scratch(name, (len(row), table.shape[1]), table.dtype)
    return table.take(row, axis=0, out=out, mode="clip")
