"""Calls of a worker's actor: shards of one worker in one, and a worker that has left."""

import asyncio
import os
import pickle

import distributed
import numpy as np
import pytest
from distributed.utils_test import gen_cluster

from gpuann.dask.hedging import Lost
from gpuann.dask.holder import Holder, Question
from gpuann.dask.together import Together
from gpuann.dask.wire import Wire, can_reach

X, QUESTION = np.zeros((1, 4), np.float32), Question(1, 1, 1 << 20, 10)


class Answers:
    """Stands in for a wire: gives back what it is asked, or raises."""

    def __init__(self, error=None):
        self.calls, self.error = [], error

    async def call(self, method, numbers, x, question, *, timeout):
        assert (method, x is X, question, timeout) == ("search", True, QUESTION, 7)
        self.calls.append(list(numbers))
        await asyncio.sleep(0.01)
        if self.error:
            raise self.error
        return [f"of {n}" for n in numbers]


def test_shards_of_a_worker_travel_together():
    async def main():
        one, other = Answers(), Answers()
        calls = Together(X, QUESTION, 7)
        asked = [(one, 3), (other, 4), (one, 5), (one, 1)]
        found = await asyncio.gather(*(calls.ask(wire, n) for wire, n in asked))
        assert found == [f"of {n}" for _, n in asked]
        assert (one.calls, other.calls) == ([[3, 5, 1]], [[4]])
        assert await calls.ask(one, 9) == "of 9", "what comes later goes by itself"
        assert one.calls == [[3, 5, 1], [9]]

    asyncio.run(main())


def test_one_that_gives_up_takes_nobody_with_it():
    async def main():
        wire, calls = Answers(), Together(X, QUESTION, 7)
        first, second = (asyncio.ensure_future(calls.ask(wire, n)) for n in (1, 2))
        await asyncio.sleep(0.005)
        first.cancel()
        assert await second == "of 2"

    asyncio.run(main())


def test_what_a_call_raises_is_raised_for_each_shard_of_it():
    async def main():
        wire, calls = Answers(Lost("gone")), Together(X, QUESTION, 7)
        asked = [calls.ask(wire, n) for n in (1, 2)]
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert [str(error) for error in found] == ["gone", "gone"]

    asyncio.run(main())


class Echo:
    """An actor with the one method that a wire calls."""

    async def call(self, asked):
        method, arguments = pickle.loads(asked)
        if method == "raise":
            raise ValueError(*arguments)
        await asyncio.sleep(arguments[0] if method == "sleep" else 0)
        return pickle.dumps((method, arguments))


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)] * 2, timeout=60)
async def test_every_call_ends(client, scheduler, first, second):
    """With the answer, with what the actor raised, or lost: too late, or the worker has left."""
    made = [
        client.submit(Echo, actor=True, workers=[w.address], pure=False) for w in (first, second)
    ]
    await distributed.wait(made)
    for direct in (True, False):
        wires = [
            Wire(client, worker.address, actor, direct=direct)
            for worker, actor in zip((first, second), made, strict=True)
        ]
        assert await wires[0].call("echo", 1, None, timeout=20) == ("echo", (1, None))
        with pytest.raises(ValueError, match="no such list"):
            await wires[0].call("raise", "no such list", timeout=20)
        with pytest.raises(Lost, match=r"no answer within 0\.3 s"):
            await wires[0].call("sleep", 5, timeout=0.3)
        assert await wires[0].call("sleep", 0.6, timeout=20) == ("sleep", (0.6,)), "slow is there"
    assert await can_reach(client, second.address)
    late = asyncio.ensure_future(wires[1].call("sleep", 30, timeout=50))
    await asyncio.sleep(0.1)
    await second.close()
    with pytest.raises(Lost):
        await late
    for direct in (True, False):  # nobody listens there any more: connecting is tried for 30 s
        gone = Wire(client, second.address, made[1], direct=direct)
        with pytest.raises(Lost, match="the worker has left"):
            await gone.call("echo", 1, timeout=20)


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)], timeout=60)
async def test_an_actor_that_is_not_there_is_lost(client, scheduler, worker):
    other = client.submit(int, pure=False)
    await other
    with pytest.raises(Lost, match="KeyError"):
        await Wire(client, worker.address, other, direct=True).call("echo", timeout=20)


def test_the_holder_answers_as_the_wire_asks():
    async def main():
        holder = Holder("cpu", os.getpid())
        sent = pickle.dumps(("drop", (3,)))
        assert pickle.loads(await holder.call(sent)) is None

    asyncio.run(main())
