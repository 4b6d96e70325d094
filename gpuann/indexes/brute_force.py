"""Brute force: exact nearest neighbours over all rows; the engine with one list."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuann import arrays, backends, validate
from gpuann import metric as metrics
from gpuann._nvtx import annotate
from gpuann.arrays import HostArray
from gpuann.backends import Backend
from gpuann.backends.seam import FlatPayload, Lists
from gpuann.codecs import vectors
from gpuann.codecs.flat import FlatCodec
from gpuann.engine import lists, survivors
from gpuann.engine.ivf import in_batches, without_direction
from gpuann.filters import Filter, Keep
from gpuann.hints import Hints
from gpuann.index import SearchShape, given_filter
from gpuann.index import search as run_search
from gpuann.metric import Metric
from gpuann.params import LEAST_WORKSPACE, NO_ARGUMENT, WORKSPACE_LIMIT


@dataclass(frozen=True, eq=False, repr=False)
class Index(Hints):
    """The rows and their norms: immutable."""

    backend: Backend
    metric: Metric
    payload: FlatPayload
    lists: Lists
    next_id: int = 0
    """One more than the largest id that a row of it ever had: `extend` goes on from there."""

    def __len__(self) -> int:
        return len(self.payload.vectors)

    @property
    def dim(self) -> int:
        """Components of a row."""
        return int(self.payload.vectors.shape[1])

    @property
    def device(self) -> str:
        """Its name: "cpu" or "cuda:N"."""
        return self.backend.device

    def __repr__(self) -> str:
        dtype, n_bytes = self.payload.vectors.dtype, self.nbytes
        return (
            f"brute_force.Index({len(self):,} rows, dim {self.dim}, {self.metric}, {dtype}, "
            f"{self.device}, {n_bytes / 1e6:.1f} MB)"
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays of the index, also of rows that it only refers to."""
        return int(sum(a.nbytes for a in (*self.payload, *self.lists) if a is not None))


@annotate("brute_force.build")
def build(
    dataset: Any,
    metric: str = "sqeuclidean",
    metric_arg: float = 2.0,
    *,
    device: str | None = None,
    resources: None = None,
) -> Index:
    """Norms of all rows; on the CPU the rows themselves are not copied.

    Parameters
    ----------
    dataset : array (n_rows, dim), float32, float16, int8 or uint8, host or device; a memory-map; or
        chunks of rows, which are put together
    metric : {"sqeuclidean", "euclidean", "inner_product", "cosine"}, default "sqeuclidean"
    metric_arg : float, default 2.0; cuVS's, no metric here has an argument
    device : {"cpu", "cuda", "cuda:N"}, optional; default: CUDA if there is one
    resources : None; cuVS's, work goes to CuPy's current stream

    Returns
    -------
    Index : on the CPU it refers to `dataset` if that is C-contiguous, so do not change it after

    Notes
    -----
    Cost   one pass over the rows.
    Memory 12 bytes a row (16 under cosine), and a copy of rows that are not C-contiguous; on CUDA
           the rows, and 2 bytes a component more of float32 and float16 ones.
    """
    where = "brute_force.build"
    validate.no_resources(where, resources)
    validate.only(where, "metric_arg", metric_arg, *NO_ARGUMENT)
    how = metrics.check(where, metric)
    backend = backends.choose(where, device)
    rows = arrays.Rows(where, "dataset", dataset)
    rows.check()
    return build_part(backend, rows, how)


@annotate("brute_force.search")
def search(
    index: Index,
    queries: Any,
    k: int,
    neighbors: HostArray | None = None,
    distances: HostArray | None = None,
    prefilter: Any = None,
    *,
    workspace_limit: int = WORKSPACE_LIMIT,
    resources: None = None,
) -> tuple[HostArray, HostArray]:
    """The k nearest of all rows, exactly.

    Parameters
    ----------
    index : Index
    queries : array (n_queries, dim), float32, float16, int8 or uint8, host or device; or chunks
        of such rows
    k : int
    neighbors : array (n_queries, k) int64, optional, to write the ids into
    distances : array (n_queries, k) float32, optional, to write the distances into; both are
        where the queries are
    prefilter : rows that may be returned, optional
        One of gpuann.filters, booleans (n_rows,) or (n_queries, n_rows), or a list of ids.
    workspace_limit : int, default 1073741824; bytes that a search may take beside its result,
        and some 20 MB a thread
    resources : None; cuVS's, work goes to CuPy's current stream

    Returns
    -------
    distances (n_queries, k) float32, ids (n_queries, k) int64
        Ordered by (distance, id); filled up with (+inf, -1) where k exceeds the number of rows.
        inner_product gives the product, largest first, filled up with (-inf, -1).

    Notes
    -----
    Cost   2 * n_queries * n_rows * dim flop, as matrix products.
    Memory the result, workspace_limit bytes, and some 20 MB a thread.
    """
    where = "brute_force.search"
    validate.no_resources(where, resources)
    validate.instance(where, "index", index, Index)
    limit = validate.integer(where, "workspace_limit", workspace_limit, LEAST_WORKSPACE)

    kept = given_filter(where, "prefilter", prefilter, queries, index)

    def run(x: Any, k: int) -> tuple[Any, Any]:
        return scan(index, x, k, limit, keep=keep_of(where, index, kept, len(x)))

    shape = SearchShape(index.backend, index.metric, index.dim, len(index))
    return run_search(where, shape, queries, k, neighbors, distances, run)


def keep_of(where: str, index: Index, kept: Filter | None, n_queries: int) -> Keep | None:
    """A filter as `scan` takes it."""
    if kept is None:
        return None
    words = kept.on(where, "prefilter", index.backend, n_queries, len(index))
    exhaustive = survivors.is_exhaustive(kept, len(index), index.dim, 1, 1)
    return Keep(words, kept, exhaustive)


def scan(
    index: Index,
    queries: Any,
    k: int,
    workspace_limit: int,
    farthest: Any = None,
    keep: Keep | None = None,
    *,
    raw: bool = False,
) -> tuple[Any, Any]:
    """queries (n, dim) on the host or the device, checked -> scan distances (n, k) float32, ids
    (n, k) int64, where the queries are. farthest (n,) float32: scan distances beyond which rows do
    not matter; keep: the filter; raw: leave `without_direction` to the caller, who merges first.
    """
    backend, how = index.backend, metrics.scan_metric(index.metric)

    def one(x: Any, found: int, part: slice) -> tuple[Any, Any]:
        within = None if farthest is None else backend.put(farthest[part])
        probes = backend.xp.zeros((len(x), 1), backend.xp.int32)
        payload, stored = index.payload, index.lists
        if keep is not None and keep.exhaustive:
            payload, stored = survivors.of(backend, payload, stored, keep, index)
        words = None if keep is None else keep.of(part)
        near, ids = backend.ops.scan_lists(
            x, None, payload, stored, probes, found, how, keep=words, limit=within
        )
        return (near if raw else without_direction(index.metric, x, near)), ids

    return in_batches(backend, index.metric, queries, k, len(index), 1, workspace_limit, one)


def build_part(
    backend: Backend,
    rows: arrays.Rows,
    how: Metric,
    ids: HostArray | None = None,
    *,
    searched: bool = True,
) -> Index:
    """An index of checked rows; ids (n_rows,) int64 are their names, None for row numbers. searched
    False: it is only taken apart again.
    """
    next_id = rows.n_rows if ids is None else int(ids.max()) + 1
    with backend.active():
        names = None if ids is None else backend.put(ids)
        return _build(backend, rows, how, names, next_id, searched=searched)


def _build(
    backend: Backend, rows: arrays.Rows, how: Metric, ids: Any, next_id: int, *, searched: bool
) -> Index:
    xp = backend.xp
    sample = rows.take(np.linspace(0, rows.n_rows - 1, min(rows.n_rows, 4096)).astype(np.int64))
    shift = vectors.choose_shift(vectors.as_float(np, sample, how), how)
    on_device = None if shift is None else backend.put(shift)
    codec = FlatCodec(how, on_device)
    parts = [codec.measure(backend, backend.put(chunk)) for _, chunk in rows.chunks()]
    norms = xp.concatenate([part.norms for part in parts])
    scale = xp.concatenate([part.scale for part in parts]) if how == "cosine" else None
    radius = max(float(part.reach.max()) for part in parts)
    one = lists.one_list(backend, norms, radius, ids)
    payload = FlatPayload(backend.put(rows.whole()), scale, on_device)
    if searched:
        payload = backend.prepared(payload, one)
    backend.synchronize()  # the index may be searched on another stream
    return Index(backend, how, payload, one, next_id)
