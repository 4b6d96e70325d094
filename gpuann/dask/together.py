"""Shards of one search on one worker, asked in one call: a call has its price before anything is
searched, and a message fewer is a chance fewer to be late.
"""

import asyncio
from typing import Any

from gpuann.arrays import HostArray
from gpuann.dask.holder import Question
from gpuann.dask.wire import Wire
from gpuann.partitioned.partitions import Found


class Together:
    """The calls of one search; of one event loop."""

    def __init__(self, x: HostArray, question: Question, timeout: float) -> None:
        self._asked = x, question
        self._timeout = timeout
        self._open: dict[Wire, tuple[list[int], asyncio.Task[list[Found]]]] = {}

    async def ask(self, wire: Wire, number: int) -> Found:
        """The answer of one shard; those of the same worker that are asked for in the same turn of
        the event loop travel with it.
        """
        if wire not in self._open:
            numbers: list[int] = []
            task = asyncio.ensure_future(self._send(wire, numbers))
            task.add_done_callback(_looked_at)
            self._open[wire] = numbers, task
        numbers, answer = self._open[wire]
        at = len(numbers)
        numbers.append(number)
        # one that gives up takes nobody's answer with it
        return (await asyncio.shield(answer))[at]

    async def _send(self, wire: Wire, numbers: list[int]) -> list[Found]:
        await asyncio.sleep(0)  # timers that are due together are told in two turns
        del self._open[wire]
        found: list[Found] = await wire.call("search", numbers, *self._asked, timeout=self._timeout)
        return found


def _looked_at(task: "asyncio.Task[Any]") -> None:
    """What a call raised after everybody gave up is not news."""
    if not task.cancelled():
        task.exception()
