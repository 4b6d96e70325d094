"""The queries of one call as the products want them."""

from typing import NamedTuple

import numpy as np

from gpuann.backends.numpy_ops import _filter, _slack, _threads, _tiles
from gpuann.backends.numpy_ops.group import group
from gpuann.backends.seam import Array, Lists, Payload
from gpuann.metric import ScanMetric

_FEW = 12  # queries up to which products of two at a time beat BLAS' packed product


class Batch(NamedTuple):
    """Queries against the lists they probe. A pair is a (query, probe), numbered q * P + p."""

    scaled: Array
    """(Q, dim + 1) float32: -2q for L2, -q for inner product, and a 1 for the norm."""
    terms: Array
    """(Q * P,) float32, A(q, l)."""
    probes: Array
    """(Q, P) int32, nearest first."""
    order: Array
    """(Q * P,) int64, the pairs by list."""
    offsets: Array
    """(n_lists + 1,) int64, first of each list in `order`."""
    payload: Payload
    lists: Lists
    keep: Array | None
    kept: Array | None
    """(n_rows,) bool, what one filter for all queries leaves of the stored rows; None where it is
    looked up list by list."""

    def queries_of(self, pairs: Array) -> Array:
        """Query numbers of pairs (n,) int64 -> (n,) int64."""
        return pairs // self.probes.shape[1]

    def allowed(self, bits: Array, start: int, stop: int) -> Array:
        """Which of storage rows [start, stop) one bit set leaves -> (n,) bool."""
        if self.kept is not None:
            return self.kept[start:stop]
        return _filter.allowed(bits, self.lists.ids[start:stop])


def make(
    moved: Array,
    terms: Array | None,
    payload: Payload,
    lists: Lists,
    probes: Array,
    metric: ScanMetric,
    keep: Array | None,
) -> Batch:
    """Scale the queries (Q, dim) float32, already shifted, and sort their pairs by list."""
    scaled = np.empty((len(moved), moved.shape[1] + 1), np.float32)
    np.multiply(moved, -1 if metric == "inner_product" else -2, out=scaled[:, :-1])
    scaled[:, -1] = 1
    if terms is None:
        terms = _whole_row_terms(moved, probes.shape[1], metric)
    order, offsets = group(probes.reshape(-1), len(lists.radius))
    kept = None
    if keep is not None and keep.ndim == 1 and probes.size >= len(lists.radius):
        kept = _filter.allowed(keep, lists.ids)  # most lists are looked at, some of them often
    return Batch(scaled, terms.reshape(-1), probes, order, offsets, payload, lists, keep, kept)


def _whole_row_terms(moved: Array, n_probes: int, metric: ScanMetric) -> Array:
    """A(q, l) where lists have no centre: |q|^2, or 0 for inner product -> (Q * P,) float32."""
    if metric == "inner_product":
        return np.zeros(len(moved) * n_probes, np.float32)
    return np.repeat(np.einsum("qd,qd->q", moved, moved), n_probes)


def multiply(batch: Batch, start: int, stop: int, query: Array, padded: int) -> Array:
    """N - q.r of storage rows [start, stop) and n queries -> (n, padded) float32.

    Scratch of this thread. Padding columns and rows that the filter drops are about NEVER.
    """
    rows = _tiles.tile(batch.payload, batch.lists, start, stop, padded)
    if batch.keep is not None and batch.keep.ndim == 1:
        kept = batch.allowed(batch.keep, start, stop)
        rows[: stop - start, -1][~kept] = _slack.NEVER
    tile = _threads.scratch("queries", (len(query), batch.scaled.shape[1]), np.float32)
    batch.scaled.take(query, axis=0, out=tile, mode="clip")
    scores = _threads.scratch("scores", (len(query), padded), np.float32)
    product(tile, rows, scores)
    if batch.keep is not None and batch.keep.ndim == 2:
        kept = _filter.allowed_pairs(batch.keep, query[:, None], batch.lists.ids[start:stop])
        scores[:, : stop - start][~kept] = _slack.NEVER
    return scores


def product(queries: Array, rows: Array, out: Array) -> None:
    """out[i, j] = queries[i] . rows[j]: (n, D), (m, D) -> (n, m) float32."""
    n = len(queries)
    if n > _FEW or n % 2:
        np.matmul(queries, rows.T, out=out)
    else:  # a stack of products of two: BLAS does not pack for those, and it is one call
        twos = queries.reshape(n // 2, 2, -1)
        np.matmul(twos, rows.T, out=out.reshape(n // 2, 2, -1))


def passing(scores: Array, terms: Array, ceiling: Array) -> tuple[Array, Array, Array]:
    """Where scores (n, m) + terms (n,) lie at or under ceiling (n,): row, column, score."""
    highest = _slack.round_up(ceiling - terms)
    passed = _threads.scratch("passed", scores.shape, np.bool_)
    np.less_equal(scores, highest[:, None], out=passed)
    hit = np.flatnonzero(passed)
    at, column = np.divmod(hit, scores.shape[1])
    return at, column, scores.reshape(-1).take(hit) + terms.take(at)
