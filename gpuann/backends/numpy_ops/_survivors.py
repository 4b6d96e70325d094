"""Rows that passed the filter: collected, tightened by score, rescored, sorted by (distance, id).

A survivor is (query, list, storage row, scan score). Scan scores carry the rounding of the path
that made them, at most `slack` each, so a row is dropped by score only where k rows of the same
query lie more than twice the slack below it: whatever the rounding, no result is lost.
"""

import threading
from typing import NamedTuple

import numpy as np

from gpuann.backends.numpy_ops import _threads
from gpuann.backends.numpy_ops._rescore import Pairs, Rescorer
from gpuann.backends.numpy_ops.group import group
from gpuann.backends.seam import Array, Payload
from gpuann.metric import ScanMetric

MAX_SURVIVORS = 1 << 20  # kept before the beaten ones are dropped, 28 bytes each
_FINISH_QUERIES = 1024  # of which one thread rescores and sorts the survivors at a time


class Survivors(NamedTuple):
    """n rows that may be among the results of their query."""

    query: Array
    """(n,) int64"""
    list: Array
    """(n,) int64, the list that the row lies in."""
    row: Array
    """(n,) int64, storage row."""
    score: Array
    """(n,) float32, A + N - q.r as the scan computed it."""


def join(parts: list[Survivors]) -> Survivors:
    """One after another."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        none = np.empty(0, np.int64)
        return Survivors(none, none, none, np.empty(0, np.float32))
    return Survivors(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def take(survivors: Survivors, index: Array) -> Survivors:
    """The survivors numbered `index`, in its order."""
    return Survivors(*(column.take(index) for column in survivors))


def subset(survivors: Survivors, index: Array) -> Survivors:
    """The survivors numbered `index`, which ascends: often all of them."""
    return survivors if len(index) == len(survivors.row) else take(survivors, index)


def sort_key(query: Array, value: Array) -> Array:
    """uint64 keys that order by (query, float32 value): one vectorised sort."""
    bits = (value + np.float32(0)).view(np.uint32)  # -0.0 becomes 0.0
    sign = np.uint32(0x80000000)
    bits = np.where(bits & sign, ~bits, bits | sign)
    return (query.astype(np.uint64) << np.uint64(32)) | bits


def unkey(key: Array) -> Array:
    """The float32 values of `sort_key`."""
    bits = key.astype(np.uint32)
    sign = np.uint32(0x80000000)
    return np.where(bits & sign, bits ^ sign, ~bits).view(np.float32)


def rank_in_query(query: Array, n_queries: int) -> tuple[Array, Array]:
    """For sorted `query` (n,): place of each within its query (n,), first of each query (Q,)."""
    first = np.searchsorted(query, np.arange(n_queries))
    return np.arange(len(query)) - first.take(query), first


def tighten(survivors: Survivors, k: int, slack: Array) -> tuple[Survivors, Array]:
    """Drop what k others beat by score -> the rest, bound (Q,) float32.

    `bound` is the k-th smallest score of each query, +inf where there are fewer: with 2 * slack
    it bounds what can still matter.
    """
    n_queries = len(slack)
    bound = np.full(n_queries, np.inf, np.float32)
    if len(survivors.query) == 0:
        return survivors, bound
    key = np.sort(
        sort_key(survivors.query, survivors.score)
    )  # sorting alone beats an argsort and four takes
    first = np.searchsorted(key, np.arange(n_queries + 1, dtype=np.uint64) << np.uint64(32))
    enough = np.flatnonzero(np.diff(first) >= k)
    bound[enough] = unkey(key.take(first.take(enough) + k - 1))
    limit = bound.astype(np.float64) + 2 * slack
    keep = survivors.score <= limit.take(survivors.query)
    return subset(survivors, np.flatnonzero(keep)), bound


class Scorer(NamedTuple):
    """What gives survivors their canonical distance and their id."""

    payload: Payload
    queries: Array
    """(Q, dim) float32"""
    ids: Array
    """(n_rows,) int64 of the storage rows."""
    metric: ScanMetric

    def distances(self, survivors: Survivors, *, threads: bool = False) -> Array:
        """Canonical distances (n,) float32. threads: see `Rescorer.distances`."""
        rescorer = Rescorer(self.payload, self.queries, self.metric)
        pairs = Pairs(survivors.query, survivors.row, survivors.list)
        return rescorer.distances(pairs, threads=threads)


class Wanted(NamedTuple):
    """What a search asks for."""

    k: int
    slack: Array
    """(Q,) float64, bound of |scan score - canonical distance|."""
    limit: Array | None
    """(Q,) float32, farthest distance that counts, or None."""
    rescore: bool
    """False: distances may be scan scores; the k rows of each query are the same."""


def finish(
    survivors: Survivors, scorer: Scorer, wanted: Wanted, queries: range
) -> tuple[Array, Array]:
    """Rescore and select for a range of queries -> dists (n, k) float32, ids (n, k) int64, padded.

    All survivors must belong to the range.
    """
    rest, at = _nearest(survivors, wanted, queries)
    return _select(_decided(rest, at, scorer.distances(subset(rest, at))), scorer, wanted, queries)


def _nearest(survivors: Survivors, wanted: Wanted, queries: range) -> tuple[Survivors, Array]:
    """Those of a range of queries that k others do not beat by score; which of them need their
    canonical distance (n,) int64.

    Without `rescore`, where a query has as many rows as wanted the set is certain. Else, with s the
    k-th smallest score, a row more than 2 slack below s has fewer than k that may lie before it;
    and its score lies below the distance of every row that is left out, s - slack at least.
    """
    slack = wanted.slack[queries.start : queries.stop]
    local = survivors._replace(query=survivors.query - queries.start)
    rest, bound = tighten(local, wanted.k, slack)
    if wanted.rescore or wanted.limit is not None:  # a limit is one of canonical distances
        at = np.arange(len(rest.query))
    else:
        crowded = np.bincount(rest.query, minlength=len(queries)) > wanted.k
        certain = np.where(crowded, bound.astype(np.float64) - 2 * slack, np.inf)
        at = np.flatnonzero(rest.score >= certain.take(rest.query))
    return rest._replace(query=rest.query + queries.start), at


def _decided(survivors: Survivors, at: Array, dists: Array) -> Survivors:
    """With distances in place of the scores numbered `at`."""
    score = survivors.score.copy()
    score[at] = dists
    return survivors._replace(score=score)


def _select(
    survivors: Survivors, scorer: Scorer, wanted: Wanted, queries: range
) -> tuple[Array, Array]:
    """The k best by (distance, id) of each of a range of queries, where scores are distances
    -> dists (n, k) float32, ids (n, k) int64, padded."""
    if wanted.limit is not None:
        inside = survivors.score <= wanted.limit.take(survivors.query)
        survivors = subset(survivors, np.flatnonzero(inside))
    local, dists = survivors.query - queries.start, survivors.score
    ids = scorer.ids.take(survivors.row)
    order = best_first(local, dists, ids)
    return top_k(local.take(order), dists.take(order), ids.take(order), len(queries), wanted.k)


class Collector:
    """Gathers survivors from many threads, drops what is beaten when they grow too many.

    Capacity is MAX_SURVIVORS or 4 per wanted result, whichever is more: it bounds memory also
    where every row ties, exactly, by rescoring and keeping the k best of each query.
    """

    def __init__(self, scorer: Scorer, wanted: Wanted) -> None:
        self._scorer, self._wanted = scorer, wanted
        self._capacity = max(MAX_SURVIVORS, 4 * wanted.k * len(scorer.queries))
        self._lock = threading.Lock()
        self._parts: list[Survivors] = []
        self._total = 0

    def add(self, part: Survivors) -> None:
        """Take the survivors of one tile; any thread."""
        if len(part.row) == 0:
            return
        with self._lock:
            self._parts.append(part)
            self._total += len(part.row)
            if self._total <= self._capacity:
                return
            full, self._parts, self._total = self._parts, [], 0
        rest, _ = tighten(join(full), self._wanted.k, self._wanted.slack)
        if len(rest.row) > self._capacity // 2:
            rest = self._best(rest)
        with self._lock:
            self._parts.append(rest)
            self._total += len(rest.row)

    def _best(self, survivors: Survivors) -> Survivors:
        """Exactly the k best of each query by (canonical distance, id)."""
        dists = self._scorer.distances(survivors)
        order = best_first(survivors.query, dists, self._scorer.ids.take(survivors.row))
        ordered = take(survivors._replace(score=dists), order)
        rank, _ = rank_in_query(ordered.query, len(self._scorer.queries))
        return take(ordered, np.flatnonzero(rank < self._wanted.k))

    def tighten(self) -> Array:
        """Drop what is beaten -> the k-th smallest score of each query so far (Q,) float32."""
        rest, bound = tighten(join(self._parts), self._wanted.k, self._wanted.slack)
        self._parts, self._total = [rest], len(rest.row)
        return bound

    def finish(self) -> tuple[Array, Array]:
        """Rescore and select -> dists (Q, k) float32, ids (Q, k) int64, padded."""
        everything, n = join(self._parts), len(self._scorer.queries)
        ranges = [range(at, min(at + _FINISH_QUERIES, n)) for at in range(0, n, _FINISH_QUERIES)]
        order, cuts = group((everything.query // _FINISH_QUERIES).astype(np.int32), len(ranges))
        out_dists = np.empty((n, self._wanted.k), np.float32)
        out_ids = np.empty((n, self._wanted.k), np.int64)

        def nearest(i: int) -> tuple[Survivors, Array]:
            mine = subset(everything, order[cuts[i] : cuts[i + 1]])
            return _nearest(mine, self._wanted, ranges[i])

        def select(i: int) -> None:
            mine = dists[ends[i] : ends[i + 1]]
            rows = slice(ranges[i].start, ranges[i].stop)
            out_dists[rows], out_ids[rows] = _select(
                _decided(*rest[i], mine), self._scorer, self._wanted, ranges[i]
            )

        # distances of all queries at once, as each list is made float64 for all that are in it
        rest = _threads.run(nearest, range(len(ranges)))
        ends = np.cumsum([0] + [len(at) for _, at in rest])
        undecided = join([subset(survivors, at) for survivors, at in rest])
        dists = self._scorer.distances(undecided, threads=True)
        _threads.run(select, range(len(ranges)))
        return out_dists, out_ids


def best_first(query: Array, dists: Array, ids: Array) -> Array:
    """Order of n results by (query, distance, id) -> (n,) int64."""
    key = sort_key(query, dists)
    order = np.argsort(key)
    ordered = key.take(order)
    same = ordered[1:] == ordered[:-1]
    if same.any():  # ties are rare: sort only them by id
        tied = np.zeros(len(key), bool)
        tied[1:] = same
        tied[:-1] |= same
        at = np.flatnonzero(tied)
        among = order.take(at)
        order[at] = among.take(np.lexsort((ids.take(among), key.take(among))))
    return order


def top_k(query: Array, dists: Array, ids: Array, n_queries: int, k: int) -> tuple[Array, Array]:
    """Sorted results -> rows of k, padded with (+inf, -1)."""
    out_dists = np.full((n_queries, k), np.inf, np.float32)
    out_ids = np.full((n_queries, k), -1, np.int64)
    rank, _ = rank_in_query(query, n_queries)
    at = np.flatnonzero(rank < k)
    out_dists[query.take(at), rank.take(at)] = dists.take(at)
    out_ids[query.take(at), rank.take(at)] = ids.take(at)
    return out_dists, out_ids
