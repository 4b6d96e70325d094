"""What a selective filter leaves, as rows of its own, to be compared with every query.

Where a filter keeps no more rows than a search would visit in the lists it probes, comparing all of
those is cheaper than visiting, and finds every one of them.
"""

from typing import Any, NamedTuple

from gpuann.backends import Backend
from gpuann.backends.seam import Array, FlatPayload, Lists, Payload
from gpuann.codecs import payloads
from gpuann.filters import Filter, Keep

_MOST_BYTES = 1 << 28  # of the rows that are kept, decoded
_SHARE = 4  # of all rows, that brute force must be spared to copy those that are kept


class Survivors(NamedTuple):
    """Rows stored whole, in one list."""

    payload: FlatPayload
    lists: Lists


def is_exhaustive(kept: Filter, n_rows: int, width: int, n_lists: int, n_probes: int) -> bool:
    """Whether all rows that are kept are compared: of n_rows in lists, of `width` components. It
    does not depend on the queries: neither may answers.
    """
    n_kept = kept.n_kept
    if kept.per_query:
        return False
    visited = n_rows // _SHARE if n_lists == 1 else n_rows * min(n_probes, n_lists) // n_lists
    return n_kept <= visited and 4 * n_kept * width <= _MOST_BYTES


def of(backend: Backend, payload: Payload, lists: Lists, keep: Keep, owner: object) -> Survivors:
    """Made at the first search of the owner of these rows with the filter; it keeps them.

    Cost   one pass over the ids; the rows that are kept, decoded.
    """

    def make() -> Survivors:
        return _copied(backend, payload, lists, keep.words, keep.filter.n_kept)

    found: Survivors = keep.filter.survivors_of(owner, make)
    return found


def _copied(
    backend: Backend, payload: Payload, lists: Lists, words: Array, n_kept: int
) -> Survivors:
    xp, n_rows = backend.xp, len(lists.ids)
    inside = (lists.ids >= 0) & (lists.ids < 32 * len(words))
    safe = xp.where(inside, lists.ids, xp.zeros_like(lists.ids))
    bit = (words[safe >> 5] >> (safe & 31).astype(xp.uint32)) & 1
    dropped = 1 - (inside & (bit == 1)).astype(xp.int32)
    # kept ones first; there may be fewer of them than ids in the filter: the scan drops the others
    order, _ = backend.ops.group(dropped, 2)
    rows = order[: min(n_kept, n_rows)]
    list_of = xp.searchsorted(lists.offsets[1:], rows, side="right")
    whole = payloads.whole_rows(backend, payload, rows, list_of)
    radius = lists.radius.max().reshape(1)
    one = Lists(xp.asarray([0, len(rows)]), lists.ids[rows], lists.norms[rows], radius)
    made: Any = backend.prepared(whole, one)
    backend.synchronize()  # it may be searched on another stream
    return Survivors(made, one)
