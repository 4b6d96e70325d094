"""A partition: some rows on one device, searched by the device's thread and stream."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from gpuann import brute_force, ivf
from gpuann.arrays import HostArray
from gpuann.backends import Backend
from gpuann.errors import BackendError, message

Found = tuple[HostArray, HostArray]
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

    def submit(self, n_queries: int, work: Callable[[], T]) -> "Future[T]":
        """Do some work for so many queries on the device's thread and stream."""
        with self._lock:
            self._waiting[0] += n_queries
        return self.thread.submit(self._run, n_queries, work)

    def _run(self, n_queries: int, work: Callable[[], T]) -> T:
        try:
            with self.backend.active(), self._stream():
                return work()
        finally:
            with self._lock:
                self._waiting[0] -= n_queries

    def probe(self, queries: HostArray, n_probes: int, limit: int) -> "Future[ivf.Probed]":
        """Nearest lists of queries (n, dim), on the host."""
        core = cast("ivf.Core", self.part)
        return self.submit(len(queries), lambda: ivf.probe(core, queries, n_probes, limit))

    def search(
        self, queries: HostArray, k: int, n_probes: int, limit: int, probed: ivf.Probed | None
    ) -> "Future[Found]":
        """Scan distances, ids (n, k) of queries (n, dim), on the host."""
        part = self.part
        if isinstance(part, brute_force.Index):
            return self.submit(len(queries), lambda: brute_force.scan(part, queries, k, limit))
        return self.submit(
            len(queries), lambda: ivf.search(part, queries, k, n_probes, limit, probed)
        )

    def _stream(self) -> Any:
        """The stream of the thread that searches, made at its first use."""
        own = getattr(_streams, "of", None)
        if own is None:
            own = _streams.of = self.backend.stream()
        return own


_streams = threading.local()


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
