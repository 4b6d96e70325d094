"""The seam: the ten operations that a backend defines, and the arrays that cross it.

A backend is a module (`numpy_ops`, `cuda_ops`) with these ten functions and nothing else; a test
compares names, parameters, defaults and annotations with `Ops`. Inputs arrive validated,
C-contiguous and on the backend's device; outputs are fresh arrays there.

Conventions of everything below the public API: smaller is better, results are ordered by
(distance, id), a missing result is (+inf, -1). `metric` is "sqeuclidean" or "inner_product".

Every search operation answers with the *canonical* distance: decoded row against query,
differences squared (or products) in float64, summed in a fixed order (pairwise, with eight
interleaved sums: `numpy_ops/_canonical.py`), rounded once to float32. It depends on the row
and the query alone, not on the batch, the tile, the thread, the path or the machine.
"""

from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from gpuann.metric import ScanMetric

Array: TypeAlias = npt.NDArray[Any]
"""An array on the backend's device; the docstring beside it gives shape and dtype."""


class Lists(NamedTuple):
    """Inverted lists: which stored rows belong together. Row i of list l is offsets[l] + i."""

    offsets: Array
    """(n_lists + 1,) int64, first storage row of each list."""
    ids: Array
    """(n_rows,) int64, the caller's name of each storage row."""
    norms: Array
    """(n_rows,) float32, N(v): |c_l + r(v)|^2 for L2, 0 for inner product."""
    radius: Array
    """(n_lists,) float32, at least 2 |c_l| + |c_l + r(v)| for every row; bounds rounding errors."""


class FlatPayload(NamedTuple):
    """Rows stored whole: v = vectors * scale, scanned as v - shift."""

    vectors: Array
    """(n_rows, dim) float32, float16, int8 or uint8."""
    scale: Array | None
    """(n_rows,) float32 for cosine: 1 / |row|, and 0 for a zero row; else None."""
    shift: Array | None
    """(dim,) float32, subtracted from rows and queries before they are multiplied; None for the
    origin. It keeps the bits of data far from the origin; distances do not depend on it."""
    halves: Array | None = None
    """(n_rows + 31, words) uint32: what is scanned as float16, two a word, zero-padded to a
    multiple of 16 components and scaled by list (`cuda_ops/_halves.py`); the last 31 rows are read
    over. Tensor cores take it instead of the vectors, which decide as ever; None: those are
    converted."""


class PqPayload(NamedTuple):
    """Rows stored as product-quantised residuals: v = centers[l] + codebooks[m, codes[:, m]]."""

    codes: Array
    """(n_rows, row_bytes) uint8: pq_dim codes of 4 to 8 bits side by side, see `packing`."""
    codebooks: Array
    """(pq_dim, pq_book_size, pq_len) float32, pq_book_size = 2^bits."""
    centers: Array
    """(n_lists, pq_dim * pq_len) float32, zero-padded."""


class SqPayload(NamedTuple):
    """Rows stored as scalar codes: v = centers[l] + r(v), r(v) = middle + step * codes."""

    codes: Array
    """(n_rows, dim) int8."""
    step: Array
    """(dim,) float32, 0 or more."""
    middle: Array
    """(dim,) float32, what code 0 stands for."""
    centers: Array | None
    """(n_lists, dim) float32 where residuals are coded; None: the rows themselves are."""


Payload: TypeAlias = FlatPayload | PqPayload | SqPayload


class Ops(Protocol):
    """The ten operations. `x`, `queries` and `centers` are float32 unless said otherwise."""

    def assign(self, x: Array, centers: Array, rescore: bool = True) -> tuple[Array, Array]:
        """Nearest centre of every row, for B independent problems.

        x (B, N, D), centers (B, C, D) -> labels (B, N) int32, dists (B, N) float32 canonical
        squared L2, or with rescore False to rounding (the labels are the same). Ties go to the
        smaller centre.
        """
        ...

    def accumulate(self, x: Array, labels: Array, n_clusters: int) -> tuple[Array, Array]:
        """Sum and number of the rows of every cluster: what shards add up.

        x (B, N, D), labels (B, N) int32 -> sums (B, C, D) float64, counts (B, C) int64. The same
        input gives the same bits every time.
        """
        ...

    def group(self, keys: Array, n_groups: int) -> tuple[Array, Array]:
        """Stable counting sort: rows into lists, (query, probe) pairs into lists.

        keys (N,) int32 in [0, n_groups) -> order (N,) int64 so that keys[order] ascends, offsets
        (n_groups + 1,) int64.
        """
        ...

    def pairwise(self, x: Array, y: Array, metric: ScanMetric) -> Array:
        """All distances: x (Q, D), y (N, D) -> (Q, N) float32, to rounding, not canonical.

        inner_product: minus the product, summed in float64 in any order and rounded once, so it is
        the same everywhere where 53 bits hold every partial sum (`codecs.axes`).
        """
        ...

    def select_k(self, dists: Array, ids: Array | None, k: int) -> tuple[Array, Array]:
        """The k smallest of each row: dists (Q, N) float32, ids (Q, N) int64 or None for columns.

        -> dists (Q, k) float32, ids (Q, k) int64, padded with (+inf, -1).
        """
        ...

    def build_lut(
        self, queries: Array, codebooks: Array, dtype: npt.DTypeLike = np.float32
    ) -> Array:
        """Look-up tables, one per query: queries (Q, D) (2q for L2, q for inner product),
        codebooks (M, J, D / M) -> lut (Q, M, J), lut[q, m, j] = queries[q, m] . codebooks[m, j].
        """
        ...

    def scan_lut(
        self,
        lut: Array,
        queries: Array,
        terms: Array,
        payload: PqPayload,
        lists: Lists,
        probes: Array,
        k: int,
        metric: ScanMetric,
        keep: Array | None = None,
        limit: Array | None = None,
    ) -> tuple[Array, Array]:
        """Query-major scan of the probed lists with look-up tables, fused with the selection.

        lut (Q, M, J) float32 or float16; the rest as in `scan_lists`.
        """
        ...

    def scan_lists(
        self,
        queries: Array,
        terms: Array | None,
        payload: Payload,
        lists: Lists,
        probes: Array,
        k: int,
        metric: ScanMetric,
        keep: Array | None = None,
        limit: Array | None = None,
        rescore: bool = True,
    ) -> tuple[Array, Array]:
        """List-major scan of the probed lists, fused with the selection.

        queries (Q, D); probes (Q, P) int32, distinct, nearest first (on a device also -1 for
        none, for queries that are not finite); terms (Q, P) float32 is
        A(q, l) of every pair, or None where no centre is added to rows; keep is None, one bit set
        (words,) uint32 over the ids or one per query (Q, words); limit (Q,) float32 drops rows
        farther than it; rescore False lets distances be scan scores, with the same k rows for each
        query (the coarse step, and what is refined after, which need the set). -> dists (Q, k)
        float32 canonical, ids (Q, k) int64.
        """
        ...

    def merge_topk(self, dists: Array, ids: Array, k: int) -> tuple[Array, Array]:
        """Merge S results over disjoint rows: dists, ids (S, Q, k') -> (Q, k); associative."""
        ...

    def refine(
        self,
        queries: Array,
        vectors: Array,
        candidates: Array,
        ids: Array,
        k: int,
        metric: ScanMetric,
        scale: Array | None = None,
    ) -> tuple[Array, Array]:
        """Canonical distances of given candidates, the k best of each query.

        vectors (N, D) any stored dtype, candidates (Q, R) int64 rows of `vectors` or -1, ids
        (Q, R) int64 their names, scale (N,) float32 as in `FlatPayload` -> dists, ids (Q, k).
        """
        ...
