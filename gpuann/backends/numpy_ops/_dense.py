"""Scans that keep every score: few rows in all, as in the coarse step, or few queries a list.

With few queries a list the product waits for memory, so rows are read once and every score is
kept; with few rows in all a tile of queries sees all of them at once. The bound then comes from
the scores themselves, and the same filter, slack and rescoring follow.
"""

import numpy as np

from gpuann.backends.numpy_ops import _batch, _minima, _select, _threads, _tiles
from gpuann.backends.numpy_ops._batch import Batch
from gpuann.backends.numpy_ops._survivors import Scorer, Survivors, Wanted, finish
from gpuann.backends.seam import Array, FlatPayload

TILE_PAIRS = 1 << 19  # scores of one tile of queries: 2 MiB
TILE_FLOATS = 1 << 21  # of the tile itself: 8 MiB
_WORTH_A_THREAD = 1 << 15  # multiply-adds of the mean product: less is not worth a thread
_ROWS_AT_ONCE = 4096  # of lists side by side that are decoded together


def scan_one_list(batch: Batch, scorer: Scorer, wanted: Wanted) -> tuple[Array, Array]:
    """Every query against the only list -> dists (Q, k) float32, ids (Q, k) int64."""
    n, n_rows = len(batch.probes), int(batch.lists.offsets[-1])
    most = min(TILE_PAIRS // max(n_rows, 1), TILE_FLOATS // batch.scaled.shape[1])
    step = max(1, min(most, -(-n // _threads.get_num_threads())))
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

    Memory: 4 bytes per (query, probed row), twice.
    """
    queries = range(len(batch.probes))
    scores, begin = _select.row_matrix(batch, queries)
    _all_products(batch, scores, begin)
    return _select.select(batch, scorer, wanted, queries, scores, begin)


def _all_products(batch: Batch, scores: Array, begin: Array) -> None:
    """-q.r of every (pair, row) -> scores (Q, width), laid out as `_select.row_matrix` has it."""
    n_probes = batch.probes.shape[1]
    query, probe = np.divmod(batch.order, n_probes)
    scaled = batch.scaled.take(query, axis=0)[:, :-1]
    row_of, column = query.tolist(), begin[query, probe].tolist()
    starts, stops = batch.lists.offsets[:-1], batch.lists.offsets[1:]
    busy = np.flatnonzero((stops > starts) & (batch.offsets[1:] > batch.offsets[:-1]))
    start, stop = starts.take(busy).tolist(), stops.take(busy).tolist()
    first, last = batch.offsets.take(busy).tolist(), batch.offsets.take(busy + 1).tolist()

    def some(run: range) -> None:
        """Some busy lists that lie side by side, decoded together; a long list in pieces."""
        begin, end = start[run.start], stop[run.stop - 1]
        for origin in range(begin, end, _ROWS_AT_ONCE):
            rows = _tiles.rows(batch.payload, slice(origin, min(origin + _ROWS_AT_ONCE, end)))
            for l in run:
                from_row = max(start[l], origin)
                mine = rows[from_row - origin : stop[l] - origin]
                pairs, skipped = range(first[l], last[l]), from_row - start[l]
                if len(pairs) == 1:  # straight into place
                    i, at = pairs[0], column[pairs[0]] + skipped
                    out = scores[row_of[i] : row_of[i] + 1, at : at + len(mine)]
                    np.matmul(scaled[i : i + 1], mine.T, out=out)
                    continue
                block = _threads.scratch("block", (len(pairs), len(mine)), np.float32)
                _batch.product(scaled[pairs.start : pairs.stop], mine, block)
                for i, found in zip(pairs, block, strict=True):
                    at = column[i] + skipped
                    scores[row_of[i], at : at + len(mine)] = found

    # one query a list, whole rows: products of a few us, which threads would only wait for
    alone = isinstance(batch.payload, FlatPayload) and 2 * len(busy) > len(query)
    small = (sum(stop) - sum(start)) * scaled.shape[1] < _WORTH_A_THREAD * len(busy)
    _threads.run(some, _side_by_side(start, stop), at_most=1 if alone and small else None)


def _side_by_side(start: list[int], stop: list[int]) -> list[range]:
    """Runs of lists without a gap between them: one list, or up to _ROWS_AT_ONCE rows."""
    runs, begin = [], 0
    for l in range(1, len(start) + 1):
        if l == len(start) or start[l] > stop[l - 1] or stop[l] - start[begin] > _ROWS_AT_ONCE:
            runs.append(range(begin, l))
            begin = l
    return runs if start else []
