"""One shard's call: to the replica with the least to do, to a second one when it is slow, to the
next one when it is lost.

Every replica of a shard holds the same bytes, so it does not matter whose answer comes first. The
slower call runs to its end beside the next searches, and what it raises is taken note of. Source:
Dean and Barroso, "The Tail at Scale", CACM 2013 (hedged requests with a budget).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from gpuann.dask.counters import Counters, Latencies
from gpuann.dask.params import ServeParams
from gpuann.errors import BackendError, message

T = TypeVar("T")

MOST_LOST = 2  # workers in one call: a query that kills those that see it stops there


class Lost(Exception):  # noqa: N818 - what happened, not an error of the caller's
    """A replica cannot be asked any more."""


class NoReplicaLeft(BackendError):  # noqa: N818 - as above
    """A shard that nobody can answer for."""


class Replica:
    """A shard on one worker."""

    def __init__(self, worker: str, wire: Any = None) -> None:
        self.worker, self.wire = worker, wire
        self.waiting = 0
        """Calls that it has not answered."""
        self.alive = True

    def __repr__(self) -> str:
        return f"Replica({self.worker}, {'alive' if self.alive else 'lost'})"


class ShardState:
    """A shard and its replicas, as the caller sees them: of one event loop."""

    def __init__(self, number: int, n_rows: int, replicas: list[Replica]) -> None:
        self.number, self.n_rows, self.replicas = number, n_rows, replicas
        self.answers = Latencies()
        """Of calls of this shard, whoever answered."""
        self.firsts = Latencies()
        """Of what was sent first, to its own end: what hedging is decided by."""
        self._turn = 0

    @property
    def alive(self) -> list[Replica]:
        """Replicas that can be asked."""
        return [replica for replica in self.replicas if replica.alive]

    def pick(self, tried: set[Replica]) -> Replica | None:
        """The replica with the least to do of those not tried yet; equal ones take turns."""
        left = [replica for replica in self.alive if replica not in tried]
        if not left:
            return None
        self._turn += 1
        turned = left[self._turn % len(left) :] + left[: self._turn % len(left)]
        return min(turned, key=lambda replica: replica.waiting)

    def hedge_delay(self, params: ServeParams) -> float | None:
        """Seconds until a second replica is asked, None for never."""
        if params.hedge_after is None or len(self.alive) < 2:
            return None
        if params.hedge_after == "p95":
            return self.firsts.p95()
        return float(params.hedge_after) / 1e3


async def ask(
    shard: ShardState,
    send: Callable[[Replica], Awaitable[T]],
    params: ServeParams,
    counters: Counters,
    on_lost: Callable[[ShardState, Replica], None],
) -> T:
    """send(replica) of one replica or the next -> its answer.

    Raises
    ------
    NoReplicaLeft, if all are lost, or two were while they had this call; what `send` raises beside
    `Lost` is the query's own fault and raised at once.
    """
    begin, tried, causes = time.monotonic(), set[Replica](), list[str]()
    running: dict[asyncio.Task[T], tuple[Replica, str]] = {}

    def start(replica: Replica, why: str) -> None:
        tried.add(replica)
        replica.waiting += 1
        task = asyncio.ensure_future(_timed(send(replica), shard, why))
        running[task] = replica, why
        task.add_done_callback(lambda done: _ended(done, shard, replica, on_lost))

    counters.calls += 1
    first = shard.pick(tried)
    if first is not None:
        start(first, "first")
    delay = shard.hedge_delay(params)
    while running:
        wait = None if delay is None else max(0.0, begin + delay - time.monotonic())
        done, _ = await asyncio.wait(running, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            delay, second = None, shard.pick(tried)
            if second is not None and counters.hedges < params.max_hedge_ratio * counters.calls:
                counters.hedges += 1
                start(second, "hedge")
        for task in done:
            replica, why = running.pop(task)
            error = task.exception()
            if error is None:
                counters.hedge_wins += why == "hedge"
                shard.answers.add(time.monotonic() - begin)
                return task.result()
            if not isinstance(error, Lost):
                raise error
            causes.append(f"{replica.worker}: {error}")
            following = shard.pick(tried) if len(causes) < MOST_LOST else None
            if following is not None and not running:
                counters.retries += 1
                start(following, "retry")
    got = "; ".join(causes) or "every worker that had it is lost"
    way_out = 'load it with n_replicas of 2 or more, or search with on_loss="partial"'
    rule = "be answered by a worker"
    raise NoReplicaLeft(message("dask.search", f"shard {shard.number}", rule, got, way_out))


async def _timed(answer: Awaitable[T], shard: ShardState, why: str) -> T:
    begin = time.monotonic()
    found = await answer
    if why == "first":
        shard.firsts.add(time.monotonic() - begin)
    return found


def _ended(
    task: "asyncio.Task[Any]",
    shard: ShardState,
    replica: Replica,
    on_lost: Callable[[ShardState, Replica], None],
) -> None:
    """A call has ended, whether somebody still waits for it or not."""
    replica.waiting -= 1
    if task.cancelled():
        return
    if isinstance(task.exception(), Lost) and replica.alive:  # which also counts as looked at
        replica.alive = False
        on_lost(shard, replica)
