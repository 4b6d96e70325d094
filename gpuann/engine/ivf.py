"""The engine: one inverted-file index for every codec, and its search.

    search  nearest n_probes centres of each query -> scan of those lists -> (distances, ids)

Source: Sivic and Zisserman, "Video Google", ICCV 2003 (inverted lists); Jegou et al. 2011 (PQ).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gpuann import metric
from gpuann.arrays import HostArray
from gpuann.backends import Backend
from gpuann.backends.seam import Array, FlatPayload, Lists, Payload, PqPayload
from gpuann.codecs import axes, vectors
from gpuann.codecs.axes import Axes
from gpuann.engine import plan, survivors
from gpuann.filters import Keep
from gpuann.metric import Metric

_PAIR_FLOATS = 1 << 22  # of given (query, list) pairs at a time, in float64


class Coarse(NamedTuple):
    """The coarse quantiser: centres, searched by brute force."""

    centers: Array
    """(n_lists, width) float32, in these axes."""
    axes: Axes
    payload: FlatPayload
    lists: Lists


@dataclass(frozen=True, eq=False)
class Core:
    """A built index: immutable; arrays on `backend`'s device."""

    backend: Backend
    metric: Metric
    dim: int
    coarse: Coarse
    payload: Payload
    lists: Lists


class Probed(NamedTuple):
    """The nearest lists of some queries."""

    to_center: Array
    """(n, n_probes) float32, scan distance of the query to the list's centre, to rounding."""
    lists: Array
    """(n, n_probes) int32, nearest first."""


def probe(core: Core, queries: Array, n_probes: int, workspace_limit: int) -> Probed:
    """The n_probes nearest lists of queries (n, dim), checked; where the queries are."""
    n_lists = len(core.coarse.centers)

    def scan(x: Array, found: int, _: slice) -> tuple[Array, Array]:
        return nearest_lists(core, x, found)

    backend, how = core.backend, core.metric
    n_probes = min(n_probes, n_lists)
    found = in_batches(backend, how, queries, n_probes, n_lists, 1, workspace_limit, scan)
    return Probed(found[0], found[1].astype(np.int32))


def to_lists(core: Core, queries: Array, lists_of: Array) -> Probed:
    """Queries (n, dim), checked, and given lists (n, n_probes) int32 on the device, as `probe`
    finds them.
    """
    backend, how = core.backend, core.metric
    xp, step = backend.xp, max(1, _PAIR_FLOATS // (lists_of.shape[1] * core.coarse.axes.width))
    dists = xp.empty(lists_of.shape, xp.float32)
    for at in range(0, len(lists_of), step):
        part = slice(at, at + step)
        x = vectors.as_float(xp, xp.ascontiguousarray(backend.put(queries[part])), how)
        x = core.coarse.axes.of(backend, x).astype(xp.float64)[:, None]
        centers = core.coarse.centers[lists_of[part]]
        if how == "inner_product":
            dists[part] = (0 - (x * centers).sum(axis=2)).astype(xp.float32)
        else:
            dists[part] = xp.square(x - centers).sum(axis=2).astype(xp.float32)
    return Probed(dists, lists_of)


def in_data(core: Core, x: HostArray) -> HostArray:
    """Host rows (n, width) in the axes of an index -> (n, dim) in the coordinates of the data."""
    shift, rotation, _ = core.coarse.axes
    turn = None if rotation is None else core.backend.get(rotation)
    moved = axes.back(x, turn, core.dim)
    return moved if shift is None else moved + core.backend.get(shift)


def search(
    core: Core,
    queries: Array,
    k: int,
    n_probes: int,
    workspace_limit: int,
    probed: Probed | None = None,
    farthest: Array | None = None,
    keep: Keep | None = None,
    *,
    raw: bool = False,
    rescore: bool = True,
) -> tuple[Array, Array]:
    """queries (n, dim) on the host or the device, checked -> scan distances (n, k) float32, ids
    (n, k) int64, where the queries are. probed: their lists, if they are known; farthest (n,)
    float32: scan distances beyond which rows do not matter; keep: the filter; raw: leave
    `without_direction` to the caller, who merges first; rescore False: the same ids in any order,
    with distances to rounding, for a caller who refines them.
    """
    backend, how = core.backend, core.metric
    n_probes = min(n_probes, len(core.coarse.centers))

    def scan(x: Array, found: int, part: slice) -> tuple[Array, Array]:
        within = None if farthest is None else backend.put(farthest[part])
        words = None if keep is None else keep.of(part)
        if keep is not None and keep.exhaustive:
            near, names = _scan_survivors(core, x, found, keep, within, rescore)
            return (near if raw else without_direction(how, x, near)), names
        if probed is None:
            to_center, nearest = nearest_lists(core, x, n_probes)
            lists_of = Probed(to_center, nearest.astype(backend.xp.int32))
        else:
            lists_of = Probed(*(backend.put(a[part]) for a in probed))
        near, names = scan_probed(
            core, x, found, lists_of, workspace_limit, within, words, rescore=rescore
        )
        return (near if raw else without_direction(how, x, near)), names

    n_rows = len(core.lists.ids)
    return in_batches(backend, how, queries, k, n_rows, n_probes, workspace_limit, scan)


def without_direction(how: Metric, x: Array, near: Array) -> Array:
    """Scan distances (n, k) of queries x (n, dim): under cosine a zero query has no direction, it
    counts as orthogonal to every row.
    """
    return near + ~x.any(axis=1, keepdims=True) if how == "cosine" else near


def in_batches(
    backend: Backend,
    how: Metric,
    queries: Array,
    k: int,
    n_rows: int,
    n_probes: int,
    workspace_limit: int,
    scan: Callable[[Array, int, slice], tuple[Array, Array]],
) -> tuple[Array, Array]:
    """Run `scan` over batches of queries -> scan distances (n, k) float32, ids (n, k) int64.

    scan takes a batch (n, dim) float32, normalised under cosine, how many to find, and which of the
    queries they are. k beyond n_rows is filled up with (+inf, -1). The results are where the
    queries are: nothing here waits for a device unless they are on the host.
    """
    xp, found, dim = backend.xp, min(k, n_rows), queries.shape[1]
    held = plan.Held(backend.bytes_per_query, backend.bytes_per_result)

    def one(part: slice) -> tuple[Array, Array]:
        rows = xp.ascontiguousarray(backend.put(queries[part]))
        return scan(vectors.as_float(xp, rows, how), found, part)

    parts: list[slice] = []
    if found:  # an index may have no rows yet
        parts += plan.query_batches(len(queries), n_probes, dim, found, workspace_limit, held)
    if len(parts) == 1 and found == k:
        dists, ids = one(parts[0])
    else:
        dists = xp.full((len(queries), k), np.inf, xp.float32)
        ids = xp.full((len(queries), k), -1, xp.int64)
        for part in parts:
            dists[part, :found], ids[part, :found] = one(part)
    if backend.holds(queries):
        return dists, ids
    return backend.get(dists), backend.get(ids)


def nearest_lists(core: Core, x: Array, n_probes: int) -> tuple[Array, Array]:
    """One batch -> distances to the nearest centres, to rounding, and their lists (n, n_probes)."""
    coarse, xp = core.coarse, core.backend.xp
    whole = xp.zeros((len(x), 1), xp.int32)
    how = metric.scan_metric(core.metric)
    return core.backend.ops.scan_lists(
        coarse.axes.of(core.backend, x),
        None,
        coarse.payload,
        coarse.lists,
        whole,
        n_probes,
        how,
        rescore=False,
    )


def _scan_survivors(
    core: Core, x: Array, k: int, keep: Keep, within: Array | None, rescore: bool
) -> tuple[Array, Array]:
    """One batch x (n, dim) against all rows that a filter leaves -> scan distances, ids (n, k)."""
    backend, payload = core.backend, core.payload
    left = survivors.of(backend, payload, core.lists, keep, core)
    queries = x if isinstance(payload, FlatPayload) else core.coarse.axes.of(backend, x)
    whole, how = backend.xp.zeros((len(x), 1), backend.xp.int32), metric.scan_metric(core.metric)
    return backend.ops.scan_lists(
        queries, None, *left, whole, k, how, keep=keep.words, limit=within, rescore=rescore
    )


def scan_probed(
    core: Core,
    x: Array,
    k: int,
    probed: Probed,
    workspace_limit: int,
    within: Array | None,
    keep: Array | None = None,
    *,
    rescore: bool = True,
) -> tuple[Array, Array]:
    """One batch x (n, dim) float32, normalised under cosine -> scan distances, ids (n, k)."""
    backend, ops = core.backend, core.backend.ops
    xp, how = backend.xp, metric.scan_metric(core.metric)
    to_center, probes = probed
    rest: tuple[Any, Lists, Array, int, metric.ScanMetric, Array | None]
    rest = core.payload, core.lists, probes, k, how, keep
    if isinstance(core.payload, FlatPayload):
        return ops.scan_lists(x, None, *rest, limit=within, rescore=rescore)
    # A(q, l) = |q|^2 - 2 q.c = |q - c|^2 - |c|^2, or -q.c: the norms of the centres are 0 there
    terms = to_center - core.coarse.lists.norms[probes]
    moved = core.coarse.axes.of(backend, x)
    n_lists = len(core.coarse.centers)
    if not isinstance(core.payload, PqPayload):
        of_pairs = None if core.payload.centers is None else terms
        return ops.scan_lists(moved, of_pairs, *rest, limit=within, rescore=rescore)
    if plan.by_table(probes.size, n_lists, backend.lut_pairs_per_list):
        scaled = moved if how == "inner_product" else 2 * moved
        books, found = core.payload.codebooks, []
        for part in plan.table_batches(len(x), books.shape[0] * books.shape[1], workspace_limit):
            lut = ops.build_lut(scaled[part], books)
            q, a, p = moved[part], terms[part], probes[part]
            words = keep if keep is None or keep.ndim == 1 else keep[part]
            some = core.payload, core.lists, p, k, how, words
            found.append(ops.scan_lut(lut, q, a, *some, None if within is None else within[part]))
        if len(found) == 1:
            return found[0]
        return xp.concatenate([f[0] for f in found]), xp.concatenate([f[1] for f in found])
    return ops.scan_lists(moved, terms, *rest, limit=within, rescore=rescore)
