"""What a search may return: the filter's bits over the ids."""

import numpy as np

from gpuann.backends.seam import Array


def allowed(keep: Array, ids: Array) -> Array:
    """Bit `ids` of one bit set: keep (words,) uint32, ids any shape int64 -> bool.

    Ids outside the bit set are not allowed.
    """
    names = ids.view(np.uint64)  # a negative id is beyond every bit
    octets = keep.view(np.uint8)  # of little-endian words
    found = octets.take((names >> np.uint64(3)).view(np.int64), mode="clip")
    bit = np.left_shift(1, names & np.uint64(7), dtype=np.uint8, casting="unsafe")
    return np.logical_and(found & bit, names < np.uint64(8 * octets.size))


def allowed_pairs(keep: Array, query: Array, ids: Array) -> Array:
    """Bit `ids[i]` of the bit set of query[i]: keep (Q, words) uint32 -> bool.

    query and ids broadcast against each other.
    """
    inside = (ids >= 0) & (ids < 32 * keep.shape[1])
    safe = np.where(inside, ids, 0)
    return inside & ((keep[query, safe >> 5] >> (safe & 31).astype(np.uint32)) & 1).astype(bool)
