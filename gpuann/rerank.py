"""Exact re-ranking of candidates: what makes a compressed index accurate."""

from typing import Any

import numpy as np

from gpuann import arrays, backends, validate
from gpuann import metric as metrics
from gpuann._nvtx import annotate
from gpuann.arrays import HostArray
from gpuann.codecs import vectors
from gpuann.errors import bad_type, bad_value

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
) -> tuple[HostArray, HostArray]:
    """The k best candidates of each query by exact distance.

    Parameters
    ----------
    dataset : array or memory-map (n_rows, dim), float32, float16, int8 or uint8
    queries : array (n_queries, dim), as `dataset`
    candidates : array (n_queries, n_candidates), int64 rows of `dataset`; -1 for none
    k : int, optional; default: n_candidates
    metric : {"sqeuclidean", "euclidean", "inner_product", "cosine"}, default "sqeuclidean"
    indices : array (n_queries, k) int64, optional, to write the ids into
    distances : array (n_queries, k) float32, optional, to write the distances into
    device : {"cpu", "cuda", "cuda:N"}, optional; default: CUDA if there is one

    Returns
    -------
    distances (n_queries, k) float32, ids (n_queries, k) int64
        As the searches give them. A candidate that is listed twice counts once.

    Notes
    -----
    Cost   n_queries * n_candidates * dim. Only the candidates' rows are read, in ascending order,
           128 MiB of them at a time or those of one query.
    """
    where = "refine"
    how = metrics.check(where, metric)
    backend = backends.choose(where, device)
    rows = arrays.as_host(where, "dataset", dataset)
    validate.matrix(where, "dataset", rows)
    x = arrays.queries(where, queries, rows.shape[1])
    wanted = _candidates(where, candidates, len(x), len(rows))
    k = wanted.shape[1] if k is None else validate.n_results(where, k)
    arrays.check_output(where, "distances", distances, (len(x), k), np.float32)
    arrays.check_output(where, "indices", indices, (len(x), k), np.int64)
    dists, ids = np.empty((len(x), k), np.float32), np.empty((len(x), k), np.int64)
    step = max(1, _FLOATS_AT_ONCE // max(1, wanted.shape[1] * rows.shape[1]))
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        names = wanted[part]
        needed, place = np.unique(names, return_inverse=True)
        present = needed >= 0
        place = (place - np.count_nonzero(~present)).reshape(names.shape)
        picked = np.ascontiguousarray(rows[needed[present]])
        validate.finite(where, "dataset", picked, numbers=needed[present])
        picked = backend.put(picked)
        scale = vectors.cosine_scale(backend.xp, picked) if how == "cosine" else None
        q = vectors.as_float(backend.xp, backend.put(np.ascontiguousarray(x[part])), how)
        found = backend.ops.refine(
            q,
            picked,
            backend.put(np.where(names >= 0, place, -1)),
            backend.put(names),
            k,
            metrics.scan_metric(how),
            scale,
        )
        near = found[0] + ~q.any(axis=1, keepdims=True) if how == "cosine" else found[0]
        dists[part], ids[part] = near, found[1]
    return arrays.output(distances, metrics.reported(how, dists)), arrays.output(indices, ids)


def _candidates(where: str, given: Any, n_queries: int, n_rows: int) -> HostArray:
    candidates = arrays.as_host(where, "candidates", given)
    if candidates.ndim != 2 or len(candidates) != n_queries:
        rule = f"have shape ({n_queries}, n_candidates)"
        raise bad_value(where, "candidates", rule, candidates.shape)
    if candidates.dtype.kind not in "iu":
        raise bad_type(where, "candidates", "be integers", candidates.dtype)
    if candidates.size and not (candidates.min() >= -1 and candidates.max() < n_rows):
        wrong = int(candidates.min() if candidates.min() < -1 else candidates.max())
        raise bad_value(where, "candidates", f"lie in [0, {n_rows}) or be -1", wrong)
    return candidates.astype(np.int64, copy=False)
