"""Query sets larger than memory: batch after batch, the next one copied while one is searched.

On CUDA two threads take turns, each with a stream and page-locked memory of its own: one's queries
travel while the other's are searched. On the CPU the next batch is read meanwhile.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from gpuann import arrays, kinds, validate
from gpuann._nvtx import annotate
from gpuann.arrays import HostArray
from gpuann.errors import bad_type
from gpuann.index import given_filter
from gpuann.indexes import brute_force, ivf_flat, ivf_pq, ivf_sq
from gpuann.lookups import AnyIndex
from gpuann.params import IvfSearchParams

_AT_ONCE = 2
Found = tuple[HostArray, HostArray]


def search_batches(
    search_params: IvfSearchParams | None,
    index: AnyIndex,
    batches: Iterable[Any],
    k: int,
    filter: Any = None,
) -> Iterator[Found]:
    """Search batch after batch.

    Parameters
    ----------
    search_params : SearchParams of the kind of index; None for brute force
    index : Index
    batches : iterable of host arrays (n, dim), of any length each; read two ahead
    k : int
    filter : ids that may be returned, one set for all, optional

    Yields
    ------
    distances (n, k) float32, ids (n, k) int64 on the host, of each batch in turn
        As the search of the index gives them.

    Notes
    -----
    Memory two batches with their results; on CUDA two workspaces too.
    """
    where = f"{kinds.of_index(index)}.search_batches"
    kinds.check_index(where, index)
    kinds.check_search_of(where, search_params, index)
    k, kept = validate.n_results(where, k), given_filter(where, "filter", filter, [], index)
    if hasattr(batches, "ndim") or not isinstance(batches, Iterable):
        got = type(batches).__name__
        raise bad_type(where, "batches", "be arrays one after another", got, "cut it into pieces")
    if kept is not None and kept.per_query:
        raise bad_type(where, "filter", "be one set for all batches", "a set for each query")
    return _in_turn(where, search_params, index, batches, k, kept)


def _in_turn(
    where: str, params: Any, index: AnyIndex, batches: Iterable[Any], k: int, kept: Any
) -> Iterator[Found]:
    backend = index.backend
    n_threads = 1 if backend.cuda is None else _AT_ONCE
    lanes = [_Lane(params, index, k, kept) for _ in range(n_threads)]
    pools = [ThreadPoolExecutor(1, "gpuann batches") for _ in lanes]
    waiting: deque[Future[Found]] = deque()
    try:
        for turn, batch in enumerate(batches):
            x = arrays.queries(where, batch, index.dim)
            lane, pool = lanes[turn % n_threads], pools[turn % n_threads]
            waiting.append(pool.submit(lane.search, x))
            if len(waiting) >= _AT_ONCE:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # also where the caller stops early: what has begun ends first
        for pool in pools:
            pool.shutdown(wait=True, cancel_futures=True)


class _Lane:
    """One thread's stream and page-locked memory."""

    def __init__(self, params: Any, index: AnyIndex, k: int, kept: Any) -> None:
        self._params, self._index, self._k, self._kept = params, index, k, kept
        self._stream: Any = None
        self._pinned = np.empty(0, np.uint8)

    @annotate("search_batches")
    def search(self, x: HostArray) -> Found:
        backend = self._index.backend
        if backend.cuda is None:
            return self._run(x)
        with backend.active():
            if self._stream is None:
                self._stream = backend.stream()
            with self._stream:
                if self._pinned.size < x.nbytes:
                    self._pinned = backend.staging(x.nbytes)
                held = self._pinned[: x.nbytes].view(x.dtype).reshape(x.shape)
                held[...] = x
                dists, ids = self._run(backend.upload(held))
                return backend.get(dists), backend.get(ids)

    def _run(self, x: Any) -> Found:
        index, k, kept = self._index, self._k, self._kept
        if isinstance(index, brute_force.Index):
            return brute_force.search(index, x, k, prefilter=kept)
        module = {m.Index: m for m in (ivf_flat, ivf_pq, ivf_sq)}[type(index)]
        found: Found = module.search(self._params, index, x, k, filter=kept)
        return found
