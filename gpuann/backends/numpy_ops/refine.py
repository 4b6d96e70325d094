"""refine: exact distances of given candidates."""

import numpy as np

from gpuann._nvtx import annotate
from gpuann.backends.numpy_ops import _canonical, _survivors, _threads
from gpuann.backends.seam import Array, FlatPayload
from gpuann.metric import ScanMetric

_CHUNK = 4096  # candidates that one thread rescores at a time


@annotate("refine")
def refine(
    queries: Array,
    vectors: Array,
    candidates: Array,
    ids: Array,
    k: int,
    metric: ScanMetric,
    scale: Array | None = None,
) -> tuple[Array, Array]:
    """See `seam.Ops.refine`. A candidate given twice counts once.

    Cost: Q R D; rows are picked a few thousand at a time, so `vectors` may be memory-mapped.
    """
    payload = FlatPayload(vectors, scale, None)
    once = _first_of_each(candidates)
    query, row, name = np.nonzero(once)[0], candidates[once], ids[once]

    def part(at: int) -> Array:
        cut = slice(at, at + _CHUNK)
        return _canonical.score(payload, queries, metric, query[cut], row[cut], row[cut])

    parts = _threads.run(part, range(0, len(row), _CHUNK))
    dists = np.concatenate(parts) if parts else np.empty(0, np.float32)
    order = _survivors.best_first(query, dists, name)
    return _survivors.top_k(query.take(order), dists.take(order), name.take(order), len(queries), k)


def _first_of_each(candidates: Array) -> Array:
    """Which of the candidates (Q, R) count: those that are there, each once -> bool (Q, R)."""
    once = candidates >= 0
    ascending = np.sort(candidates, axis=1)
    again = (ascending[:, 1:] == ascending[:, :-1]) & (ascending[:, 1:] >= 0)
    some = np.flatnonzero(again.any(axis=1))  # seldom any: an index finds each row once
    order = np.argsort(candidates[some], axis=1, kind="stable")
    once[some[:, None], order[:, 1:]] &= ~again[some]
    return once
