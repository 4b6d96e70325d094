"""What runs on a worker: an actor that holds shards and searches them, on a thread of its own.

Dask runs an actor's `async` methods on the worker's event loop and its plain ones on the worker's
only actor thread. Here every method is async and hands its work on: searches to one thread, one
after another, loads to another, so that the loop answers and a search does not wait for a load.
"""

import asyncio
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gpuann import backends
from gpuann.arrays import HostArray
from gpuann.dask.settling import settle
from gpuann.distributed.folder import open_shard
from gpuann.distributed.manifest import ShardEntry
from gpuann.distributed.reshard import run_of_ids
from gpuann.distributed.shard import Shard
from gpuann.engine import ivf
from gpuann.filters import Filter
from gpuann.partitioned import sharded
from gpuann.partitioned.partitions import Asked, Found, Partition, scan_in_turn


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


class Held(NamedTuple):
    """A shard on this worker."""

    partitions: list[Partition]
    models: str
    """Their fingerprint."""


class Holder:
    """The actor. `device` is "cpu", "cuda", "cuda:N" or None, as everywhere."""

    def __init__(self, device: str | None, client_pid: int) -> None:
        settle(client_pid)
        self._backend = backends.choose("dask.load", device)
        self._cpu = backends.choose("dask.load", "cpu")
        self._searches = ThreadPoolExecutor(1, "gpuann search")
        self._loads = ThreadPoolExecutor(1, "gpuann load")
        self._shards: dict[int, Held] = {}

    async def call(self, asked: bytes) -> bytes:
        """What `Wire.call` sent -> what it gives back: Dask would wrap every value by itself, which
        takes longer than a small search.
        """
        method, arguments = pickle.loads(asked)
        return pickle.dumps(await getattr(self, method)(*arguments), pickle.HIGHEST_PROTOCOL)

    async def load(self, number: int, source: Stored) -> int:
        """Hold a shard -> its rows."""
        work = partial(self._place, number, source)
        return await asyncio.get_running_loop().run_in_executor(self._loads, work)

    def _place(self, number: int, source: Stored) -> int:
        devices = [self._backend.device]
        made = sharded.place("dask.load", source.read(), devices, 1, source.scope)
        held = [replace(replicas[0], thread=self._searches) for replicas in made.shards]
        if self._backend.cuda is not None:  # compiled before somebody waits for it
            n_lists = 1 if made.models[0] is None else made.models[0].n_lists
            asked = Asked(1, min(8, n_lists), 1 << 27, 1, len(made))
            one = np.zeros((1, made.dim), np.float32)
            first = partial(scan_in_turn, self._cpu, held, one, slice(0, 1), asked, None)
            held[0].submit(1, first).result()
        self._shards[number] = Held(held, source.entries[0].fingerprint)
        return len(made)

    async def drop(self, number: int) -> None:
        """Let go of a shard."""
        self._shards.pop(number, None)

    async def search(self, numbers: list[int], x: HostArray, question: Question) -> list[Found]:
        """Scan distances (n, k), ids (n, k) of queries x (n, dim), checked, among each shard."""
        some = [self._shards[number] for number in numbers]
        first, *others = (partition for shard in some for partition in shard.partitions)
        work = partial(self._scan, some, x, question.asked(len(x)))
        return await asyncio.wrap_future(first.submit(len(x), work, beside=others))

    def _scan(self, shards: list[Held], x: HostArray, asked: Asked) -> list[Found]:
        """One after the other. Lists that are the same for all are looked up once, and rows that
        are farther than k of a shard before do not matter: whoever is told of the one is told of
        the other.
        """
        probed: dict[str, ivf.Probed] = {}
        found: list[Found] = []
        for shard in shards:
            core, its_own = shard.partitions[0].part, None
            if len(shards) > 1 and isinstance(core, ivf.Core) and not asked.exhaustive:
                if shard.models not in probed:
                    probed[shard.models] = ivf.probe(core, x, asked.n_probes, asked.workspace_limit)
                its_own = probed[shard.models]
            every = slice(0, len(x))
            found.append(scan_in_turn(self._cpu, shard.partitions, x, every, asked, its_own))
            kth = np.ascontiguousarray(found[-1][0][:, -1])
            edge = kth if asked.farthest is None else np.minimum(asked.farthest, kth)
            asked = asked._replace(farthest=edge)
        return found
