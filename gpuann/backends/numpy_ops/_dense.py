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
_ROWS_AT_ONCE = 2048  # of lists side by side that are decoded together


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
    scaled = batch.scaled.take(query, axis=0)[:, :-1]
    place = (query * scores.shape[1] + begin[query, probe]).tolist()
    offsets, pairs = batch.lists.offsets.tolist(), batch.offsets.tolist()

    def some(lists: range) -> None:
        origin = offsets[lists.start]
        rows = _tiles.rows(batch.payload, origin, offsets[lists.stop])
        for l in lists:
            mine = rows[offsets[l] - origin : offsets[l + 1] - origin]
            first, last = pairs[l], pairs[l + 1]
            if last - first > _batch.FEW:
                block = _threads.scratch("block", (last - first, len(mine)), np.float32)
                _batch.product(scaled[first:last], mine, block)
                for i in range(first, last):
                    _slots(scores, place[i : i + 1], len(mine))[:] = block[i - first]
            else:
                for i in range(first, last, 2):  # two queries at a time, straight into place
                    two = _slots(scores, place[i : min(i + 2, last)], len(mine))
                    np.matmul(scaled[i : min(i + 2, last)], mine.T, out=two)

    sizes, probed = np.diff(batch.lists.offsets), np.diff(batch.offsets)
    # rows that need no decoding leave only products of a few us: one thread is faster
    threads = 1 if isinstance(batch.payload, FlatPayload) else None
    _threads.run(some, _neighbours(sizes, probed), at_most=threads)


def _slots(scores: Array, place: list[int], n: int) -> Array:
    """View (1 or 2, n) of the n scores from each flat place on; places ascend."""
    stride = (place[-1] - place[0]) * scores.itemsize if len(place) > 1 else scores.nbytes
    shape, strides = (len(place), n), (stride, scores.itemsize)
    return np.ndarray(shape, scores.dtype, scores, place[0] * scores.itemsize, strides)


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
