"""The two passes for large batches: a bound from the nearest rows, then filter every tile.

1. Bound: the nearest ROW_BUDGET rows of each query are multiplied, the minima of small groups of
   rows kept, and the k-th smallest of them taken: k rows at least lie at or below it.
2. Filter: every (query, list) tile is multiplied and compared with bound + 2 slack - A; the few
   rows that pass are survivors. Long lists go in epochs, each with the bound of the one before.

Calls of array functions are few: threads wait for one another at each of them, and a short list is
multiplied in the time of a few. So what can be done for all pairs, or for the tiles of a run, is
done at once.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from gpuann.backends.numpy_ops import _batch, _minima, _slack, _threads
from gpuann.backends.numpy_ops._batch import Batch
from gpuann.backends.numpy_ops._survivors import Collector, Scorer, Survivors, Wanted
from gpuann.backends.seam import Array

ROW_BUDGET = 1024  # rows per query that pass 1 looks at, at most ...
LEAST_BUDGET = 128  # ... and at least, or 4 k ...
BUDGET_SHARE = 16  # ... in between one of so many probed rows: pass 1 stays cheap beside pass 2
FIRST_EPOCH = 1 << 13  # rows of a list filtered with the bound of pass 1 ...
EPOCH_GROWTH = 8  # ... and how much further each later epoch reaches
TILE_FLOATS = 1 << 21  # of a tile of rows, or of queries: 8 MiB
MAX_TILE_ROWS = 2048
TILE_PAIRS = 1 << 21  # of a tile of scores: 8 MiB
RUN_WORK = 1 << 25  # multiply-adds of the tiles that one thread takes at a time, at least


class _Pairs(NamedTuple):
    """Pairs of a query and a list that it probes, list by list."""

    number: Array
    """(n,) int64, as in `Batch.order`."""
    query: Array
    """(n,) int64"""
    term: Array
    """(n,) float32, A(q, l)."""


class _Item(NamedTuple):
    """One product: storage rows [start, stop), all of list `list`, with pairs [begin, end)."""

    list: int
    start: int
    stop: int
    begin: int
    end: int


def scan_tiled(batch: Batch, scorer: Scorer, wanted: Wanted) -> tuple[Array, Array]:
    """Both passes and the selection -> dists (Q, k) float32, ids (Q, k) int64."""
    pairs = _pairs(batch, batch.order)
    if wanted.limit is not None and np.isfinite(wanted.limit).all():
        bound = wanted.limit  # a bound is known: no rows have to be looked at for one
    else:
        bound = _first_bound(batch, pairs, wanted.k)
    collector = Collector(scorer, wanted)
    epochs = list(_epochs(batch))
    for number, items in enumerate(epochs):
        if wanted.limit is not None:
            bound = np.minimum(bound, wanted.limit)
        ceiling = bound + 2 * wanted.slack
        highest = _slack.round_up(ceiling.take(pairs.query) - pairs.term)

        def filtered(run: list[_Item], highest: Array = highest) -> None:
            collector.add(_filter(batch, run, pairs, highest))

        _threads.run(filtered, _runs(batch, items))
        if number < len(epochs) - 1:  # after the last one `finish` does it, with threads
            bound = np.minimum(bound, collector.tighten())
    return collector.finish()


def _pairs(batch: Batch, number: Array) -> _Pairs:
    return _Pairs(number, number // batch.probes.shape[1], batch.terms.take(number))


def _epochs(batch: Batch) -> Iterator[list[_Item]]:
    """Every probed (list, rows, queries) tile, the heaviest list first, cut into epochs by row."""
    sizes, probed = np.diff(batch.lists.offsets), np.diff(batch.offsets)
    begin, end = 0, FIRST_EPOCH
    while True:
        unfinished = np.flatnonzero((sizes > begin) & (probed > 0))
        if len(unfinished) == 0:
            return
        work = np.minimum(sizes[unfinished], end) * probed[unfinished]
        items: list[_Item] = []
        for l in unfinished[np.argsort(-work)].tolist():
            first = int(batch.lists.offsets[l])
            stop = first + min(int(sizes[l]), end)
            pairs = range(int(batch.offsets[l]), int(batch.offsets[l + 1]))
            items.extend(_cut(batch, l, range(first + begin, stop), pairs))
        yield items
        begin, end = end, end * EPOCH_GROWTH


def _cut(batch: Batch, l: int, rows: range, pairs: range) -> Iterator[_Item]:
    """Rows of one list with some of its pairs, in tiles of about equal size."""
    # a multiple of 8 rows, so that the groups of pass 1 do not cross tiles
    n_rows = -(-_even(len(rows), _most_rows(batch)) // 8) * 8
    n_pairs = _even(len(pairs), _most_queries(batch, n_rows))
    for row in range(rows.start, rows.stop, n_rows):
        for pair in range(pairs.start, pairs.stop, n_pairs):
            stop, end = min(row + n_rows, rows.stop), min(pair + n_pairs, pairs.stop)
            yield _Item(l, row, stop, pair, end)


def _most_rows(batch: Batch) -> int:
    return max(64, min(MAX_TILE_ROWS, TILE_FLOATS // batch.scaled.shape[1]))


def _most_queries(batch: Batch, rows: int) -> int:
    return max(64, min(TILE_PAIRS // rows, TILE_FLOATS // batch.scaled.shape[1]))


def _even(n: int, most: int) -> int:
    """Size of the pieces when n is cut into as few about equal ones of at most `most`."""
    return -(-n // -(-n // most))


def _runs(batch: Batch, items: list[_Item]) -> list[list[_Item]]:
    """Items in runs worth a thread each, in their order."""
    runs: list[list[_Item]] = []
    work = RUN_WORK
    for item in items:
        if work >= RUN_WORK:
            runs.append([])
            work = 0
        runs[-1].append(item)
        work += (item.stop - item.start) * (item.end - item.begin) * batch.scaled.shape[1]
    return runs


def _filter(batch: Batch, items: list[_Item], pairs: _Pairs, highest: Array) -> Survivors:
    """Rows of some tiles whose score lies at or under `highest` (n_pairs,) float32, terms apart."""
    found, scores, by_row = [], [], []
    for item in items:
        part = slice(item.begin, item.end)
        n = item.stop - item.start
        product = _batch.multiply(batch, item.start, item.stop, pairs.query[part], n)
        hit, score, columns_first = _batch.under(product, highest[part])
        found.append(hit)
        scores.append(score)
        by_row.append(columns_first)
    of_item = np.repeat(np.arange(len(items)), [len(hit) for hit in found])
    lists, start, stop, begin, end = np.array(items, np.int64).T
    rows_first = np.array(by_row)
    inner = np.where(rows_first, end - begin, stop - start).take(of_item)
    outer_at, inner_at = np.divmod(np.concatenate(found), inner)
    swap = rows_first.take(of_item)
    pair = np.where(swap, inner_at, outer_at) + begin.take(of_item)
    row = np.where(swap, outer_at, inner_at) + start.take(of_item)
    score = np.concatenate(scores) + pairs.term.take(pair)
    return Survivors(pairs.query.take(pair), lists.take(of_item), row, score)


def _first_bound(batch: Batch, pairs: _Pairs, k: int) -> Array:
    """Upper bound of each query's k-th smallest score, from its nearest rows -> (Q,) float32."""
    sizes = np.diff(batch.lists.offsets)[batch.probes]
    budget = max(
        4 * k, LEAST_BUDGET, min(ROW_BUDGET, int(sizes.sum(axis=1).mean()) // BUDGET_SHARE)
    )
    size = _minima.group_size(budget, k)
    before = np.cumsum(sizes, axis=1) - sizes
    taken = np.where(before < budget, np.minimum(sizes, budget), 0)
    groups = -(-taken // size)  # the same for all pairs of a list
    near = _pairs(batch, pairs.number[taken.reshape(-1)[pairs.number] > 0])
    n_groups = groups.reshape(-1).take(near.number)
    first = np.cumsum(n_groups) - n_groups
    minima = np.empty(int(n_groups.sum()), np.float32)  # pair by pair

    def reduce(run: list[_Item]) -> None:
        for item in run:
            part = slice(item.begin, item.end)
            padded = -(-(item.stop - item.start) // size) * size
            scores = _batch.multiply(batch, item.start, item.stop, near.query[part], padded)
            best = _minima.group_minima(scores, size)
            width = int(n_groups[item.begin])
            at = int(first[item.begin])
            out = minima[at : at + (item.end - item.begin) * width].reshape(-1, width)
            column = (item.start - int(batch.lists.offsets[item.list])) // size
            out = out[:, column : column + best.shape[1]]
            np.add(best, near.term[part, None], out=out)

    _threads.run(reduce, _runs(batch, list(_nearest(batch, near, budget))))
    return _minima.kth_smallest(_by_query(minima, near, n_groups, groups), k)


def _by_query(minima: Array, near: _Pairs, n_groups: Array, groups: Array) -> Array:
    """Minima pair by pair -> a row of them for each query (Q, width) float32, +inf beyond.

    n_groups (n_pairs,) of each pair; groups (Q, P) of each probe.
    """
    slot = np.cumsum(groups, axis=1) - groups
    width = int((slot[:, -1] + groups[:, -1]).max(initial=0))
    out = np.full((len(groups), width), np.inf, np.float32)
    place = near.query * width + slot.reshape(-1).take(near.number)
    first = np.cumsum(n_groups) - n_groups
    out.reshape(-1)[np.repeat(place - first, n_groups) + np.arange(len(minima))] = minima
    return out


def _nearest(batch: Batch, near: _Pairs, budget: int) -> Iterator[_Item]:
    """The tiles of pass 1: up to `budget` rows of every list with the pairs that take any."""
    list_of = batch.probes.reshape(-1)[near.number]
    cuts = np.flatnonzero(np.diff(list_of, prepend=-1, append=-1))
    for begin, end in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        l = int(list_of[begin])
        first = int(batch.lists.offsets[l])
        stop = min(int(batch.lists.offsets[l + 1]), first + budget)
        yield from _cut(batch, l, range(first, stop), range(begin, end))
