"""Codes of fewer than eight bits, side by side: code m begins at bit m * bits of its row, counted
from the lowest of the first byte, as FAISS packs them.
"""

from typing import Any

from gpuann.backends.seam import Array

_GROUP = 8  # codes, which fill whole bytes


def row_bytes(pq_dim: int, bits: int) -> int:
    """Of a row of pq_dim codes."""
    return -(-pq_dim * bits // 8)


def bits_of(pq_book_size: int) -> int:
    """Of a code that names an entry of such a codebook."""
    return max(1, (pq_book_size - 1).bit_length())


def pack(xp: Any, codes: Array, bits: int) -> Array:
    """Codes (n, pq_dim) uint8, each under 2^bits -> (n, row_bytes) uint8."""
    if bits == 8:
        return codes
    n, pq_dim = codes.shape
    n_groups = -(-pq_dim // _GROUP)
    padded = xp.zeros((n, n_groups * _GROUP), xp.uint32)
    padded[:, :pq_dim] = codes
    groups = padded.reshape(n, n_groups, _GROUP)
    out = xp.zeros((n, n_groups, bits), xp.uint8)
    for i in range(_GROUP):
        byte, shift = divmod(i * bits, 8)
        word = groups[:, :, i] << shift
        out[:, :, byte] = out[:, :, byte] | (word & 255).astype(xp.uint8)
        if shift + bits > 8:
            out[:, :, byte + 1] = (word >> 8).astype(xp.uint8)
    return xp.ascontiguousarray(out.reshape(n, n_groups * bits)[:, : row_bytes(pq_dim, bits)])


def unpack(xp: Any, packed: Array, pq_dim: int, bits: int) -> Array:
    """Packed codes (n, row_bytes) uint8 -> codes (n, pq_dim) uint8."""
    if bits == 8:
        return packed
    n, n_groups = len(packed), -(-pq_dim // _GROUP)
    padded = xp.zeros((n, n_groups * bits), xp.uint8)
    padded[:, : packed.shape[1]] = packed
    groups = padded.reshape(n, n_groups, bits)
    out = xp.empty((n, n_groups, _GROUP), xp.uint8)
    for i in range(_GROUP):
        byte, shift = divmod(i * bits, 8)
        word = groups[:, :, byte] >> shift
        if shift + bits > 8:
            word = word | groups[:, :, byte + 1] << (8 - shift)
        out[:, :, i] = word & (2**bits - 1)
    return xp.ascontiguousarray(out.reshape(n, n_groups * _GROUP)[:, :pq_dim])
