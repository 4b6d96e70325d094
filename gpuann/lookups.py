"""Searches of another shape, of every kind of index: within a radius, in given lists; and stored
rows by their ids.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np

from gpuann import arrays, filters, kinds, validate
from gpuann._nvtx import annotate
from gpuann.arrays import HostArray
from gpuann.backends.seam import Array
from gpuann.codecs import payloads
from gpuann.distributed.shard import names_of
from gpuann.engine import ivf
from gpuann.errors import bad_type, bad_value
from gpuann.filters import Filter
from gpuann.index import (
    IvfIndex,
    SearchShape,
    check_results,
    given_filter,
    keep_of,
    query_rows,
    search,
)
from gpuann.indexes import brute_force
from gpuann.metric import Metric, reported
from gpuann.params import WORKSPACE_LIMIT, IvfSearchParams

AnyIndex: TypeAlias = brute_force.Index | IvfIndex

_FIRST_K = 64  # results that a range search asks for at first, of every query
_MORE = 8  # times as many of those that had as many
_ROWS_AT_ONCE = 1 << 16
_LARGEST = 3.4e38  # of float32


class InRange(NamedTuple):
    """What lies within a radius, query after query; as FAISS gives it."""

    limits: HostArray
    """(n_queries + 1,) int64: results of query i are limits[i] ... limits[i + 1] - 1."""
    distances: HostArray
    """(n_found,) float32, of each query ordered by (distance, id)."""
    ids: HostArray
    """(n_found,) int64."""


@annotate("range_search")
def range_search(
    search_params: IvfSearchParams | None,
    index: AnyIndex,
    queries: Any,
    radius: float,
    filter: Any = None,
) -> InRange:
    """All rows within a radius of each query, among the lists that are probed.

    Parameters
    ----------
    search_params : SearchParams of the kind of index; None for brute force
    index : Index
    queries : array (n_queries, dim), float32, float16, int8 or uint8, host or device
    radius : float
        Of the metric: distances at most this, products of inner_product at least this.
    filter : ids that may be returned, optional; as in the search of the index

    Returns
    -------
    limits (n_queries + 1,) int64, distances (n_found,) float32, ids (n_found,) int64, on the host

    Notes
    -----
    Cost   searches for 64, 512, ... results of the queries that have as many. On CUDA the number of
           results of one query is limited as k is; the error says by how much.
    """
    where = f"{kinds.of_index(index)}.range_search"
    params = _checked(where, search_params, index)
    backend, most = index.backend, len(index)
    with backend.active():
        x = query_rows(where, backend, queries, index.dim)
        x = backend.get(x) if backend.holds(x) else x
    kept = given_filter(where, "filter", filter, queries, index)

    def scan(rows: HostArray, k: int, farthest: HostArray) -> tuple[Any, Any]:
        check_results(where, backend, "the number of results of a query", k, index.dim)
        own = None if kept is None else kept.some(where, "filter", rows, len(x), most)
        return _scan(where, index, params, x[rows], k, own, farthest)

    return within(where, index.metric, len(x), most, radius, scan)


def within(
    where: str,
    how: Metric,
    n_queries: int,
    n_rows: int,
    radius: Any,
    scan: Callable[[HostArray, int, HostArray], tuple[Any, Any]],
) -> InRange:
    """What lies within a radius. scan takes numbers of queries (n,), how many to find of each, and
    scan distances (n,) beyond which rows do not matter -> scan distances (n, k), ids (n, k).
    """
    edge = _scan_limit(where, how, radius)
    bound = np.float32(min(max(float(radius), -_LARGEST), _LARGEST))  # as distances are
    nothing = np.zeros(0, np.float32), np.zeros(0, np.int64)
    found = [nothing] * n_queries
    left, k = np.arange(n_queries if n_rows else 0), min(_FIRST_K, n_rows)
    while len(left):
        scanned, ids = scan(left, k, np.full(len(left), edge, np.float32))
        dists = reported(how, scanned)
        inside = dists >= bound if how == "inner_product" else dists <= bound
        inside &= ids >= 0
        full = inside[:, -1] & (k < n_rows)
        for i in np.flatnonzero(~full):
            found[left[i]] = dists[i][inside[i]], ids[i][inside[i]]
        left, k = left[full], min(k * _MORE, n_rows)
    limits = np.cumsum([0, *(len(ids) for _, ids in found)])
    columns = zip(*(found or [nothing]), strict=True)
    return InRange(limits, *(np.concatenate(column) for column in columns))


def _checked(where: str, params: Any, index: Any) -> IvfSearchParams | None:
    """Parameters that are for this index."""
    kinds.check_index(where, index)
    kinds.check_search_of(where, params, index)
    checked: IvfSearchParams | None = params
    return checked


def _scan_limit(where: str, how: Metric, radius: Any) -> float:
    """A scan distance that no row within the radius is beyond."""
    if isinstance(radius, bool) or not isinstance(radius, int | float | np.number):
        raise bad_type(where, "radius", "be a number", repr(radius))
    try:
        r = float(radius)
    except OverflowError:
        r = np.inf
    if not np.isfinite(r):
        raise bad_value(where, "radius", "be finite", radius)
    scanned = {"euclidean": r * abs(r), "cosine": 2 * r, "inner_product": -r}.get(how, r)
    return min(max(scanned + 1e-5 * abs(scanned) + 1e-30, -_LARGEST), _LARGEST)


def _scan(
    where: str,
    index: AnyIndex,
    params: IvfSearchParams | None,
    x: HostArray,
    k: int,
    kept: Filter | None,
    farthest: HostArray,
) -> tuple[Any, Any]:
    """Scan distances (n, k), ids (n, k) of host queries, none beyond `farthest` (n,)."""
    with index.backend.active():
        if isinstance(index, brute_force.Index):
            keep = brute_force.keep_of(where, index, kept, len(x))
            return brute_force.scan(index, x, k, WORKSPACE_LIMIT, farthest, keep)
        params = cast("IvfSearchParams", params)
        n_probes = min(params.n_probes, index.n_lists)
        check_results(where, index.backend, "n_probes", n_probes, index.core.coarse.axes.width)
        keep = keep_of(where, index, kept, len(x), n_probes)
        limit = params.workspace_limit
        return ivf.search(index.core, x, k, n_probes, limit, None, farthest, keep)


@annotate("search_preassigned")
def search_preassigned(
    search_params: IvfSearchParams,
    index: IvfIndex,
    queries: Any,
    k: int,
    lists: Any,
    neighbors: Any = None,
    distances: Any = None,
    filter: Any = None,
) -> tuple[Any, Any]:
    """The k nearest rows of each query in lists that the caller chose, as another quantiser would.

    Parameters
    ----------
    search_params : SearchParams of the kind of index; n_probes is not looked at
    index : Index of ivf_flat, ivf_pq or ivf_sq
    queries : array (n_queries, dim), host or device
    k : int
    lists : array (n_queries, n_probes) of integers, the lists of each query, nearest first; each
        once
    neighbors, distances, filter : as in the search of the index; a filter is only applied

    Returns
    -------
    distances (n_queries, k) float32, ids (n_queries, k) int64, where the queries are
    """
    where = f"{kinds.of_index(index)}.search_preassigned"
    validate.instance(where, "index", index, IvfIndex)
    params = cast("IvfSearchParams", _checked(where, search_params, index))
    core, backend = index.core, index.backend
    chosen = given_lists(where, lists, index.n_lists)
    check_results(where, backend, "n_probes", chosen.shape[1], core.coarse.axes.width)
    kept = given_filter(where, "filter", filter, queries, index)
    limit = params.workspace_limit

    def run(x: Array, k: int) -> tuple[Array, Array]:
        if len(x) != len(chosen):
            raise bad_value(where, "lists", f"have {len(x)} rows, as the queries", len(chosen))
        keep = None
        if kept is not None:
            keep = filters.Keep(kept.on(where, "filter", backend, len(x), len(index)), kept, False)
        probed = ivf.to_lists(core, x, backend.put(chosen))
        return ivf.search(core, x, k, chosen.shape[1], limit, probed, keep=keep)

    shape = SearchShape(backend, index.metric, index.dim, len(index))
    return search(where, shape, queries, k, neighbors, distances, run)


def given_lists(where: str, lists: Any, n_lists: int) -> HostArray:
    """Lists that a caller chose -> (n, n_probes) int32."""
    array = arrays.as_host(where, "lists", lists)
    if array.ndim != 2 or array.shape[1] == 0:
        raise bad_value(where, "lists", "have shape (n_queries, n_probes)", array.shape)
    if array.dtype.kind not in "iu":
        raise bad_type(where, "lists", "be integers", array.dtype)
    if array.size and (array.min() < 0 or array.max() >= n_lists):
        wrong = array.min() if array.min() < 0 else array.max()
        raise bad_value(where, "lists", f"be between 0 and {n_lists - 1}", int(wrong))
    ordered = np.sort(array, axis=1)
    twice = np.argwhere(ordered[:, 1:] == ordered[:, :-1])
    if len(twice):
        query, at = (int(i) for i in twice[0])
        got = f"{ordered[query, at]} twice for query {query}"
        raise bad_value(where, "lists", "come once for each query", got)
    return np.ascontiguousarray(array, np.int32)


@annotate("reconstruct")
def reconstruct(index: AnyIndex, ids: Any = None) -> HostArray:
    """Rows as the index has them, in the coordinates of the data.

    Parameters
    ----------
    index : Index
    ids : array (n,) of integers, optional; by default all rows, ascending by id

    Returns
    -------
    rows (n, dim) float32 on the host: whole ones as they were given; codes decoded, of normalised
        rows under cosine. Where rows are turned to more components than they have, codes have a
        part that no row has: a search counts it, this leaves it out.

    Notes
    -----
    Cost   the ids are sorted at every call.
    """
    where = f"{kinds.of_index(index)}.reconstruct"
    kinds.check_index(where, index)
    part: Any = index if isinstance(index, brute_force.Index) else index.core
    backend = index.backend
    with backend.active():
        position = positions(where, backend.get(part.lists.ids), ids)
        parts = [position[at : at + _ROWS_AT_ONCE] for at in range(0, len(position), _ROWS_AT_ONCE)]
        out = np.empty((len(position), index.dim), np.float32)
        for number, some in enumerate(parts):
            rows = backend.put(some)
            list_of = backend.xp.searchsorted(part.lists.offsets[1:], rows, side="right")
            x = backend.get(payloads.decoded(backend, part.payload, rows, list_of))
            if isinstance(part, ivf.Core) and not payloads.is_whole(part.payload):
                x = ivf.in_data(part, x)
            out[number * _ROWS_AT_ONCE :][: len(some)] = x
    return out


def positions(where: str, stored: HostArray, ids: Any) -> HostArray:
    """Where rows lie in storage, by their ids (n,); None for all, ascending -> (n,) int64."""
    order = np.argsort(stored, kind="stable")
    if ids is None:
        return order
    array = names_of(where, "ids", ids, None)
    if len(array) and not len(order):
        raise bad_value(where, "ids", "be in the index", f"{array[0]}, and it has no rows")
    place = np.searchsorted(stored[order], array)
    there = order[np.minimum(place, len(order) - 1)]
    missing = np.flatnonzero(stored[there] != array)
    if len(missing):
        raise bad_value(where, "ids", "be in the index", int(array[missing[0]]))
    return there
