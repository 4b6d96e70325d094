"""A partition: some rows on one device, searched by the device's thread and stream."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

from gpuann.arrays import HostArray
from gpuann.backends import Backend
from gpuann.engine import ivf
from gpuann.errors import BackendError, message
from gpuann.filters import Filter, Keep
from gpuann.indexes import brute_force

Found = tuple[HostArray, HostArray]


class Asked(NamedTuple):
    """What is asked of every partition, beside the queries."""

    k: int
    n_probes: int
    workspace_limit: int
    n_queries: int = 0
    """Of all parts of a batch, and rows of all partitions: a filter is for these."""
    n_rows: int = 0
    kept: Filter | None = None
    exhaustive: bool = False
    farthest: HostArray | None = None
    """(n_queries,) float32, scan distances beyond which rows do not matter."""

    def keep(self, backend: Backend, part: slice) -> Keep | None:
        """The filter on a device, for some of the queries."""
        if self.kept is None:
            return None
        words = self.kept.on("shards.search", "filter", backend, self.n_queries, self.n_rows)
        keep = Keep(words, self.kept, self.exhaustive)
        return keep._replace(words=keep.of(part))


T = TypeVar("T")


@dataclass(frozen=True, eq=False, repr=False)
class Partition:
    """Some rows on one device."""

    backend: Backend
    part: ivf.Core | brute_force.Index
    thread: ThreadPoolExecutor
    """That of its device: partitions of one device take turns."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _waiting: list[int] = field(default_factory=lambda: [0])

    def __len__(self) -> int:
        if isinstance(self.part, brute_force.Index):
            return len(self.part)
        return len(self.part.lists.ids)

    @property
    def busy(self) -> int:
        """Queries that it has been given and not answered."""
        return self._waiting[0]

    def submit(
        self, n_queries: int, work: Callable[[], T], beside: Sequence["Partition"] = ()
    ) -> "Future[T]":
        """Do some work for so many queries on the device's thread and stream; partitions `beside`
        are busy with it too.
        """
        for partition in (self, *beside):
            partition.count(n_queries)

        def run() -> T:
            try:
                with self.backend.active(), self._stream():
                    return work()
            finally:
                for partition in (self, *beside):
                    partition.count(-n_queries)

        return self.thread.submit(run)

    def count(self, n_queries: int) -> None:
        """So many more queries wait for it."""
        with self._lock:
            self._waiting[0] += n_queries

    def probe(self, queries: HostArray, n_probes: int, limit: int) -> "Future[ivf.Probed]":
        """Nearest lists of queries (n, dim), on the host."""
        core = cast("ivf.Core", self.part)
        return self.submit(len(queries), lambda: ivf.probe(core, queries, n_probes, limit))

    def scan(
        self,
        queries: HostArray,
        part: slice,
        asked: Asked,
        probed: ivf.Probed | None,
        farthest: HostArray | None,
    ) -> Found:
        """Scan distances, ids (n, k) of queries (n, dim), on the host, which are `part` of those
        that were asked for; on the device's thread.
        """
        keep, limit = asked.keep(self.backend, part), asked.workspace_limit
        if isinstance(self.part, brute_force.Index):
            return brute_force.scan(self.part, queries, asked.k, limit, farthest, keep, raw=True)
        shape = asked.k, asked.n_probes, limit
        return ivf.search(self.part, queries, *shape, probed, farthest, keep, raw=True)

    def _stream(self) -> Any:
        """The stream of the thread that searches, made at its first use."""
        own = getattr(_streams, "of", None)
        if own is None:
            own = _streams.of = self.backend.stream()
        return own


_streams = threading.local()


def scan_in_turn(
    cpu: Backend,
    partitions: Sequence[Partition],
    queries: HostArray,
    part: slice,
    asked: Asked,
    probed: ivf.Probed | None,
) -> Found:
    """The k best of several partitions of one device, one after the other, on its thread: a row
    matters to the next only if it is no farther than the k-th so far.
    """
    best: Found | None = None
    edge = None if asked.farthest is None else asked.farthest[part]
    farthest = edge
    for partition in partitions:
        found = partition.scan(queries, part, asked, probed, farthest)
        if best is None:
            best = found
        else:
            both = np.stack([best[0], found[0]]), np.stack([best[1], found[1]])
            best = cpu.ops.merge_topk(*both, asked.k)
        farthest = np.ascontiguousarray(best[0][:, -1])
        if edge is not None:
            farthest = np.minimum(farthest, edge)
    return cast("Found", best)


def gather(where: str, names: list[str], futures: "list[Future[Any]]") -> list[Any]:
    """Every result; the first failure is raised with its name once all have ended, and what the
    others made is let go of.
    """
    failures = [(name, future.exception()) for name, future in zip(names, futures, strict=True)]
    if any(error is not None for _, error in failures):
        futures.clear()
    for name, error in failures:
        if isinstance(error, ValueError | TypeError):
            raise error  # what the caller asked for, not the device
        if error is not None:
            got = f"{type(error).__name__}: {error}"
            raise BackendError(message(where, name, "answer", got)) from error
    return [future.result() for future in futures]


def merged(cpu: Backend, cuts: list[int], answers: list[Found], n_cuts: int, k: int) -> Found:
    """Answers to the cuts of a batch -> the batch' own, several for one cut merged."""
    found = []
    for cut in range(n_cuts):
        some = [answer for at, answer in zip(cuts, answers, strict=True) if at == cut]
        dists, ids = np.stack([one[0] for one in some]), np.stack([one[1] for one in some])
        found.append(cpu.ops.merge_topk(dists, ids, k) if len(some) > 1 else some[0])
    return np.concatenate([one[0] for one in found]), np.concatenate([one[1] for one in found])
