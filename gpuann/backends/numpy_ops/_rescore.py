"""Canonical distances of many (query, row) pairs: list by list, as products in float64.

The canonical distance sums pair by pair in a written order; a product of matrices takes a fraction
of that time for each of its scores, but sums in whatever order BLAS likes. Both lie within `error`
of the true distance: where that whole interval rounds to one float32, it is the canonical
distance. What is left, very few of ordinary data, is summed in order.

With A = |q - s|^2, N = |x - s|^2, s the shift and u = 2^-53: n products, summed in any order,
fused or not, err by at most n u times the sum of their moduli (Higham, Accuracy and Stability of
Numerical Algorithms, 3.1). So A + N - 2 (q - s).(x - s) errs by (2 D + 10) u (A + N), the shift
adds 4 u (A + N), and the canonical distance errs by (D + 4) u times itself, which is at most
(2 D + 8) u (A + N); `error` is 4 (D + 8) u (A + N). For inner product s = 0, and both err by less:
(D + 2) u |q| |x|.

Cost: for each list 2 * queries * rows * D flop in float64, of those in a pair of the list; where
pairs are few beside that, D float64 differences of each pair, squared and added in order.
"""

from typing import NamedTuple

import numpy as np

from gpuann.backends.numpy_ops import _canonical, _threads
from gpuann.backends.numpy_ops._tiles import decode, pick
from gpuann.backends.numpy_ops.group import group
from gpuann.backends.seam import Array, FlatPayload, Payload
from gpuann.metric import ScanMetric

_LEAST_PAIRS = 128  # of a list: fewer do not repay the calls
_MOST_PAIRS = 1 << 14  # that one thread does at a time, by product ...
_IN_ORDER = 1 << 12  # ... or in order
_SCORES_A_PAIR = 20  # of a product in the time that one pair takes in order ...
_SCORES_A_ROW = 20  # ... and in the time in which a row, or a query, becomes float64
_PAIR_IN_COMPONENTS = 128  # finding a pair's score takes as long as so many components in order
_ROWS_A_PAIR = 8  # from the first to the last, or pairs are too few for a product
_BLOCK = 512  # queries, and rows, of one product at most ...
_BLOCK_FLOATS = 1 << 19  # ... and components of either: 4 MiB
_UNIT = 2.0**-53


class Pairs(NamedTuple):
    """n pairs of a query and a stored row."""

    query: Array
    """(n,) int64"""
    row: Array
    """(n,) int64, storage row."""
    list: Array
    """(n,) int64, the list that the row lies in."""

    def pick(self, which: Array | slice) -> "Pairs":
        """Some of them."""
        return Pairs(*(column[which] for column in self))


class Rescorer(NamedTuple):
    """Canonical distances between these queries and stored rows."""

    payload: Payload
    queries: Array
    """(Q, dim) float32"""
    metric: ScanMetric

    def distances(self, pairs: Pairs, *, threads: bool = False) -> Array:
        """-> (n,) float32. threads: on several; never from within one of ours."""
        out = np.empty(len(pairs.row), np.float32)
        at_most = None if threads else 1

        def by_product(which: Array) -> Array:
            out[which], left = self._by_product(pairs.pick(which))
            return which[left]

        def in_order(which: Array) -> None:
            some = pairs.pick(which)
            out[which] = _canonical.score(
                self.payload, self.queries, self.metric, some.query, some.row, some.list
            )

        of_lists, rest = _parts(pairs.list, self.queries.shape[1])
        left = np.concatenate([rest, *_threads.run(by_product, of_lists, at_most)])
        parts = [left[at : at + _IN_ORDER] for at in range(0, len(left), _IN_ORDER)]
        _threads.run(in_order, parts, at_most)
        return out

    def _by_product(self, pairs: Pairs) -> tuple[Array, Array]:
        """Distances of pairs of one list (n,) float32; which of them are left to be summed in
        order: those in doubt, or all, where a product does not pay.
        """
        n, dim = len(pairs.row), self.queries.shape[1]
        low, high = np.empty(n, np.float32), np.empty(n, np.float32)
        if np.ptp(pairs.row) >= _ROWS_A_PAIR * n:
            return low, np.arange(n)
        of_queries, of_rows = _Numbers(pairs.query), _Numbers(pairs.row)
        cost = of_queries.n * of_rows.n + _SCORES_A_ROW * (of_queries.n + of_rows.n)
        if cost > _SCORES_A_PAIR * n * (1 - _PAIR_IN_COMPONENTS / dim):
            return low, np.arange(n)
        (query, query_at), (row, row_at) = of_queries.distinct(), of_rows.distinct()
        block = max(1, min(_BLOCK, _BLOCK_FLOATS // dim))
        for first_row in range(0, len(row), block):
            which = row[first_row : first_row + block]
            stored, zero = decode(self.payload, which, np.full(len(which), pairs.list[0]))
            rows, norms = self._wide(stored, "wide_rows")
            for first_query in range(0, len(query), block):
                picked = pick(self.queries, query[first_query : first_query + block], "asked")
                queries, squares = self._wide(picked, "wide_queries")
                shape = len(queries), len(rows)
                products = _threads.scratch("wide_scores", shape, np.float64)
                np.matmul(queries, rows.T, out=products)
                i, j = query_at - first_query, row_at - first_row
                at = np.flatnonzero((i >= 0) & (i < shape[0]) & (j >= 0) & (j < shape[1]))
                i, j = i[at], j[at]
                size = squares.take(i) + norms.take(j)
                value = products.reshape(-1).take(i * shape[1] + j)
                value = -value if self.metric == "inner_product" else size - 2 * value
                if zero is not None:
                    value += zero.take(j)
                error = 4 * (dim + 8) * _UNIT * size
                low[at], high[at] = value - error, value + error
        in_doubt = np.flatnonzero(low != high)
        low += np.float32(0)  # -0.0 and 0.0 are one distance
        return low, in_doubt

    def _wide(self, x: Array, name: str) -> tuple[Array, Array]:
        """x (n, dim) less the shift -> float64, scratch of this thread; (n,) squared norms."""
        out = _threads.scratch(name, x.shape, np.float64)
        out[:] = x
        shift = self.payload.shift if isinstance(self.payload, FlatPayload) else None
        if shift is not None and self.metric == "sqeuclidean":
            out -= shift
        return out, np.einsum("nd,nd->n", out, out)


def _parts(list_of: Array, dim: int) -> tuple[list[Array], Array]:
    """Pairs of one list that one thread does at a time, the other pairs: their numbers.

    list_of (n,): the list of each pair.
    """
    counts = np.bincount(list_of)
    large = counts >= _LEAST_PAIRS
    if dim <= _PAIR_IN_COMPONENTS or not large.any():
        return [], np.arange(len(list_of))
    order, offsets = group(list_of.astype(np.int32), len(counts))
    lists = (order[offsets[l] : offsets[l + 1]] for l in np.flatnonzero(large))
    parts = [of[at : at + _MOST_PAIRS] for of in lists for at in range(0, len(of), _MOST_PAIRS)]
    return parts, np.flatnonzero(~large.take(list_of))


class _Numbers:
    """Those in x (n,). How many there are is found in a fraction of the time of the rest."""

    def __init__(self, x: Array) -> None:
        self._first = int(x.min())
        self._x = x - self._first
        self._found = np.zeros(int(self._x.max()) + 1, bool)
        self._found[self._x] = True
        self.n = int(np.count_nonzero(self._found))

    def distinct(self) -> tuple[Array, Array]:
        """Each once, ascending (self.n,); where in there each of x is (n,)."""
        place = np.cumsum(self._found) - 1
        return np.flatnonzero(self._found) + self._first, place.take(self._x)
