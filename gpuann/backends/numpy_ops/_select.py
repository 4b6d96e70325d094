"""Selection where every score of a query is at hand: bound, filter and rescore whole rows."""

import numpy as np

from gpuann.backends.numpy_ops import _batch, _filter, _minima, _slack
from gpuann.backends.numpy_ops._batch import Batch
from gpuann.backends.numpy_ops._survivors import Scorer, Survivors, Wanted, finish
from gpuann.backends.seam import Array, FlatPayload


def n_rows_of(batch: Batch, queries: range) -> Array:
    """Rows of the lists that each of some queries probes -> (n, P) int64."""
    sizes: Array = np.diff(batch.lists.offsets)[batch.probes[queries.start : queries.stop]]
    return sizes


def begins(sizes: Array) -> Array:
    """Where each of some runs begins, if they lie one after another: sizes (any) -> (n,) int64."""
    sizes = sizes.reshape(-1)
    return np.cumsum(sizes) - sizes


def select(
    batch: Batch, scorer: Scorer, wanted: Wanted, queries: range, products: Array
) -> tuple[Array, Array]:
    """Results of some queries -> dists (n, k) float32, ids (n, k) int64.

    products (total,) float32: -q.r of every row that they probe, query by query and probe by probe;
    it is overwritten. Memory: some 15 bytes for each.
    """
    sizes, probes = n_rows_of(batch, queries), batch.probes[queries.start : queries.stop]
    list_of, begin = probes.reshape(-1).astype(np.int64), begins(sizes)
    start = batch.lists.offsets.take(list_of)
    stops = (start + sizes.reshape(-1)).tolist()
    spans = [slice(*span) for span in zip(start.tolist(), stops, strict=True)]
    products += np.concatenate([batch.lists.norms[span] for span in spans])
    terms = batch.terms.reshape(batch.probes.shape)[queries.start : queries.stop]
    if isinstance(batch.payload, FlatPayload):
        of_query = terms[:, 0]
    else:  # they differ by list
        products += np.repeat(terms.reshape(-1), sizes.reshape(-1))
        of_query = np.zeros(len(queries), np.float32)
    n_rows = sizes.sum(axis=1)
    if batch.keep is not None:
        products[~_kept(batch, batch.keep, queries, n_rows, spans)] = _slack.NEVER
    scores = _padded(products, n_rows)
    size = _minima.group_size(scores.shape[1], wanted.k)
    bound = _minima.kth_smallest(_minima.group_minima(scores, size), wanted.k) + of_query
    at, column, score = _batch.passing(scores, of_query, ceiling(bound, wanted, queries))
    place = begins(n_rows).take(at) + column
    pair = np.searchsorted(begin, place, side="right") - 1
    row = start.take(pair) + place - begin.take(pair)
    survivors = Survivors(at + queries.start, list_of.take(pair), row, score)
    return finish(survivors, scorer, wanted, queries)


def _kept(batch: Batch, keep: Array, queries: range, n_rows: Array, spans: list[slice]) -> Array:
    """Which of the probed rows the filter leaves -> (total,) bool."""
    if keep.ndim == 1:
        return np.concatenate([batch.allowed(keep, span) for span in spans])
    query = np.repeat(np.arange(queries.start, queries.stop), n_rows)
    ids = np.concatenate([batch.lists.ids[span] for span in spans])
    return _filter.allowed_pairs(keep, query, ids)


def _padded(scores: Array, n_rows: Array) -> Array:
    """Scores one after another, so many of each query -> (n, width), about NEVER beyond.

    width is a multiple of 8, so that the minima of groups come out even.
    """
    width = -(-int(n_rows.max(initial=1)) // 8) * 8
    if (n_rows == width).all():
        return scores.reshape(len(n_rows), width)
    out = np.full((len(n_rows), width), _slack.NEVER, np.float32)
    out[np.arange(width) < n_rows[:, None]] = scores
    return out


def ceiling(bound: Array, wanted: Wanted, queries: range) -> Array:
    """Largest score (n,) float64 with which a row of these queries can still matter."""
    part = slice(queries.start, queries.stop)
    if wanted.limit is not None:
        bound = np.minimum(bound, wanted.limit[part])
    return bound + 2 * wanted.slack[part]
