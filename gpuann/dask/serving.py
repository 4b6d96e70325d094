"""The shards of an index on the workers of a cluster: placed, asked, and placed anew when lost.

Everything here runs on the client's event loop, so nothing needs a lock.
"""

import asyncio
import contextlib
import os
from collections.abc import Sequence

import numpy as np
from distributed import Client, Future

from gpuann import backends
from gpuann.arrays import HostArray
from gpuann.dask.counters import Counters
from gpuann.dask.hedging import Lost, NoReplicaLeft, Replica, ShardState, ask
from gpuann.dask.holder import Holder, Question, Stored
from gpuann.dask.params import ServeParams
from gpuann.dask.placement import assign
from gpuann.dask.together import Together
from gpuann.dask.wire import Wire, can_reach
from gpuann.errors import BackendError, message
from gpuann.metric import Metric
from gpuann.partitioned import sharded
from gpuann.partitioned.partitions import Found

LOAD_WITHIN = 600.0  # seconds for one shard to be read and placed
_START_WITHIN = 60.0  # seconds for an actor to be made
_RELOAD_WITHIN = 60.0  # seconds in which a worker may come that takes a lost replica
_LOOK_AGAIN = 0.5  # seconds between looking for one
_MUCH = 1 << 18  # results of all shards that are merged beside the event loop


class Serving:
    """An index on a cluster."""

    def __init__(
        self,
        client: Client,
        how: Metric,
        sources: Sequence[Stored],
        device: str | None,
        params: ServeParams,
    ) -> None:
        self.client, self.params, self.counters = client, params, Counters()
        self.shards: list[ShardState] = []
        self.n_replicas = 0
        self._how, self._sources, self._device = how, list(sources), device
        self._wires: dict[str, Wire] = {}
        self._reloads: set[asyncio.Task[None]] = set()
        # one replica is placed after the other: each choice sees where those before went
        self._placing = asyncio.Lock()
        self._cpu = backends.choose("dask.search", "cpu")
        self.closed = False

    async def start(self, n_rows: Sequence[int], n_replicas: int, workers: list[str]) -> None:
        """Place every shard on n_replicas of the workers."""
        chosen = assign("dask.load", n_rows, workers, n_replicas)
        held: dict[str, list[int]] = {}
        for s, some in enumerate(chosen):
            for worker in some:
                held.setdefault(worker, []).append(s)

        async def fill(worker: str, numbers: list[int]) -> None:
            for s in numbers:  # one actor a worker, and one shard after the other there
                await self._load(s, worker)

        loads = [fill(worker, numbers) for worker, numbers in held.items()]
        loaded = await asyncio.gather(*loads, return_exceptions=True)
        for worker, got in zip(held, loaded, strict=True):
            if isinstance(got, BaseException):
                raise _failed_load(worker, got) from got
        replicas = [[Replica(worker, self._wires[worker]) for worker in some] for some in chosen]
        self.shards = [ShardState(s, n, replicas[s]) for s, n in enumerate(n_rows)]
        self.n_replicas = n_replicas
        self.counters.by_shard = {shard.number: shard.answers for shard in self.shards}

    async def search(
        self, x: HostArray, question: Question, params: ServeParams
    ) -> tuple[HostArray, HostArray, float]:
        """All shards at once -> scan distances, ids (n, k), share of the rows that was searched."""
        self.counters.searches += 1
        calls = Together(x, question, params.call_timeout)
        asks = [asyncio.ensure_future(self._ask(s, calls, params)) for s in self.shards]
        await asyncio.wait(asks, timeout=params.deadline)
        found: list[Found] = []
        covered = 0
        failures: list[BaseException] = []
        for shard, one in zip(self.shards, asks, strict=True):
            if not one.done():
                one.cancel()
                failures.append(_too_late(shard, params))
            elif (error := one.exception()) is not None:
                failures.append(error)
            else:
                found.append(one.result())
                covered += shard.n_rows
        for error in failures:  # what the query itself did wrong is never part of an answer
            if params.on_loss == "raise" or not isinstance(error, NoReplicaLeft | TimeoutError):
                raise error
        self.counters.partial += bool(failures)
        if len(found) * len(x) * question.k > _MUCH:
            merged = await asyncio.to_thread(self._merge, found, x, question.k)
        else:
            merged = self._merge(found, x, question.k)
        return *merged, covered / max(1, question.n_rows)

    async def _ask(self, shard: ShardState, calls: Together, params: ServeParams) -> Found:
        async def send(replica: Replica) -> Found:
            return await calls.ask(replica.wire, shard.number)

        return await ask(shard, send, params, self.counters, self._lost)

    def _merge(self, found: list[Found], x: HostArray, k: int) -> Found:
        if not found:
            return np.full((len(x), k), np.inf, np.float32), np.full((len(x), k), -1, np.int64)
        if len(found) == 1:
            return sharded.whole(self._how, x, found[0])
        dists, ids = np.stack([one[0] for one in found]), np.stack([one[1] for one in found])
        return sharded.whole(self._how, x, self._cpu.ops.merge_topk(dists, ids, k))

    def _lost(self, shard: ShardState, replica: Replica) -> None:
        """A replica does not answer any more: so do not the others of its worker; load anew."""
        self.counters.lost += 1
        self._wires.pop(replica.worker, None)
        for other in self.shards:
            for one in other.replicas:
                one.alive = one.alive and one.worker != replica.worker
            if not self.closed and any(r.worker == replica.worker for r in other.replicas):
                other.replicas = [r for r in other.replicas if r.worker != replica.worker]
                task = asyncio.ensure_future(self._reload(other))
                self._reloads.add(task)
                task.add_done_callback(self._reloads.discard)

    async def _reload(self, shard: ShardState) -> None:
        """One more replica of a shard, on the worker with the fewest rows that has none; where
        there is no such worker, one may come: Dask starts another in place of a lost one.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + _RELOAD_WITHIN
        while not self.closed and loop.time() < ends:
            async with self._placing:
                have = {replica.worker for replica in shard.replicas}
                left = [w for w in await workers_of(self.client) if w not in have]
                if left:
                    worker = min(left, key=lambda w: (self._rows_on(w), w))
                    try:
                        wire = await self._load(shard.number, worker)
                    except Exception as error:  # another worker may do better
                        self.counters.last_failure = str(_failed_load(worker, error))
                    else:
                        shard.replicas.append(Replica(worker, wire))
                        self.counters.reloads += 1
                        return
            await asyncio.sleep(_LOOK_AGAIN)
        self.counters.failed_reloads += 1

    def _rows_on(self, worker: str) -> int:
        held = [s for s in self.shards if any(r.worker == worker for r in s.replicas)]
        return sum(shard.n_rows for shard in held)

    async def settled(self) -> None:
        """Wait for loads in the background to end."""
        while self._reloads:
            await asyncio.wait(set(self._reloads))

    async def rebalance(self, workers: list[str], n_replicas: int) -> None:
        """Place the shards anew on these workers: what stays is not loaded again; searches go on
        meanwhile.
        """
        await self.settled()
        async with self._placing:
            rows = [shard.n_rows for shard in self.shards]
            held = [[replica.worker for replica in shard.alive] for shard in self.shards]
            chosen = assign("dask.rebalance", rows, workers, n_replicas, held)
            for shard, wanted in zip(self.shards, chosen, strict=True):
                await self._move(shard, wanted)
            self.n_replicas = n_replicas
            used = {worker for some in chosen for worker in some}
            self._wires = {w: wire for w, wire in self._wires.items() if w in used}

    async def _move(self, shard: ShardState, wanted: list[str]) -> None:
        """The replicas of a shard to the wanted workers."""
        have = {replica.worker: replica for replica in shard.alive}
        for worker in wanted:
            if worker not in have:
                try:
                    have[worker] = Replica(worker, await self._load(shard.number, worker))
                except Exception as error:
                    raise _failed_load(worker, error) from error
        shard.replicas = [have[worker] for worker in wanted]
        for worker in have.keys() - set(wanted):
            while have[worker].waiting:  # searches under way; each of them ends
                await asyncio.sleep(0.01)
            with contextlib.suppress(Lost):  # then it has let go of everything
                await have[worker].wire.call("drop", shard.number, timeout=self.params.call_timeout)

    async def close(self) -> None:
        """Let go of the actors, and with them of the shards."""
        self.closed = True
        for task in self._reloads:
            task.cancel()
        self._wires.clear()
        self.shards = []
        self._sources = []

    async def _load(self, number: int, worker: str) -> Wire:
        """A shard on a worker, from its files."""
        wire = await self._wire(worker)
        await wire.call("load", number, self._sources[number], timeout=LOAD_WITHIN)
        return wire

    async def _wire(self, worker: str) -> Wire:
        """The actor of a worker, made at its first use."""
        if worker not in self._wires:
            made = self.client.submit(
                Holder,
                self._device,
                os.getpid(),
                actor=True,
                workers=[worker],
                pure=False,
            )
            await finished(self.client, made, worker, _START_WITHIN)
            direct = bool(self.client.direct_to_workers) or await can_reach(self.client, worker)
            self._wires[worker] = Wire(self.client, worker, made, direct=direct)
        return self._wires[worker]


async def workers_of(client: Client) -> list[str]:
    """Addresses of the workers that are there now."""
    about = await client.scheduler.identity()
    return sorted(about["workers"])


async def finished(client: Client, future: Future, worker: str, within: float) -> None:
    """Wait for a task that runs on one worker only: if that goes, Dask would wait for ever."""

    async def result() -> None:
        await future

    task = asyncio.ensure_future(result())
    ends = asyncio.get_running_loop().time() + within
    while not (await asyncio.wait({task}, timeout=1.0))[0]:
        gone = worker not in await workers_of(client)
        if gone or asyncio.get_running_loop().time() > ends:
            task.cancel()
            raise Lost("the worker has left" if gone else f"not done within {within:g} s")
    await task  # which raises what the task raised


def _failed_load(worker: str, error: BaseException) -> Exception:
    if isinstance(error, ValueError | TypeError | BackendError):
        return error
    got = f"{type(error).__name__}: {error}"
    return BackendError(message("dask.load", worker, "hold its shards", got))


def _too_late(shard: ShardState, params: ServeParams) -> TimeoutError:
    rule = f"answer within the deadline of {params.deadline:g} s"
    way_out = 'raise deadline, set hedge_after, or search with on_loss="partial"'
    name = f"shard {shard.number}"
    return TimeoutError(message("dask.search", name, rule, "no answer yet", way_out))
