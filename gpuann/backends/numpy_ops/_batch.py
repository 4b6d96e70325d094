"""The queries of one call as the products want them."""

from typing import NamedTuple

import numpy as np

from gpuann.backends.numpy_ops import _filter, _slack, _threads, _tiles
from gpuann.backends.numpy_ops.group import group
from gpuann.backends.seam import Array, Lists, Payload
from gpuann.metric import ScanMetric

_ALONE = 3  # queries up to which a product each is fastest
_FEW = 16  # up to which products are so small that OpenBLAS does not copy the rows for them: ...
_FEW_SCORES = 1200  # ... its kernels for small products (AVX-512) take so many scores ...
_FEW_STEPS = 10**6  # ... and so many multiply-adds, see its sgemm_small_kernel_permit
_SCALED_FLOATS = 1 << 18  # of queries that a thread scales at a time
_SOME = 96  # up to which rows times queries beats queries times rows, and rows are read in place


class Batch(NamedTuple):
    """Queries against the lists they probe. A pair is a (query, probe), numbered q * P + p."""

    scaled: Array
    """(Q, dim + 1) float32: -2q for L2, -q for inner product, and a 1 for the norm."""
    squares: Array
    """(Q,) float32, |q|^2 to rounding."""
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

    def allowed(self, bits: Array, which: slice | Array) -> Array:
        """Which of some storage rows one bit set leaves -> bool."""
        if self.kept is not None:
            return self.kept[which]
        return _filter.allowed(bits, self.lists.ids[which])


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
    n, dim = moved.shape
    scaled, squares = np.empty((n, dim + 1), np.float32), np.empty(n, np.float32)

    def some(start: int) -> None:
        part = slice(start, start + step)
        np.multiply(moved[part], -1 if metric == "inner_product" else -2, out=scaled[part, :-1])
        np.einsum("qd,qd->q", moved[part], moved[part], out=squares[part])

    step = max(1, _SCALED_FLOATS // dim)
    _threads.run(some, range(0, n, step))
    scaled[:, -1] = 1
    if terms is None:  # lists have no centre
        terms = np.zeros_like(squares) if metric == "inner_product" else squares
        terms = np.repeat(terms, probes.shape[1])
    order, offsets = group(probes.reshape(-1), len(lists.radius))
    kept = None
    if keep is not None and keep.ndim == 1 and probes.size >= len(lists.radius):
        kept = _filter.allowed(keep, lists.ids)  # most lists are looked at, some of them often
    terms = terms.reshape(-1)
    return Batch(scaled, squares, terms, probes, order, offsets, payload, lists, keep, kept)


def multiply(batch: Batch, start: int, stop: int, query: Array, padded: int) -> Array:
    """N - q.r of storage rows [start, stop) and n queries -> (n, padded) float32.

    Scratch of this thread, C- or F-contiguous. Padding columns and rows that the filter drops are
    about NEVER.
    """
    width = batch.scaled.shape[1]
    queries = _threads.scratch("queries", (len(query), width), np.float32)
    batch.scaled.take(query, axis=0, out=queries, mode="clip")
    if len(query) <= _SOME:
        scores = _in_place(batch, start, stop, queries, padded)
    else:
        rows = _tiles.tile(batch.payload, batch.lists, start, stop, padded)
        if batch.keep is not None and batch.keep.ndim == 1:
            kept = batch.allowed(batch.keep, slice(start, stop))
            rows[: stop - start, -1][~kept] = _slack.NEVER
        scores = _threads.scratch("scores", (len(query), padded), np.float32)
        np.matmul(queries, rows.T, out=scores)
    if batch.keep is not None and batch.keep.ndim == 2:
        kept = _filter.allowed_pairs(batch.keep, query[:, None], batch.lists.ids[start:stop])
        scores[:, : stop - start][~kept] = _slack.NEVER
    return scores


def _in_place(batch: Batch, start: int, stop: int, queries: Array, padded: int) -> Array:
    """`multiply` for few queries (n, dim + 1), which do not repay a tile: stored float32 rows are
    read where they are.
    """
    n, dim = len(queries), queries.shape[1] - 1
    rows = _tiles.rows(batch.payload, slice(start, stop))
    norms = batch.lists.norms[start:stop]
    if padded > len(norms) or batch.keep is not None:
        norms = _threads.scratch("norms", (padded,), np.float32)
        norms[: stop - start] = batch.lists.norms[start:stop]
        norms[stop - start :] = _slack.NEVER
    if batch.keep is not None and batch.keep.ndim == 1:
        norms[: stop - start][~batch.allowed(batch.keep, slice(start, stop))] = _slack.NEVER
    if n <= _FEW:
        scores = _threads.scratch("scores", (n, padded), np.float32)
        product(queries[:, :dim], rows, scores[:, : stop - start])
    else:
        scores = _threads.scratch("scores", (padded, n), np.float32).T
        np.matmul(rows, queries[:, :dim].T, out=scores.T[: stop - start])
    if padded > stop - start:
        scores[:, stop - start :] = 0
    scores += norms
    return scores


def product(queries: Array, rows: Array, out: Array) -> None:
    """out[i, j] = queries[i] . rows[j]: (n, D), (m, D) -> (n, m) float32."""
    n, dim = queries.shape
    if n == 1 or n > _FEW:
        np.matmul(queries, rows.T, out=out)
        return
    if n <= _ALONE:
        np.matmul(queries[:, None], rows.T, out=out[:, None])
        return
    step = max(1, min(_FEW_SCORES, _FEW_STEPS // dim) // n)
    for at in range(0, len(rows), step):
        np.matmul(queries, rows[at : at + step].T, out=out[:, at : at + step])


def passing(scores: Array, terms: Array, ceiling: Array) -> tuple[Array, Array, Array]:
    """Where scores (n, m) + terms (n,) lie at or under ceiling (n,): row, column, score."""
    highest = _slack.round_up(ceiling - terms)[:, None]
    if scores.flags.c_contiguous:
        at, column, score = _under(scores, highest)
    else:
        column, at, score = _under(scores.T, highest.T)
    return at, column, score + terms.take(at)


def _under(scores: Array, highest: Array) -> tuple[Array, Array, Array]:
    """Where scores (n, m), C-contiguous, are at most `highest`: row, column, score."""
    passed = _threads.scratch("passed", scores.shape, np.bool_)
    np.less_equal(scores, highest, out=passed)
    hit = np.flatnonzero(passed)
    at, column = np.divmod(hit, scores.shape[1])
    return at, column, scores.reshape(-1).take(hit)
