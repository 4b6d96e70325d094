"""Talking to the actor on one worker, over Dask's own connections.

Not by the proxy that Dask gives for an actor: when the call itself fails there (the worker came
back without the actor, say), its future never ends. Here every call ends: with the answer, with
what the actor raised, or with `Lost`.
"""

import asyncio
import pickle
from typing import Any

from distributed import Client, Future
from distributed.actor import ProxyRPC

from gpuann.dask.hedging import Lost

_LOOK = 0.25  # seconds between looking whether a worker that has not answered is still there
_REACH_WITHIN = 2.0  # seconds to find out whether a worker can be reached directly


class Wire:
    """Calls of the actor with a key on one worker; of the client's event loop."""

    def __init__(self, client: Client, worker: str, actor: Future, *, direct: bool) -> None:
        self.worker = worker
        self.key = actor.key
        self._actor = actor  # held: Dask forgets the actor with its last future
        self._client, self._direct = client, direct

    async def call(self, method: str, *args: Any, timeout: float) -> Any:
        """actor.method(*args) on the worker, within `timeout` seconds.

        Raises
        ------
        Lost, if the worker cannot be reached, has no such actor any more, or says nothing; else
        what the method raised.
        """
        rpc: Any = (
            self._client.rpc(self.worker)
            if self._direct
            else ProxyRPC(self._client.scheduler, self.worker)
        )
        sent = pickle.dumps((method, args), pickle.HIGHEST_PROTOCOL)
        asked = asyncio.ensure_future(
            rpc.actor_execute(actor=self.key, function="call", args=[sent], kwargs={})
        )
        try:
            await self._ends(asked, timeout)
            answer = asked.result()
        except Lost:
            raise
        except Exception as error:  # whatever the way there raises, the answer is not to be had
            raise Lost(f"{type(error).__name__}: {error}") from error
        finally:
            asked.cancel()
        if answer["status"] == "OK":
            return pickle.loads(answer["result"])
        raise answer["exception"]

    async def _ends(self, asked: "asyncio.Task[Any]", timeout: float) -> None:
        """Wait for a call. A worker that was killed between two calls refuses connections, which
        Dask tries again for 30 s: whether the worker is there is known to the scheduler.
        """
        left = timeout
        while not (await asyncio.wait({asked}, timeout=min(_LOOK, left)))[0]:
            left -= _LOOK
            if left <= 0:
                raise Lost(f"no answer within {timeout:g} s")
            if not await self._client.scheduler.ncores(workers=[self.worker]):
                raise Lost("the worker has left")


async def can_reach(client: Client, worker: str) -> bool:
    """Whether this process can connect to a worker itself; else calls go through the scheduler."""
    try:
        await asyncio.wait_for(client.rpc(worker).identity(), _REACH_WITHIN)
    except Exception:
        return False
    return True
