"""Filters: which ids a search may return.

    filters.from_mask(mask)      booleans over the ids, (n_ids,) or one set for each query
    filters.from_ids(ids)        a list of ids
    filters.from_bitset(words)   uint32, bit i of word w is id 32 w + i; 1 keeps it (cuVS's)
    filters.from_bitmap(words)   one bit set for each query

An id beyond the last bit is not kept: a mask that ends before the ids of an index, as one of before
an `extend` does, leaves the newer rows out, and the first search of that index with it warns. What
is kept is counted once, when the filter is made; a search does not wait for the device. A filter
may be used with any index and by any number of threads; it holds a copy of its bits on each device
that it was used on.
"""

import threading
import weakref
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from gpuann import arrays
from gpuann.arrays import HostArray
from gpuann.backends import Backend
from gpuann.backends.seam import Array
from gpuann.errors import bad_type, bad_value, warn

__all__ = ["Filter", "from_bitmap", "from_bitset", "from_ids", "from_mask", "no_filter"]

LARGEST_ID = (1 << 35) - 1  # whose bit set takes 4 GiB


class Keep(NamedTuple):
    """A filter on a device, for one search."""

    words: Array
    """(n_words,) uint32, or (n_queries, n_words)."""
    filter: "Filter"
    exhaustive: bool
    """Whether all rows that are kept are to be compared, whichever lists they are in."""

    def of(self, part: slice) -> Array:
        """The words of some of the queries."""
        return self.words if self.words.ndim == 1 else self.words[part]


@dataclass(frozen=True, eq=False, repr=False)
class Filter:
    """Made by the functions of this module: immutable."""

    words: HostArray
    """(n_words,) uint32; (n_queries, n_words); or, of a bitmap whose sets follow each other bit by
    bit, (n_words,) to be cut once the numbers of queries and rows are known."""
    n_kept: int
    """Ids that are kept, of the fullest set."""
    per_query: bool
    n_ids: int | None = None
    """Ids that it says something about, from 0; None for a list of ids, which means all others."""
    _there: dict[tuple[Any, ...], Array] = field(default_factory=dict)
    _survivors: Any = field(default_factory=weakref.WeakKeyDictionary)
    _warned: Any = field(default_factory=weakref.WeakSet)
    _lock: Any = field(default_factory=threading.Lock)

    def __repr__(self) -> str:
        each = "a set for each query" if self.per_query else "one set"
        return f"filters.Filter({each}, {self.n_kept:,} ids kept)"

    def on(self, where: str, name: str, backend: Backend, n_queries: int, n_rows: int) -> Array:
        """Its words on a device, for so many queries and, where they are not cut yet, rows."""
        words = self._of_queries(where, name, n_queries, n_rows) if self.per_query else self.words
        # a bitmap of bits behind bits is cut by the numbers of queries and rows
        key = backend.device, *((n_queries, n_rows) if self.per_query else ())
        with self._lock:
            if key not in self._there:
                self._there[key] = backend.put(words)
            return self._there[key]

    def some(
        self, where: str, name: str, queries: HostArray, n_queries: int, n_rows: int
    ) -> "Filter":
        """The filter for some of n_queries queries, by their numbers."""
        if not self.per_query:
            return self
        words = self._of_queries(where, name, n_queries, n_rows)
        return Filter(words[queries], self.n_kept, True, self.n_ids)

    def _of_queries(self, where: str, name: str, n_queries: int, n_rows: int) -> HostArray:
        """Words (n_queries, n_words) of sets for each query."""
        if self.words.ndim == 2:
            if len(self.words) != n_queries:
                rule = f"have a set for each of the {n_queries} queries"
                raise bad_value(where, name, rule, len(self.words))
            return self.words
        n_bits, width = n_queries * n_rows, -(-n_rows // 32)
        if len(self.words) != -(-n_bits // 32):
            rule = f"have {-(-n_bits // 32)} words for {n_queries} queries and {n_rows} rows"
            raise bad_value(where, name, rule, len(self.words))
        words = np.append(self.words, np.zeros(width + 1, np.uint32))
        out = np.empty((n_queries, width), np.uint32)
        for q in range(n_queries):  # its bits begin anywhere in a word
            word, shift = divmod(q * n_rows, 32)
            out[q] = words[word : word + width] >> np.uint32(shift)
            if shift:
                out[q] |= words[word + 1 : word + 1 + width] << np.uint32(32 - shift)
        if n_rows % 32:
            out[:, -1] &= np.uint32((1 << n_rows % 32) - 1)
        return out

    def check_reach(self, where: str, name: str, index: Any) -> None:
        """Warn, once for an index, if it has ids that this ends before. No device is asked."""
        last = index.next_id - 1
        if self.n_ids is None or self.n_ids > last:
            return
        with self._lock:
            known = index in self._warned
            self._warned.add(index)
        if not known:
            beyond = f"{last - self.n_ids + 1} ids of the index, {self.n_ids} to {last}"
            warn(f"{where}: {name} ends before {beyond}: rows with these are left out")

    def survivors_of(self, rows: object, make: Any) -> Any:
        """make(), once for these rows: what is left of them."""
        with self._lock:
            if rows not in self._survivors:
                self._survivors[rows] = make()
            return self._survivors[rows]


def no_filter() -> None:
    """None: everything may be returned. As in cuVS."""
    return


def from_mask(mask: Any) -> Filter:
    """Keep the ids that are True: mask (n_ids,) bool, or (n_queries, n_ids), host or device."""
    where = "filters.from_mask"
    array = arrays.as_host(where, "mask", mask)
    if array.dtype != bool:
        raise bad_type(where, "mask", "be bool", array.dtype, "for ids there is from_ids")
    if array.ndim not in (1, 2):
        rule = "have shape (n_ids,) or (n_queries, n_ids)"
        raise bad_value(where, "mask", rule, array.shape)
    return _made(_packed(array), array.ndim == 2, array.shape[-1])


def from_ids(ids: Any) -> Filter:
    """Keep these ids (n,), integers from 0 to 2^35 - 1: the bit set reaches to the largest."""
    where = "filters.from_ids"
    array = arrays.as_host(where, "ids", ids)
    if array.ndim != 1:
        raise bad_value(where, "ids", "have shape (n,)", array.shape)
    if array.size and array.dtype.kind not in "iu":
        raise bad_type(where, "ids", "be integers", array.dtype, "for booleans there is from_mask")
    if array.size and (array.min() < 0 or array.max() > LARGEST_ID):
        wrong = array.min() if array.min() < 0 else array.max()
        raise bad_value(where, "ids", f"be between 0 and {LARGEST_ID}", int(wrong))
    numbers = array.astype(np.int64)
    words = np.zeros(int(numbers.max(initial=-1)) // 32 + 1, np.uint32)
    np.bitwise_or.at(words, numbers >> 5, np.uint32(1) << (numbers & 31).astype(np.uint32))
    return _made(words, False, None)


def from_bitset(bitset: Any) -> Filter:
    """Keep the ids whose bit is 1: bitset (n_words,) uint32, host or device."""
    words = _words("filters.from_bitset", "bitset", bitset, (1,))
    return _made(words, False, 32 * len(words))


def from_bitmap(bitmap: Any) -> Filter:
    """One bit set for each query: bitmap (n_queries, n_words) uint32, host or device.

    Or as cuVS has it (n_words,): the bits of one query behind those of another, as many of each as
    the index has rows.
    """
    words = _words("filters.from_bitmap", "bitmap", bitmap, (1, 2))
    return _made(words, True, 32 * words.shape[1] if words.ndim == 2 else None)


def given(where: str, name: str, value: Any) -> Filter | None:
    """A filter as a search takes it: one of the above, a boolean array, ids, or None."""
    if value is None or isinstance(value, Filter):
        return value
    way_out = "make one of ids or booleans with gpuann.filters"
    array = arrays.as_host(where, name, value, way_out)
    if array.dtype == bool:
        return from_mask(array)
    if array.dtype.kind == "i" or array.shape == (0,):
        return from_ids(array)
    raise bad_type(where, name, "be a filter, booleans or ids", array.dtype, way_out)


def _words(where: str, name: str, value: Any, axes: tuple[int, ...]) -> HostArray:
    array = arrays.as_host(where, name, value)
    if array.dtype != np.uint32:
        raise bad_type(where, name, "be uint32", array.dtype)
    if array.ndim not in axes:
        rule = "have shape (n_words,)" + " or (n_queries, n_words)" * (2 in axes)
        raise bad_value(where, name, rule, array.shape)
    return np.array(array, order="C")  # a copy: the count would not follow a change


def _made(words: HostArray, per_query: bool, n_ids: int | None) -> Filter:
    if words.shape[-1] == 0:
        words = np.zeros((*words.shape[:-1], 1), np.uint32)
    counts = np.bitwise_count(words).sum(axis=-1, dtype=np.int64)
    return Filter(words, int(np.max(counts, initial=0)), per_query, n_ids)


def _packed(mask: HostArray) -> HostArray:
    """mask (..., n_ids) bool -> words (..., n_words) uint32."""
    n = mask.shape[-1]
    padded = np.zeros((*mask.shape[:-1], -(-n // 32) * 32), bool)
    padded[..., :n] = mask
    packed = np.packbits(padded, axis=-1, bitorder="little")
    return np.ascontiguousarray(packed).view("<u4").astype(np.uint32)
