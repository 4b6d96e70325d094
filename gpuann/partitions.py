"""A partition: some rows on one device, searched by a thread and a stream of its own."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from gpuann import brute_force, ivf
from gpuann.arrays import HostArray
from gpuann.backends import Backend
from gpuann.errors import BackendError, message

Found = tuple[HostArray, HostArray]


@dataclass(frozen=True, eq=False, repr=False)
class Partition:
    """Some rows on one device, with the thread and the stream that search them."""

    backend: Backend
    part: ivf.Core | brute_force.Index
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
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

    def submit(self, queries: HostArray, k: int, n_probes: int, limit: int) -> "Future[Found]":
        """Search on the partition's own thread -> scan distances, ids (n, k), on the host."""
        with self._lock:
            self._waiting[0] += len(queries)
        return self._thread.submit(self._search, queries, k, n_probes, limit)

    def _search(self, queries: HostArray, k: int, n_probes: int, limit: int) -> Found:
        try:
            with self.backend.active(), self._stream():
                if isinstance(self.part, brute_force.Index):
                    return brute_force.scan(self.part, queries, k, limit)
                return ivf.search(self.part, queries, k, n_probes, limit)
        finally:
            with self._lock:
                self._waiting[0] -= len(queries)

    def _stream(self) -> Any:
        """The stream of the thread that searches, made at its first use."""
        own = getattr(_streams, "of", None)
        if own is None:
            own = _streams.of = self.backend.stream()
        return own


_streams = threading.local()


def gather(where: str, names: list[str], futures: "list[Future[Any]]") -> list[Any]:
    """Every result; the first failure is raised with its name once all have ended."""
    failures = [(name, future.exception()) for name, future in zip(names, futures, strict=True)]
    for name, error in failures:
        if isinstance(error, ValueError | TypeError):
            raise error  # what the caller asked for, not the device
        if error is not None:
            got = f"{type(error).__name__}: {error}"
            raise BackendError(message(where, name, "answer", got)) from error
    return [future.result() for future in futures]
