"""Exact re-ranking of candidates: what makes a compressed index accurate."""

from typing import Any

import numpy as np

from gpuann import arrays, backends, validate
from gpuann import metric as metrics
from gpuann._nvtx import annotate
from gpuann.arrays import HostArray
from gpuann.backends import Backend
from gpuann.backends.seam import Array
from gpuann.codecs import vectors
from gpuann.engine.ivf import without_direction
from gpuann.errors import bad_type, bad_value
from gpuann.index import query_rows

_CANDIDATES_AT_ONCE = 1 << 20  # that the CPU compares, some 60 bytes each
_FLOATS_AT_ONCE = 1 << 25  # of candidates' rows: 128 MiB


@annotate("refine")
def refine(
    dataset: Any,
    queries: Any,
    candidates: Any,
    k: int | None = None,
    metric: str = "sqeuclidean",
    indices: HostArray | None = None,
    distances: HostArray | None = None,
    *,
    device: str | None = None,
    resources: None = None,
) -> tuple[HostArray, HostArray]:
    """The k best candidates of each query by exact distance.

    Parameters
    ----------
    dataset : array or memory-map (n_rows, dim), float32, float16, int8 or uint8, host or device
    queries : array (n_queries, dim), as `dataset`, host or device; the results are where they are
    candidates : array (n_queries, n_candidates), int64 rows of `dataset`; -1 for none
    k : int, optional; default: that of indices or distances, else n_candidates
    metric : {"sqeuclidean", "euclidean", "inner_product", "cosine"}, default "sqeuclidean"
    indices : array (n_queries, k) int64, optional, to write the ids into
    distances : array (n_queries, k) float32, optional, to write the distances into
    device : {"cpu", "cuda", "cuda:N"}, optional; default: CUDA if there is one
    resources : None; cuVS's, work goes to CuPy's current stream

    Returns
    -------
    distances (n_queries, k) float32, ids (n_queries, k) int64
        As the searches give them. A candidate that is listed twice counts once.

    Notes
    -----
    Cost   n_queries * n_candidates * dim. Only the candidates' rows are read. A data set on the
           device is used where it is; under cosine every row's length is computed then. So is one
           in page-locked host memory, which the device reads by itself (not under cosine); as
           with one on the device its values are not looked at: a row with a NaN is never found. The
           CPU reads rows that lie C-contiguous in memory where they are (not under cosine), for a
           million candidates at a time. Of other host memory and of memory-maps the host gathers
           the rows, in ascending order, 128 MiB at a time or those of one query, while the device
           works on those before. With host memory of either kind the call waits for the device.
    """
    where = "refine"
    validate.no_resources(where, resources)
    how = metrics.check(where, metric)
    backend = backends.choose(where, device)
    there = backend.holds(queries)
    with backend.active():
        if backend.holds(dataset):
            rows = backend.put(dataset)
        else:
            rows = arrays.as_host(where, "dataset", dataset)
            if how != "cosine":  # which needs the length of every row
                mapped = backend.mapped(rows)
                rows = rows if mapped is None else mapped
        validate.matrix(where, "dataset", rows)
        x = query_rows(where, backend, queries, rows.shape[1])
        wanted = _candidates(where, backend, candidates, len(x), rows)
        if k is None:  # what there is to write into says it, as in cuVS
            given = next((a for a in (indices, distances) if a is not None and a.ndim == 2), wanted)
            k = given.shape[1]
        k = validate.n_results(where, k)
        shape = len(x), k
        arrays.check_output(where, "distances", distances, shape, np.float32, on_device=there)
        arrays.check_output(where, "indices", indices, shape, np.int64, on_device=there)
        if backend.holds(rows):
            dists, ids = _on_device(backend, rows, backend.put(x), wanted, k, how)
            if not backend.holds(dataset):
                backend.synchronize()  # the caller may change its own memory again
        else:
            dists, ids = _from_host(where, backend, rows, x, wanted, k, how)
        dists = metrics.reported(how, dists)
        if not there:
            dists, ids = backend.get(dists), backend.get(ids)
        return arrays.output(distances, dists), arrays.output(indices, ids)


def _on_device(
    backend: Backend, rows: Array, x: Array, wanted: Array, k: int, how: metrics.Metric
) -> tuple[Array, Array]:
    """Everything lies on the device: no row is copied, nothing waited for."""
    xp, scale = backend.xp, None
    if how == "cosine":
        step = max(1, _FLOATS_AT_ONCE // rows.shape[1])
        parts = [rows[at : at + step] for at in range(0, len(rows), step)]
        scale = xp.concatenate([vectors.cosine_scale(xp, part) for part in parts])
    return _refined(backend, rows, x, wanted, wanted, k, how, scale)


def _from_host(
    where: str,
    backend: Backend,
    rows: HostArray,
    x: Array,
    wanted: HostArray,
    k: int,
    how: metrics.Metric,
) -> tuple[Array, Array]:
    """Only the candidates' rows go to the device, some queries at a time; a CPU reads them where
    they are, if they lie side by side in memory.
    """
    xp = backend.xp
    on_cpu, lies_apart = backend.cuda is None, arrays.is_mapped(rows) or not rows.flags.c_contiguous
    in_place = on_cpu and not lies_apart and how != "cosine"  # which needs the length of every row
    dists, ids = xp.empty((len(x), k), xp.float32), xp.empty((len(x), k), xp.int64)
    most = _CANDIDATES_AT_ONCE if in_place else _FLOATS_AT_ONCE // rows.shape[1]
    step = max(1, most // max(1, wanted.shape[1]))
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        names = wanted[part]
        if in_place:
            _look_at(where, backend, rows, names)
            dists[part], ids[part] = _refined(backend, rows, x[part], names, names, k, how, None)
            continue
        needed, place = np.unique(names, return_inverse=True)
        present = needed >= 0
        place = (place - np.count_nonzero(~present)).reshape(names.shape)
        picked = backend.put(_picked(where, backend, rows, needed[present]))
        scale = vectors.cosine_scale(xp, picked) if how == "cosine" else None
        at = backend.put(np.where(names >= 0, place, -1))
        queries = backend.put(x[part])
        found = _refined(backend, picked, queries, at, backend.put(names), k, how, scale)
        dists[part], ids[part] = found
    return dists, ids


def _look_at(where: str, backend: Backend, rows: HostArray, wanted: HostArray) -> None:
    """Raise if a candidate's row has a number that is not finite: rows (n, dim), wanted (any) int64
    or -1.
    """
    if rows.dtype.kind != "f":
        return
    if wanted.size < len(rows) // 8:
        numbers = np.unique(wanted[wanted >= 0])
    else:  # marking them takes less time than sorting them
        is_wanted = np.zeros(len(rows) + 1, bool)
        is_wanted[wanted] = True  # the last is that of -1, none
        numbers = np.flatnonzero(is_wanted[:-1])

    def look(part: slice) -> None:
        validate.finite(where, "dataset", rows[numbers[part]], numbers=numbers[part])

    backend.over_rows(look, len(numbers), rows.shape[1])


def _picked(where: str, backend: Backend, rows: HostArray, numbers: HostArray) -> HostArray:
    """Some rows (n, dim), C-contiguous, all numbers finite."""
    picked = np.empty((len(numbers), rows.shape[1]), rows.dtype)

    def pick(part: slice) -> None:
        picked[part] = rows[numbers[part]]
        validate.finite(where, "dataset", picked[part], numbers=numbers[part])

    backend.over_rows(pick, *picked.shape)
    return picked


def _refined(
    backend: Backend,
    rows: Array,
    queries: Array,
    candidates: Array,
    names: Array,
    k: int,
    how: metrics.Metric,
    scale: Array | None,
) -> tuple[Array, Array]:
    xp = backend.xp
    q = vectors.as_float(xp, xp.ascontiguousarray(queries), how)
    rows, scan = xp.ascontiguousarray(rows), metrics.scan_metric(how)
    near, ids = backend.ops.refine(q, rows, candidates, names, k, scan, scale)
    return without_direction(how, q, near), ids


def _candidates(where: str, backend: Backend, given: Any, n_queries: int, rows: Array) -> Array:
    """Candidates (n_queries, n) int64, checked; on the device if the rows are there.

    Values that lie on the device, as the rows do, are not looked at, which would wait for it: those
    outside the rows count as none.
    """
    unseen = backend.holds(rows) and backend.holds(given)
    candidates = backend.put(given) if unseen else arrays.as_host(where, "candidates", given)
    if candidates.ndim != 2 or len(candidates) != n_queries:
        rule = f"have shape ({n_queries}, n_candidates)"
        raise bad_value(where, "candidates", rule, candidates.shape)
    if candidates.dtype.kind not in "iu":
        raise bad_type(where, "candidates", "be integers", candidates.dtype)
    if unseen:
        return backend.xp.ascontiguousarray(candidates.astype(np.int64, copy=False))
    n_rows = len(rows)
    if candidates.size and not (candidates.min() >= -1 and candidates.max() < n_rows):
        wrong = int(candidates.min() if candidates.min() < -1 else candidates.max())
        raise bad_value(where, "candidates", f"lie in [0, {n_rows}) or be -1", wrong)
    candidates = candidates.astype(np.int64, copy=False)
    return backend.put(np.ascontiguousarray(candidates)) if backend.holds(rows) else candidates
