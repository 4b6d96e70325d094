"""Selection where every score of a query is at hand: bound, filter and rescore query by query."""

from collections.abc import Callable

import numpy as np

from gpuann.backends.numpy_ops import _filter, _slack, _threads
from gpuann.backends.numpy_ops._batch import Batch
from gpuann.backends.numpy_ops._survivors import Scorer, Survivors, Wanted, finish
from gpuann.backends.seam import Array

_QUERIES_AT_ONCE = 32  # whose survivors are rescored and sorted together


def each_query(
    batch: Batch,
    scorer: Scorer,
    wanted: Wanted,
    queries: range,
    products_of: Callable[[int], Array],
) -> tuple[Array, Array]:
    """Results of a range of queries -> dists (n, k) float32, ids (n, k) int64.

    products_of(q) gives -q.r of the rows of q's probed lists, one list after another, as a fresh
    (rows,) float32 array.
    """
    n = len(queries)
    dists, ids = np.empty((n, wanted.k), np.float32), np.empty((n, wanted.k), np.int64)
    step = max(1, min(_QUERIES_AT_ONCE, -(-n // _threads.get_num_threads())))

    def some(start: int) -> None:
        part = slice(start, start + step)
        these = queries[part]
        found = [_survivors_of(batch, wanted, q, products_of(q)) for q in these]
        survivors = Survivors(*(np.concatenate(columns) for columns in zip(*found, strict=True)))
        dists[part], ids[part] = finish(survivors, scorer, wanted, these)

    _threads.run(some, range(0, n, step))
    return dists, ids


def ceiling(bound: Array, wanted: Wanted, queries: range) -> Array:
    """Largest score (n,) float64 with which a row of these queries can still matter."""
    part = slice(queries.start, queries.stop)
    if wanted.limit is not None:
        bound = np.minimum(bound, wanted.limit[part])
    return bound + 2 * wanted.slack[part]


def _survivors_of(batch: Batch, wanted: Wanted, q: int, scores: Array) -> Survivors:
    """What can matter of one query's probed rows; `scores` holds their products, overwritten."""
    lists, probes = batch.lists, batch.probes[q].astype(np.int64)
    first = lists.offsets.take(probes)
    sizes = lists.offsets.take(probes + 1) - first
    ends = np.cumsum(sizes)
    spans = list(zip(first.tolist(), (first + sizes).tolist(), strict=True))
    scores += np.concatenate([lists.norms[a:b] for a, b in spans])
    scores += np.repeat(batch.terms[q * len(probes) : (q + 1) * len(probes)], sizes)
    if batch.keep is not None:
        bits = batch.keep if batch.keep.ndim == 1 else batch.keep[q]
        scores[~_filter.allowed(bits, np.concatenate([lists.ids[a:b] for a, b in spans]))] = (
            _slack.NEVER
        )
    bound = np.full(1, np.inf, np.float32)
    if len(scores) >= wanted.k:
        bound[0] = np.partition(scores, wanted.k - 1)[wanted.k - 1]
    hit = np.flatnonzero(scores <= _slack.round_up(ceiling(bound, wanted, range(q, q + 1))))
    probe = np.searchsorted(ends, hit, side="right")
    row = hit + (first - ends + sizes).take(probe)
    return Survivors(np.full(len(hit), q), probes.take(probe), row, scores.take(hit))
