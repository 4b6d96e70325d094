"""The two passes for large batches: a bound from the nearest rows, then filter every tile.

1. Bound: the nearest ROW_BUDGET rows of each query are multiplied, the minima of small groups of
   rows kept, and the k-th smallest of them taken: k rows at least lie at or below it.
2. Filter: every (query, list) tile is multiplied and compared with bound + 2 slack - A; the few
   rows that pass are survivors. Long lists go in epochs, each with the bound of the one before.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from gpuann.backends.numpy_ops import _batch, _minima, _threads
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


class _Item(NamedTuple):
    """One product: storage rows [start, stop), all of list `list`, with the queries of `pairs`."""

    list: int
    start: int
    stop: int
    pairs: Array


def scan_tiled(batch: Batch, scorer: Scorer, wanted: Wanted) -> tuple[Array, Array]:
    """Both passes and the selection -> dists (Q, k) float32, ids (Q, k) int64."""
    if wanted.limit is not None and np.isfinite(wanted.limit).all():
        bound = wanted.limit  # a bound is known: no rows have to be looked at for one
    else:
        bound = _first_bound(batch, wanted.k)
    collector = Collector(scorer, wanted)
    epochs = list(_epochs(batch))
    for number, items in enumerate(epochs):
        if wanted.limit is not None:
            bound = np.minimum(bound, wanted.limit)
        ceiling = bound + 2 * wanted.slack

        def filtered(item: _Item, ceiling: Array = ceiling) -> None:
            collector.add(_filter_tile(batch, item, ceiling))

        _threads.run(filtered, items)
        if number < len(epochs) - 1:  # after the last one `finish` does it, with threads
            bound = np.minimum(bound, collector.tighten())
    return collector.finish()


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
            pairs = batch.order[batch.offsets[l] : batch.offsets[l + 1]]
            items.extend(_cut(batch, l, first + begin, stop, pairs))
        yield items
        begin, end = end, end * EPOCH_GROWTH


def _cut(batch: Batch, l: int, start: int, stop: int, pairs: Array) -> Iterator[_Item]:
    """Rows [start, stop) of one list with all its pairs, in tiles of about equal size."""
    rows = _even(stop - start, _most_rows(batch))
    step = _even(len(pairs), _most_queries(batch, rows))
    for row in range(start, stop, rows):
        for pair in range(0, len(pairs), step):
            yield _Item(l, row, min(row + rows, stop), pairs[pair : pair + step])


def _most_rows(batch: Batch) -> int:
    return max(64, min(MAX_TILE_ROWS, TILE_FLOATS // batch.scaled.shape[1]))


def _most_queries(batch: Batch, rows: int) -> int:
    return max(64, min(TILE_PAIRS // rows, TILE_FLOATS // batch.scaled.shape[1]))


def _even(n: int, most: int) -> int:
    """Size of the pieces when n is cut into as few about equal ones of at most `most`."""
    return -(-n // -(-n // most))


def _filter_tile(batch: Batch, item: _Item, ceiling: Array) -> Survivors:
    """Rows of one tile whose score lies at or under ceiling (Q,) float64."""
    query = batch.queries_of(item.pairs)
    n = item.stop - item.start
    scores = _batch.multiply(batch, item.start, item.stop, query, n)
    terms = batch.terms.take(item.pairs)
    at, row, score = _batch.passing(scores, terms, ceiling.take(query))
    return Survivors(query.take(at), np.full(len(at), item.list), row + item.start, score)


def _first_bound(batch: Batch, k: int) -> Array:
    """Upper bound of each query's k-th smallest score, from its nearest rows -> (Q,) float32."""
    sizes = np.diff(batch.lists.offsets)[batch.probes]
    budget = max(
        4 * k, LEAST_BUDGET, min(ROW_BUDGET, int(sizes.sum(axis=1).mean()) // BUDGET_SHARE)
    )
    size = _minima.group_size(budget, k)
    before = np.cumsum(sizes, axis=1) - sizes
    taken = np.where(before < budget, np.minimum(sizes, budget), 0)
    groups = -(-taken // size)
    slot = np.cumsum(groups, axis=1) - groups
    width = int((slot[:, -1] + groups[:, -1]).max(initial=0))
    minima = np.full((len(batch.probes), width), np.inf, np.float32)
    slots = slot.reshape(-1)

    def reduce(item: _Item) -> None:
        query = batch.queries_of(item.pairs)
        padded = -(-(item.stop - item.start) // size) * size
        scores = _batch.multiply(batch, item.start, item.stop, query, padded)
        best = _minima.group_minima(scores, size) + batch.terms.take(item.pairs)[:, None]
        skipped = (item.start - int(batch.lists.offsets[item.list])) // size
        at = slots.take(item.pairs)[:, None] + np.arange(skipped, skipped + best.shape[1])
        minima[query[:, None], at] = best

    _threads.run(reduce, list(_nearest(batch, taken.reshape(-1), budget)))
    return _minima.kth_smallest(minima, k)


def _nearest(batch: Batch, taken: Array, budget: int) -> Iterator[_Item]:
    """The tiles of pass 1: up to `budget` rows of every list with the pairs that take any."""
    pairs = batch.order[taken[batch.order] > 0]
    list_of = batch.probes.reshape(-1)[pairs]
    cuts = np.flatnonzero(np.diff(list_of, prepend=-1, append=-1))
    for begin, end in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        l = int(list_of[begin])
        first = int(batch.lists.offsets[l])
        stop = min(int(batch.lists.offsets[l + 1]), first + budget)
        # a multiple of 8 rows, so that groups do not cross tiles
        rows = -(-_even(stop - first, _most_rows(batch)) // 8) * 8
        step = _most_queries(batch, rows)
        for row in range(first, stop, rows):
            for at in range(begin, end, step):
                yield _Item(l, row, min(row + rows, stop), pairs[at : min(at + step, end)])
