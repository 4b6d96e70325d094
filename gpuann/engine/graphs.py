"""Small searches from CUDA graphs, recorded once for a size of batch, k and n_probes.

A replay is a copy, one launch and two copies, instead of six to twelve launches and the Python
between them. The recorded work is `ivf.search` itself, with all that it launches, for a power of
two of queries; so answers are the same bits. Only under GPUANN_GRAPHS=1: no GPU has run this yet.
By rule the ordinary search serves everything else: filters, given lists, ranges, more than 128
queries, a workspace that cuts them, a stream that the caller captures, and GPUANN_SYNC=1, under
which every launch is waited for.
"""

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeAlias

from gpuann.backends.seam import Array
from gpuann.cuda.graph import Graph
from gpuann.engine import ivf, plan

MOST_QUERIES = 128
MOST_GRAPHS = 16  # of an index; each holds what its search does, at most the workspace
_Key: TypeAlias = tuple[Any, ...]


class Graphs:
    """Of one index: those that were used last."""

    def __init__(self) -> None:
        self._made: OrderedDict[_Key, Graph] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: _Key, make: Callable[[], Graph]) -> Graph:
        """The graph of this key, made if it is not there. The one used longest ago makes room; its
        memory goes back when no thread is about to replay it, which waits for the device.
        """
        with self._lock:
            if key not in self._made:
                self._made[key] = make()
                if len(self._made) > MOST_GRAPHS:
                    self._made.popitem(last=False)
            self._made.move_to_end(key)
            return self._made[key]

    @property
    def n_bytes(self) -> int:
        """Of device memory that they hold."""
        with self._lock:
            return sum(graph.n_bytes for graph in self._made.values())


_of: weakref.WeakKeyDictionary[ivf.Core, Graphs] = weakref.WeakKeyDictionary()
_looking = threading.Lock()


def n_bytes(core: ivf.Core) -> int:
    """Of device memory that an index's graphs hold."""
    with _looking:
        graphs = _of.get(core)
    return 0 if graphs is None else graphs.n_bytes


def search(
    core: ivf.Core,
    queries: Array,
    k: int,
    n_probes: int,
    workspace_limit: int,
    *,
    rescore: bool = True,
) -> tuple[Array, Array]:
    """As `ivf.search` without a filter; from a graph, which rescores, where there may be one."""
    n, backend = 1 << (len(queries) - 1).bit_length(), core.backend
    if not (queries.shape[0] and _serves(core, n, k, n_probes, workspace_limit)):
        return ivf.search(core, queries, k, n_probes, workspace_limit, rescore=rescore)

    def work(x: Array) -> tuple[Array, Array]:
        return ivf.search(core, x, k, n_probes, workspace_limit)

    def make() -> Graph:
        device: Any = backend.cuda
        return Graph(device, (n, queries.shape[1]), queries.dtype, work)

    with _looking:
        graphs = _of.setdefault(core, Graphs())
    graph = graphs.get((n, k, n_probes, str(queries.dtype), workspace_limit), make)
    dists, ids = graph.replay(backend.put(queries))
    if backend.holds(queries):
        return dists, ids
    return backend.get(dists), backend.get(ids)


def _serves(core: ivf.Core, n: int, k: int, n_probes: int, workspace_limit: int) -> bool:
    """Whether n queries come from a graph."""
    if os.environ.get("GPUANN_GRAPHS") != "1" or os.environ.get("GPUANN_SYNC") == "1":
        return False
    backend = core.backend
    if backend.cuda is None or n > MOST_QUERIES or backend.cuda.is_captured():
        return False
    held = plan.Held(backend.bytes_per_query, backend.bytes_per_result)
    found = min(k, len(core.lists.ids))
    return (
        found > 0
        and len(list(plan.query_batches(n, n_probes, core.dim, found, workspace_limit, held))) == 1
    )
