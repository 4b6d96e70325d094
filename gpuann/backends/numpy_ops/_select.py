"""Selection where every score of a query is at hand: bound, filter and rescore whole rows."""

import numpy as np

from gpuann.backends.numpy_ops import _batch, _minima, _slack
from gpuann.backends.numpy_ops._batch import Batch
from gpuann.backends.numpy_ops._survivors import Scorer, Survivors, Wanted, finish
from gpuann.backends.seam import Array, FlatPayload


def row_matrix(batch: Batch, queries: range) -> tuple[Array, Array]:
    """Room for the scores of some queries: a row each, its probed lists one after another.

    -> scores (n, width) float32, uninitialised; begin (n, P + 1) int64, where the rows of each
    probed list begin in their query's row, and where the last one ends.
    """
    sizes = np.diff(batch.lists.offsets)[batch.probes[queries.start : queries.stop]]
    begin = np.zeros((sizes.shape[0], sizes.shape[1] + 1), np.int64)
    np.cumsum(sizes, axis=1, out=begin[:, 1:])
    # a multiple of 8, so that the minima of groups come out even
    width = -(-int(begin[:, -1].max(initial=1)) // 8) * 8
    return np.empty((len(queries), width), np.float32), begin


def select(
    batch: Batch, scorer: Scorer, wanted: Wanted, queries: range, scores: Array, begin: Array
) -> tuple[Array, Array]:
    """Results of some queries -> dists (n, k) float32, ids (n, k) int64.

    scores, begin as `row_matrix` made them; scores holds -q.r of every probed row, and is
    overwritten.
    """
    _add_list_terms(batch, queries, scores, begin)
    terms = batch.terms.reshape(batch.probes.shape)[queries.start : queries.stop, 0]
    if not isinstance(batch.payload, FlatPayload):
        terms = np.zeros_like(terms)  # they differ by list and are in the scores already
    size = _minima.group_size(scores.shape[1], wanted.k)
    bound = _minima.kth_smallest(_minima.group_minima(scores, size), wanted.k) + terms
    at, column, score = _batch.passing(scores, terms, ceiling(bound, wanted, queries))
    n_probes = batch.probes.shape[1]
    # which probe a column belongs to: count the lists that begin at or before it
    key = begin[:, :-1] + (np.arange(len(queries)) * scores.shape[1])[:, None]
    probe = np.searchsorted(key.reshape(-1), at * scores.shape[1] + column, side="right") - 1
    list_of = batch.probes.reshape(-1)[queries.start * n_probes + probe].astype(np.int64)
    row = column - begin[:, :-1].reshape(-1)[probe] + batch.lists.offsets[list_of]
    return finish(Survivors(at + queries.start, list_of, row, score), scorer, wanted, queries)


def ceiling(bound: Array, wanted: Wanted, queries: range) -> Array:
    """Largest score (n,) float64 with which a row of these queries can still matter."""
    part = slice(queries.start, queries.stop)
    if wanted.limit is not None:
        bound = np.minimum(bound, wanted.limit[part])
    return bound + 2 * wanted.slack[part]


def _add_list_terms(batch: Batch, queries: range, scores: Array, begin: Array) -> None:
    """Add N(v), and A(q, l) where it differs by list; drop what the filter drops."""
    lists = batch.lists
    n_probes = batch.probes.shape[1]
    for i, q in enumerate(queries):
        probes = batch.probes[q]
        starts, stops = lists.offsets[probes].tolist(), lists.offsets[probes + 1].tolist()
        spans = list(zip(starts, stops, strict=True))
        end = int(begin[i, -1])
        mine = scores[i, :end]
        scores[i, end:] = _slack.NEVER
        mine += np.concatenate([lists.norms[a:b] for a, b in spans])
        if not isinstance(batch.payload, FlatPayload):
            mine += np.repeat(batch.terms[q * n_probes : (q + 1) * n_probes], np.diff(begin[i]))
        if batch.keep is not None:
            bits = batch.keep if batch.keep.ndim == 1 else batch.keep[q]
            kept = np.concatenate([batch.allowed(bits, slice(a, b)) for a, b in spans])
            mine[~kept] = _slack.NEVER
