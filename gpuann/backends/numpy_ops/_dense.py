"""Scans that keep every score: few rows in all, as in the coarse step, or few scores in all.

With few rows in all a tile of queries sees all of them at once. Where there is room for all scores,
each pair is multiplied once, and each row read once, which two passes do in part twice. The bound
then comes from the scores themselves, and the same filter, slack and rescoring follow.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from gpuann.backends.numpy_ops import _batch, _minima, _select, _threads, _tiles
from gpuann.backends.numpy_ops._batch import Batch
from gpuann.backends.numpy_ops._survivors import Scorer, Survivors, Wanted, finish
from gpuann.backends.seam import Array, FlatPayload

TILE_PAIRS = 1 << 19  # scores of one tile of queries: 2 MiB
TILE_FLOATS = 1 << 21  # of the tile itself: 8 MiB
_WORTH_A_THREAD = 1 << 15  # multiply-adds of the mean product: less is not worth a thread
SELECTED = 1 << 18  # scores that a thread selects among at a time
_ROWS_AT_ONCE = 4096  # of lists side by side that are decoded together, at most


def scan_one_list(batch: Batch, scorer: Scorer, wanted: Wanted) -> tuple[Array, Array]:
    """Every query against the only list -> dists (Q, k) float32, ids (Q, k) int64."""
    n, n_rows = len(batch.probes), int(batch.lists.offsets[-1])
    most = min(TILE_PAIRS // max(n_rows, 1), TILE_FLOATS // batch.scaled.shape[1])
    step = _threads.share(n, max(1, most))
    dists, ids = np.empty((n, wanted.k), np.float32), np.empty((n, wanted.k), np.int64)
    size = _minima.group_size(n_rows, wanted.k)
    padded = -(-n_rows // size) * size

    def one(start: int) -> None:
        queries = range(start, min(start + step, n))
        query = np.arange(queries.start, queries.stop)
        scores = _batch.multiply(batch, 0, n_rows, query, padded)
        terms = batch.terms[queries.start : queries.stop]
        bound = _minima.kth_smallest(_minima.group_minima(scores, size), wanted.k) + terms
        at, row, score = _batch.passing(scores, terms, _select.ceiling(bound, wanted, queries))
        survivors = Survivors(query.take(at), np.zeros(len(at), np.int64), row, score)
        part = slice(queries.start, queries.stop)
        dists[part], ids[part] = finish(survivors, scorer, wanted, queries)

    _threads.run(one, range(0, n, step))
    return dists, ids


def scan_few(batch: Batch, scorer: Scorer, wanted: Wanted) -> tuple[Array, Array]:
    """Each probed list once, every score kept -> dists (Q, k) float32, ids (Q, k) int64.

    Memory: 4 bytes per (query, probed row), and some 20 for each of SELECTED, or of one query, a
    thread.
    """
    n = len(batch.probes)
    products, begin = _all_products(batch)
    dists, ids = np.empty((n, wanted.k), np.float32), np.empty((n, wanted.k), np.int64)
    sizes = _select.n_rows_of(batch, range(n))
    most = SELECTED // max(1, int(sizes.sum(axis=1).max(initial=0)))
    step = max(1, n) if most >= n else _threads.share(n, max(1, most))

    def some(start: int) -> None:
        part = slice(start, min(start + step, n))
        first = begin[part].reshape(-1)
        spans = zip(first.tolist(), (first + sizes[part].reshape(-1)).tolist(), strict=True)
        mine = np.concatenate([products[slice(*span)] for span in spans])
        queries = range(part.start, part.stop)
        dists[part], ids[part] = _select.select(batch, scorer, wanted, queries, mine)

    _threads.run(some, range(0, n, step))
    return dists, ids


def _all_products(batch: Batch) -> tuple[Array, Array]:
    """-q.r of every (pair, row), list by list and pair by pair -> (total,) float32; where the rows
    of each pair begin in it (Q, P) int64.
    """
    sizes, n_pairs = np.diff(batch.lists.offsets), np.diff(batch.offsets)
    of_list, width = sizes * n_pairs, batch.scaled.shape[1]
    products, place = np.empty(int(of_list.sum()), np.float32), _select.begins(of_list)
    begin = np.empty(batch.probes.shape, np.int64)
    begin.reshape(-1)[batch.order] = _select.begins(np.repeat(sizes, n_pairs))
    query = batch.order // batch.probes.shape[1]
    busy = np.flatnonzero(of_list)
    columns = batch.lists.offsets, batch.lists.offsets[1:], batch.offsets, batch.offsets[1:], place
    lists = [_Busy(*l) for l in zip(*(c.take(busy).tolist() for c in columns), strict=True)]

    def some(piece: _Piece) -> None:
        rows = _tiles.rows(batch.payload, slice(piece.start, piece.stop))
        first = piece.lists[0].first
        scaled = batch.scaled.take(query[first : piece.lists[-1].last], axis=0)[:, :-1]
        for l in piece.lists:
            start, stop, n = max(l.start, piece.start), min(l.stop, piece.stop), l.last - l.first
            out = products[l.place : l.place + n * (l.stop - l.start)].reshape(n, -1)
            _batch.product(
                scaled[l.first - first : l.last - first],
                rows[start - piece.start : stop - piece.start],
                out[:, start - l.start : stop - l.start],
            )

    # one query a list, whole rows: products of a few us, which threads would only wait for
    alone = isinstance(batch.payload, FlatPayload) and 2 * len(busy) > len(query)
    small = int(sizes.take(busy).sum()) * width < _WORTH_A_THREAD * len(busy)
    pieces = list(_pieces(lists, max(1, TILE_FLOATS // width)))
    _threads.run(some, pieces, at_most=1 if alone and small else None)
    return products, begin


class _Busy(NamedTuple):
    """A list that is probed and has rows: storage rows [start, stop), pairs [first, last) of
    `Batch.order`, the place of its products.
    """

    start: int
    stop: int
    first: int
    last: int
    place: int


class _Piece(NamedTuple):
    """Storage rows [start, stop), which are decoded together, and the lists that they lie in."""

    lists: list[_Busy]
    start: int
    stop: int


def _pieces(lists: list[_Busy], most: int) -> Iterator[_Piece]:
    """Lists without a gap between them, up to `most` pairs and rows, of these also _ROWS_AT_ONCE; a
    longer list in several pieces.
    """
    begin, at_once = 0, min(most, _ROWS_AT_ONCE)
    for i in range(1, len(lists) + 1):
        first, last = lists[begin], lists[i - 1]
        if i < len(lists):
            follows = lists[i].start == last.stop
            few = lists[i].stop - first.start <= at_once
            if follows and few and lists[i].last - first.first <= most:
                continue
        for start in range(first.start, last.stop, at_once):
            yield _Piece(lists[begin:i], start, min(start + at_once, last.stop))
        begin = i
