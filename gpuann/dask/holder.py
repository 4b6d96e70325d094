"""What runs on a worker: an actor that holds shards and searches them, on a thread of its own.

Dask runs an actor's `async` methods on the worker's event loop and its plain ones on the worker's
only actor thread. Here every method is async and hands its work on: searches to one thread, one
after another, loads to another, so that the loop answers and a search does not wait for a load.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from distributed import get_worker

import gpuann
from gpuann import backends
from gpuann.arrays import HostArray
from gpuann.distributed.folder import open_shard
from gpuann.distributed.manifest import ShardEntry
from gpuann.distributed.reshard import run_of_ids
from gpuann.distributed.shard import Shard
from gpuann.filters import Filter
from gpuann.partitioned import sharded
from gpuann.partitioned.partitions import Asked, Found

WHERE = "dask.search"
T = TypeVar("T")


@dataclass(frozen=True)
class Stored:
    """Where a shard of a served index comes from: files of a folder that every worker sees."""

    folder: str
    entries: tuple[ShardEntry, ...]
    scope: str
    run: tuple[int, int] | None = None
    """The ids of it alone, where files are cut."""

    def read(self) -> list[Shard]:
        """The shards, from their files; every checksum is compared."""
        mapped = self.run is not None or len(self.entries) > 1
        place = Path(self.folder)
        some = [open_shard("dask.load", place, e, mapped=mapped) for e in self.entries]
        return some if self.run is None else [run_of_ids(some, *self.run)]


@dataclass(frozen=True)
class Question:
    """What is asked of every shard, beside the queries: plain values, for the wire."""

    k: int
    n_probes: int
    workspace_limit: int
    n_rows: int
    """Of all shards."""
    words: HostArray | None = None
    """Of a filter, see `filters.Filter`."""
    n_kept: int = 0
    per_query: bool = False
    exhaustive: bool = False

    def asked(self, n_queries: int) -> Asked:
        """The same as the searches of partitions take it."""
        kept = None if self.words is None else Filter(self.words, self.n_kept, self.per_query)
        shape = self.k, self.n_probes, self.workspace_limit
        return Asked(*shape, n_queries, self.n_rows, kept, self.exhaustive)


class Holder:
    """The actor. `device` is "cpu", "cuda", "cuda:N" or None, as everywhere."""

    def __init__(self, device: str | None, client_pid: int) -> None:
        settle(client_pid)
        self._backend = backends.choose("dask.load", device)
        self._cpu = backends.choose("dask.load", "cpu")
        self._searches = ThreadPoolExecutor(1, "gpuann search")
        self._loads = ThreadPoolExecutor(1, "gpuann load")
        self._shards: dict[int, sharded.ShardedIndex] = {}

    async def load(self, number: int, source: Stored) -> int:
        """Hold a shard -> its rows."""
        return await _on(self._loads, lambda: self.place(number, source.read(), source.scope))

    def place(self, number: int, shards: list[Shard], scope: str) -> int:
        """Hold a shard that is here already -> its rows."""
        devices = [self._backend.device]
        made = sharded.place("dask.load", shards, devices, 1, scope)
        if self._backend.cuda is not None:  # compiled before somebody waits for it
            n_lists = 1 if made.models[0] is None else made.models[0].n_lists
            asked = Asked(1, min(8, n_lists), 1 << 27, 1, len(made))
            sharded.scan(self._cpu, made, np.zeros((1, made.dim), np.float32), asked)
        self._shards[number] = made
        return len(made)

    async def drop(self, number: int) -> None:
        """Let go of a shard."""
        self._shards.pop(number, None)

    async def search(self, number: int, x: HostArray, question: Question) -> Found:
        """Scan distances (n, k), ids (n, k) of queries x (n, dim), checked, among one shard."""
        index = self._shards[number]
        return await _on(self._searches, lambda: self._scan(index, x, question))

    def _scan(self, index: sharded.ShardedIndex, x: HostArray, question: Question) -> Found:
        return sharded.scan(self._cpu, index, x, question.asked(len(x)))


def settle(client_pid: int) -> None:
    """Give this worker's searches and builds the threads that Dask gave the worker: without this
    each worker of a machine would take all of its cores. A worker within the client's own process
    leaves the process as it is.
    """
    if os.getpid() != client_pid and "GPUANN_NUM_THREADS" not in os.environ:
        gpuann.set_num_threads(max(1, get_worker().state.nthreads))


async def _on(pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(pool, work)
