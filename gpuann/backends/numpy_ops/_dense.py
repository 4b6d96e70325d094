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
SELECTED = 1 << 18  # scores that a thread selects among at a time
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

    Memory: 4 bytes per (query, probed row), and some 20 of those of SELECTED a thread.
    """
    n = len(batch.probes)
    products, begin = _all_products(batch)
    dists, ids = np.empty((n, wanted.k), np.float32), np.empty((n, wanted.k), np.int64)
    step = -(-n // max(1, -(-len(products) // SELECTED)))

    def some(start: int) -> None:
        queries = range(start, min(start + step, n))
        sizes, part = _select.n_scores(batch, queries), slice(queries.start, queries.stop)
        where = np.repeat((begin[part].reshape(-1) - _select.begins(sizes)), sizes.reshape(-1))
        where += np.arange(len(where))
        mine = products.take(where)
        dists[part], ids[part] = _select.select(batch, scorer, wanted, queries, mine)

    _threads.run(some, range(0, n, step))
    return dists, ids


def _all_products(batch: Batch) -> tuple[Array, Array]:
    """-q.r of every (pair, row), list by list and pair by pair -> (total,) float32; where the rows
    of each pair begin in it (Q, P) int64.
    """
    query, _ = np.divmod(batch.order, batch.probes.shape[1])
    sizes, n_pairs = np.diff(batch.lists.offsets), np.diff(batch.offsets)
    of_list = sizes * n_pairs
    products, block = np.empty(int(of_list.sum()), np.float32), _select.begins(of_list)
    begin = np.empty(batch.probes.shape, np.int64)
    begin.reshape(-1)[batch.order] = _select.begins(np.repeat(sizes, n_pairs))
    busy = np.flatnonzero(of_list)
    start, stop = (
        batch.lists.offsets.take(busy).tolist(),
        batch.lists.offsets.take(busy + 1).tolist(),
    )
    first, last = batch.offsets.take(busy).tolist(), batch.offsets.take(busy + 1).tolist()
    at = block.take(busy).tolist()

    def some(run: range) -> None:
        """Some busy lists that lie side by side, decoded together; a long list in pieces."""
        begin, end, pair = start[run.start], stop[run.stop - 1], first[run.start]
        scaled = batch.scaled.take(query[pair : last[run.stop - 1]], axis=0)[:, :-1]
        for origin in range(begin, end, _ROWS_AT_ONCE):
            rows = _tiles.rows(batch.payload, slice(origin, min(origin + _ROWS_AT_ONCE, end)))
            for l in run:
                n, skipped = last[l] - first[l], max(0, origin - start[l])
                mine = rows[start[l] + skipped - origin : stop[l] - origin]
                out = products[at[l] : at[l] + n * (stop[l] - start[l])].reshape(n, -1)
                asked = scaled[first[l] - pair : last[l] - pair]
                _batch.product(asked, mine, out[:, skipped : skipped + len(mine)])

    # one query a list, whole rows: products of a few us, which threads would only wait for
    alone = isinstance(batch.payload, FlatPayload) and 2 * len(busy) > len(query)
    small = (sum(stop) - sum(start)) * (batch.scaled.shape[1] - 1) < _WORTH_A_THREAD * len(busy)
    _threads.run(some, _side_by_side(start, stop), at_most=1 if alone and small else None)
    return products, begin


def _side_by_side(start: list[int], stop: list[int]) -> list[range]:
    """Runs of lists without a gap between them: one list, or up to _ROWS_AT_ONCE rows."""
    runs, begin = [], 0
    for l in range(1, len(start) + 1):
        if l == len(start) or start[l] > stop[l - 1] or stop[l] - start[begin] > _ROWS_AT_ONCE:
            runs.append(range(begin, l))
            begin = l
    return runs if start else []
