"""Selection where every score of a query is at hand: bound, filter and rescore whole rows."""

import numpy as np

from gpuann.backends.numpy_ops import _batch, _filter, _minima, _slack
from gpuann.backends.numpy_ops._batch import Batch
from gpuann.backends.numpy_ops._survivors import Scorer, Survivors, Wanted, finish
from gpuann.backends.seam import Array, FlatPayload


def n_scores(batch: Batch, queries: range) -> Array:
    """Rows of the lists that each of some queries probes, one after another -> (n, P) int64."""
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
    it is overwritten.
    """
    sizes = n_scores(batch, queries)
    begin, probes = begins(sizes), batch.probes[queries.start : queries.stop].reshape(-1)
    first_row = batch.lists.offsets.take(probes) - begin
    row = np.repeat(first_row, sizes.reshape(-1))
    row += np.arange(len(products))
    products += batch.lists.norms.take(row)
    terms = batch.terms.reshape(batch.probes.shape)[queries.start : queries.stop]
    if isinstance(batch.payload, FlatPayload):
        of_query = terms[:, 0]
    else:  # they differ by list
        products += np.repeat(terms.reshape(-1), sizes.reshape(-1))
        of_query = np.zeros(len(queries), np.float32)
    of_queries = sizes.sum(axis=1)
    if batch.keep is not None:
        products[~_kept(batch, queries, of_queries, row)] = _slack.NEVER
    scores = _padded(products, of_queries)
    size = _minima.group_size(scores.shape[1], wanted.k)
    bound = _minima.kth_smallest(_minima.group_minima(scores, size), wanted.k) + of_query
    at, column, score = _batch.passing(scores, of_query, ceiling(bound, wanted, queries))
    place = begins(of_queries).take(at) + column
    pair = np.searchsorted(begin, place, side="right") - 1
    survivors = Survivors(at + queries.start, probes.take(pair), row.take(place), score)
    return finish(survivors, scorer, wanted, queries)


def _kept(batch: Batch, queries: range, of_queries: Array, row: Array) -> Array:
    """Which of the probed rows the filter leaves -> (total,) bool."""
    bits = batch.keep
    if bits is None:
        raise ValueError("no filter")
    if bits.ndim == 1:
        return batch.allowed(bits, row)
    query = np.repeat(np.arange(queries.start, queries.stop), of_queries)
    return _filter.allowed_pairs(bits, query, batch.lists.ids.take(row))


def _padded(scores: Array, of_queries: Array) -> Array:
    """Scores one after another, so many of each query -> (n, width), about NEVER beyond.

    width is a multiple of 8, so that the minima of groups come out even.
    """
    width = -(-int(of_queries.max(initial=1)) // 8) * 8
    if (of_queries == width).all():
        return scores.reshape(len(of_queries), width)
    out = np.full((len(of_queries), width), _slack.NEVER, np.float32)
    out[np.arange(width) < of_queries[:, None]] = scores
    return out


def ceiling(bound: Array, wanted: Wanted, queries: range) -> Array:
    """Largest score (n,) float64 with which a row of these queries can still matter."""
    part = slice(queries.start, queries.stop)
    if wanted.limit is not None:
        bound = np.minimum(bound, wanted.limit[part])
    return bound + 2 * wanted.slack[part]
