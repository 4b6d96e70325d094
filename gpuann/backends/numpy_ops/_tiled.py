"""The two passes for large batches: a bound from the nearest rows, then filter every tile.

1. Bound: the nearest ROW_BUDGET rows of each query are multiplied, the minima of small groups of
   rows kept, and the k-th smallest of them taken: k rows at least lie at or below it.
2. Filter: every (query, list) tile is multiplied and compared with bound + 2 slack - A; the few
   rows that pass are survivors. Long lists go in epochs, each with the bound of the one before.

Small tiles go in stacks, see `_stacks`; what can be done for all pairs at once is done at once.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from gpuann.backends.numpy_ops import _batch, _minima, _stacks, _threads
from gpuann.backends.numpy_ops._batch import Batch
from gpuann.backends.numpy_ops._stacks import Stack, Tiles
from gpuann.backends.numpy_ops._survivors import Collector, Scorer, Survivors, Wanted
from gpuann.backends.seam import Array

ROW_BUDGET = 1024  # rows per query that pass 1 looks at, at most ...
LEAST_BUDGET = 128  # ... and at least, or 4 k ...
BUDGET_SHARE = 16  # ... in between one of so many probed rows: pass 1 stays cheap beside pass 2
FIRST_EPOCH = 1 << 13  # rows of a list filtered with the bound of pass 1 ...
EPOCH_GROWTH = 8  # ... and how much further each later epoch reaches


class _Pairs(NamedTuple):
    """Pairs of a query and a list that it probes, list by list."""

    number: Array
    """(n,) int64, as in `Batch.order`."""
    query: Array
    """(n,) int64"""
    term: Array
    """(n,) float32, A(q, l)."""


def scan_tiled(batch: Batch, scorer: Scorer, wanted: Wanted) -> tuple[Array, Array]:
    """Both passes and the selection -> dists (Q, k) float32, ids (Q, k) int64."""
    pairs = _pairs(batch, batch.order)
    if wanted.limit is not None and np.isfinite(wanted.limit).all():
        bound = wanted.limit  # a bound is known: no rows have to be looked at for one
    else:
        bound = _first_bound(batch, pairs, wanted.k)
    collector = Collector(scorer, wanted)
    epochs = list(_epochs(batch))
    for number, tiles in enumerate(epochs):
        if wanted.limit is not None:
            bound = np.minimum(bound, wanted.limit)
        ceiling = bound + 2 * wanted.slack

        def filtered(stack: Stack, ceiling: Array = ceiling) -> None:
            collector.add(_filter(batch, stack, pairs, ceiling))

        _threads.run(filtered, _stacks.stacks(batch, tiles))
        if number < len(epochs) - 1:  # after the last one `finish` does it, with threads
            bound = np.minimum(bound, collector.tighten())
    return collector.finish()


def _pairs(batch: Batch, number: Array) -> _Pairs:
    return _Pairs(number, number // batch.probes.shape[1], batch.terms.take(number))


def _epochs(batch: Batch) -> Iterator[Tiles]:
    """Every probed (list, rows, queries) tile, the heaviest list first, cut into epochs by row."""
    sizes, probed = np.diff(batch.lists.offsets), np.diff(batch.offsets)
    begin, end = 0, FIRST_EPOCH
    while True:
        unfinished = np.flatnonzero((sizes > begin) & (probed > 0))
        if len(unfinished) == 0:
            return
        n_rows = np.minimum(sizes[unfinished], end)
        heaviest = np.argsort(-n_rows * probed[unfinished])
        of, first = unfinished[heaviest], batch.lists.offsets[unfinished[heaviest]]
        rows = first + begin, first + n_rows[heaviest]
        whole = np.zeros(len(of), np.bool_)
        pairs = batch.offsets[of], batch.offsets[of + 1]
        yield _stacks.cut(batch, Tiles(of, *rows, *pairs, whole))
        begin, end = end, end * EPOCH_GROWTH


def _filter(batch: Batch, stack: Stack, pairs: _Pairs, ceiling: Array) -> Survivors:
    """Rows of some tiles whose score lies at or under ceiling (Q,) float64."""
    query = pairs.query.take(stack.pairs)
    scores = _stacks.multiply(batch, stack, query)
    highest = np.where(stack.is_pair, ceiling.take(query), -np.inf)
    at, row, score = _batch.passing(scores, pairs.term.take(stack.pairs), highest)
    tile = at // stack.n_pairs
    return Survivors(query.take(at), stack.list.take(tile), row + stack.start.take(tile), score)


def _first_bound(batch: Batch, pairs: _Pairs, k: int) -> Array:
    """Upper bound of each query's k-th smallest score, from its nearest rows -> (Q,) float32."""
    sizes = np.diff(batch.lists.offsets)[batch.probes]
    budget = max(
        4 * k, LEAST_BUDGET, min(ROW_BUDGET, int(sizes.sum(axis=1).mean()) // BUDGET_SHARE)
    )
    size = _minima.group_size(budget, k)
    before = np.cumsum(sizes, axis=1) - sizes
    taken = np.where(before < budget, np.minimum(sizes, budget), 0)
    near = _pairs(batch, pairs.number[taken.reshape(-1)[pairs.number] > 0])
    stacks = _stacks.stacks(batch, _nearest(batch, near, budget), size)
    # of each pair: those of its list, and in a stack those of its longest list
    n_groups = -(-taken.reshape(-1).take(near.number) // size)
    for stack in stacks:
        if len(stack.list) > 1:
            n_groups[stack.pairs] = stack.n_rows // size
    first = np.cumsum(n_groups) - n_groups
    minima = np.empty(int(n_groups.sum()), np.float32)  # pair by pair

    def reduce(stack: Stack) -> None:
        scores = _stacks.multiply(batch, stack, near.query.take(stack.pairs))
        best = _minima.group_minima(scores, size) + near.term.take(stack.pairs)[:, None]
        # of a long list that is cut into several tiles
        column = (int(stack.start[0]) - int(batch.lists.offsets[stack.list[0]])) // size
        at = first.take(stack.pairs)[:, None] + np.arange(column, column + best.shape[1])
        minima[at[stack.is_pair]] = best[stack.is_pair]

    _threads.run(reduce, stacks)
    return _minima.kth_smallest(_by_query(batch, minima, near, n_groups), k)


def _by_query(batch: Batch, minima: Array, near: _Pairs, n_groups: Array) -> Array:
    """Minima pair by pair -> a row of them for each query (Q, width) float32, +inf beyond.

    n_groups (n_pairs,) of each pair.
    """
    groups = np.zeros(batch.probes.shape, np.int64)
    groups.reshape(-1)[near.number] = n_groups
    slot = np.cumsum(groups, axis=1) - groups
    width = int((slot[:, -1] + groups[:, -1]).max(initial=0))
    out = np.full((len(groups), width), np.inf, np.float32)
    place = near.query * width + slot.reshape(-1).take(near.number)
    first = np.cumsum(n_groups) - n_groups
    out.reshape(-1)[np.repeat(place - first, n_groups) + np.arange(len(minima))] = minima
    return out


def _nearest(batch: Batch, near: _Pairs, budget: int) -> Tiles:
    """The tiles of pass 1: up to `budget` rows of every list with the pairs that take any."""
    list_of = batch.probes.reshape(-1)[near.number]
    cuts = np.flatnonzero(np.diff(list_of, prepend=-1, append=-1))
    of = list_of[cuts[:-1]].astype(np.int64)
    start, stop = batch.lists.offsets[of], batch.lists.offsets[of + 1]
    rows, whole = (start, np.minimum(stop, start + budget)), np.zeros(len(of), np.bool_)
    return _stacks.cut(batch, Tiles(of, *rows, cuts[:-1], cuts[1:], whole))
