"""Searches of a few queries that come at the same time, asked as one.

Nothing waits for company: a search goes out at once if no other of its kind is under way. Those
that come meanwhile are put together and go out when it has ended.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

import numpy as np

from gpuann.arrays import HostArray

Run = Callable[[HostArray], Awaitable[tuple[HostArray, HostArray, Any]]]


class Batcher:
    """Puts queries of one kind together; of one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, list[tuple[HostArray, asyncio.Future[Any]]]] = {}
        self._busy: set[Hashable] = set()
        self._tasks: set[asyncio.Task[None]] = set()  # asyncio itself holds a task weakly

    async def ask(self, kind: Hashable, x: HostArray, most: int, run: Run) -> Any:
        """run(queries) of x (n, dim) and what else of this kind waits, at most so many queries ->
        the part of x: distances, ids, and what run said of all.
        """
        if len(x) >= most:
            return await run(x)
        mine: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(kind, []).append((x, mine))
        if kind not in self._busy:
            self._busy.add(kind)
            self._tasks.add(task := asyncio.ensure_future(self._serve(kind, most, run)))
            task.add_done_callback(self._tasks.discard)
        return await mine

    async def _serve(self, kind: Hashable, most: int, run: Run) -> None:
        try:
            while self._waiting.get(kind):
                some: list[tuple[HostArray, asyncio.Future[Any]]] = []
                n = 0
                queue = self._waiting[kind]
                while queue and (not some or n + len(queue[0][0]) <= most):
                    some.append(queue.pop(0))
                    n += len(some[-1][0])
                await _answer([one for one in some if not one[1].done()], run)
        finally:
            self._busy.discard(kind)
            for _, future in self._waiting.pop(kind, ()):  # left only where this was cancelled
                future.cancel()


async def _answer(some: list[tuple[HostArray, "asyncio.Future[Any]"]], run: Run) -> None:
    """Ask for some queries together; what is raised is raised for each of them."""
    if not some:
        return
    try:
        dists, ids, more = await run(np.concatenate([x for x, _ in some]))
    except asyncio.CancelledError:
        for _, future in some:
            future.cancel()
        raise
    except Exception as error:
        for _, future in some:
            if not future.done():
                future.set_exception(error)
        return
    at = 0
    for x, future in some:
        if not future.done():
            future.set_result((dists[at : at + len(x)], ids[at : at + len(x)], more))
        at += len(x)
