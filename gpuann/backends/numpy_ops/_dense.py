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
_ROWS_AT_ONCE = 4096  # of lists side by side that are decoded together


def scan_one_list(batch: Batch, scorer: Scorer, wanted: Wanted) -> tuple[Array, Array]:
    """Every query against the only list -> dists (Q, k) float32, ids (Q, k) int64."""
    n, n_rows = len(batch.probes), int(batch.lists.offsets[-1])
    step = max(1, min(TILE_PAIRS // max(n_rows, 1), -(-n // _threads.get_num_threads())))
    dists, ids = np.empty((n, wanted.k), np.float32), np.empty((n, wanted.k), np.int64)
    size = _minima.group_size(n_rows, wanted.k)
    padded = -(-n_rows // size) * size

    def one(start: int) -> None:
        queries = range(start, min(start + step, n))
        query = np.arange(queries.start, queries.stop)
        scores = _batch.multiply(batch, 0, n_rows, query, padded)
        terms = batch.terms[queries.start : queries.stop]
        folded = _threads.scratch("folded", scores.shape, np.float32)
        folded[:] = scores
        bound = _minima.kth_smallest(_minima.group_minima(folded, size), wanted.k) + terms
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
    spare = np.append(query, 0)  # a row more, so that every list has an even number at hand
    scaled = batch.scaled.take(spare, axis=0)[:, :-1]
    row_of, column = query.tolist(), begin[query, probe].tolist()
    offsets, pairs = batch.lists.offsets.tolist(), batch.offsets.tolist()

    def some(lists: range) -> None:
        origin = offsets[lists.start]
        rows = _tiles.rows(batch.payload, origin, offsets[lists.stop])
        for l in lists:
            n = offsets[l + 1] - offsets[l]
            mine = rows[offsets[l] - origin : offsets[l + 1] - origin]
            first, last = pairs[l], pairs[l + 1]
            even = first + (last - first + 1) // 2 * 2
            block = _threads.scratch("block", (even - first, n), np.float32)
            _batch.product(scaled[first:even], mine, block)
            for i in range(first, last):
                scores[row_of[i], column[i] : column[i] + n] = block[i - first]

    sizes, probed = np.diff(batch.lists.offsets), np.diff(batch.offsets)
    # one query a list, whole rows: products of a few us, which threads would only wait for
    alone = isinstance(batch.payload, FlatPayload) and 2 * np.count_nonzero(probed) > len(query)
    _threads.run(some, _neighbours(sizes, probed), at_most=1 if alone else None)


def _neighbours(sizes: Array, probed: Array) -> list[range]:
    """Runs of probed lists that lie side by side, of about _ROWS_AT_ONCE rows."""
    runs: list[range] = []
    busy = np.flatnonzero(sizes * probed).tolist()
    n_rows = 0
    for l in busy:
        if runs and runs[-1].stop == l and n_rows + sizes[l] <= _ROWS_AT_ONCE:
            runs[-1] = range(runs[-1].start, l + 1)
            n_rows += int(sizes[l])
        else:
            runs.append(range(l, l + 1))
            n_rows = int(sizes[l])
    return runs
