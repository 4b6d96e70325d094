"""Calls of shards without a cluster: hedges, lost replicas, budgets, batches, placement."""

import asyncio
import os

import emulated
import numpy as np
import on_disk
import pytest
from compare import assert_same_knn
from emu import Fibers
from engines import needs_fibers

import gpuann
from gpuann import BackendError, shards
from gpuann.dask import ServeParams, clients
from gpuann.dask.batching import Batcher
from gpuann.dask.counters import Counters, Latencies
from gpuann.dask.hedging import Lost, NoReplicaLeft, Replica, ShardState, ask
from gpuann.dask.holder import Holder, Question, Stored
from gpuann.dask.placement import assign
from gpuann.dask.sources import grouped
from gpuann.distributed import manifest


def run(behave, params, n_replicas=2, n_calls=1):
    """behave(worker, number) gives seconds or an exception -> answers, counters, workers lost, and
    the workers that were asked.
    """
    counters, lost, sent = Counters(), [], []
    shard = ShardState(3, 10, [Replica(f"w{i}") for i in range(n_replicas)])

    async def send(replica):
        sent.append(replica.worker)
        what = behave(replica.worker, len(sent))
        if isinstance(what, Exception):
            raise what
        await asyncio.sleep(what)
        return replica.worker

    async def main():
        found = []
        for _ in range(n_calls):
            try:
                found.append(
                    await ask(shard, send, params, counters, lambda s, r: lost.append(r.worker))
                )
            except Exception as error:
                found.append(error)
        await asyncio.sleep(0.15)  # the losers' end
        assert all(replica.waiting == 0 for replica in shard.replicas)
        return found

    return asyncio.run(main()), counters, lost, sent


def test_a_slow_call_is_sent_to_the_second_replica_and_its_answer_counts():
    params = ServeParams(hedge_after=10, max_hedge_ratio=1)
    found, counters, lost, sent = run(lambda w, n: 0.1 if n == 1 else 0, params)
    assert (counters.calls, counters.hedges, counters.hedge_wins) == (1, 1, 1)
    assert lost == []
    assert sorted(sent) == ["w0", "w1"]
    assert found == sent[1:], "the second one's answer"


def test_a_hedge_that_is_slower_loses():
    params = ServeParams(hedge_after=10, max_hedge_ratio=1)
    found, counters, _, sent = run(lambda w, n: 0.03 if n == 1 else 0.1, params)
    assert (counters.hedges, counters.hedge_wins) == (1, 0)
    assert found == sent[:1]


def test_without_hedging_the_slow_call_is_waited_for():
    found, counters, _, sent = run(lambda w, n: 0.05, ServeParams())
    assert (counters.hedges, found) == (0, sent)


def test_hedges_stay_within_the_budget():
    params = ServeParams(hedge_after=1, max_hedge_ratio=0.1)
    _, counters, _, sent = run(lambda w, n: 0.02, params, n_calls=40)
    assert counters.calls == 40
    assert counters.hedges == 4
    assert len(sent) == 44


def test_p95_waits_for_a_hundred_calls():
    latencies = Latencies()
    for i in range(99):
        latencies.add(i / 1000)
    assert latencies.p95() is None
    latencies.add(0.099)
    assert latencies.p95() == pytest.approx(0.09405)
    assert latencies.summary()["p50_ms"] == pytest.approx(49.5)


def test_a_lost_replica_is_passed_over_and_told():
    found, counters, lost, _ = run(lambda w, n: Lost("gone") if n == 1 else 0, ServeParams())
    assert counters.retries == 1
    assert len(lost) == 1
    assert found[0] not in lost


def test_a_shard_that_nobody_has_is_named():
    found, counters, lost, _ = run(lambda w, n: Lost("gone"), ServeParams(), n_calls=2)
    assert all(isinstance(error, NoReplicaLeft) for error in found)
    assert "shard 3" in str(found[0])
    assert "w0: gone" in str(found[0])
    assert sorted(lost) == ["w0", "w1"]
    assert counters.calls == 2


def test_a_query_that_kills_workers_stops_at_the_second():
    found, _, lost, _ = run(lambda w, n: Lost("died"), ServeParams(), n_replicas=4)
    assert isinstance(found[0], NoReplicaLeft)
    assert len(lost) == 2


def test_what_the_query_did_wrong_is_raised_at_once():
    found, counters, lost, _ = run(lambda w, n: ValueError("bad"), ServeParams())
    assert isinstance(found[0], ValueError)
    assert (counters.retries, lost) == (0, [])


def test_queries_that_come_together_are_asked_together():
    sizes = []

    async def ask_for(x):
        sizes.append(len(x))
        await asyncio.sleep(0.01)
        if np.isnan(x).any():
            raise ValueError("a bad one")
        return x[:, :1] * 2, x[:, :1] * 3, 1.0

    async def main():
        batcher = Batcher()
        rows = [np.full((n, 2), n, np.float32) for n in (1, 2, 3, 4, 50)]
        found = await asyncio.gather(*(batcher.ask("kind", x, 8, ask_for) for x in rows))
        for x, (dists, ids, more) in zip(rows, found, strict=True):
            assert (dists == x[:, :1] * 2).all()
            assert (ids == x[:, :1] * 3).all()
            assert more == 1.0
        bad = np.full((1, 2), np.nan, np.float32)
        with pytest.raises(ValueError, match="a bad one"):
            await batcher.ask("kind", bad, 8, ask_for)
        assert (await batcher.ask("kind", rows[0], 8, ask_for))[2] == 1.0

    asyncio.run(main())
    assert sum(sizes[:-2]) == 60
    assert max(sizes[:-2]) == 50
    assert len(sizes[:-2]) < 5  # of five searches some went together


def test_replicas_are_on_different_workers_and_evenly_many_rows_on_each():
    workers = ["a", "b", "c", "d"]
    chosen = assign("here", [10] * 8, workers, 2)
    assert all(len(set(some)) == 2 for some in chosen)
    load = {w: sum(10 for some in chosen if w in some) for w in workers}
    assert set(load.values()) == {40}
    with pytest.raises(ValueError, match="n_replicas must be at most the 4 workers"):
        assign("here", [10], workers, 5)


def test_replicas_stay_where_they_are_when_a_worker_comes():
    before = assign("here", [10] * 6, ["a", "b"], 1)
    after = assign("here", [10] * 6, ["a", "b", "c"], 1, before)
    moved = sum(x != y for x, y in zip(before, after, strict=True))
    assert moved == 2  # a third of the rows, those of the new worker
    gone = assign("here", [10] * 6, ["b", "c"], 1, after)
    assert all(some[0] in ("b", "c") for some in gone)


@pytest.mark.parametrize("sizes", [[5, 5, 5, 5], [100, 1, 1, 1], [1, 1, 1, 100], [3] * 7])
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_files_are_grouped_in_runs_none_empty(sizes, n):
    groups = grouped(sizes, n)
    assert len(groups) == n
    assert [i for part in groups for i in range(*part.indices(len(sizes)))] == list(
        range(len(sizes))
    )
    assert all(part.stop > part.start for part in groups)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"hedge_after": "p99"}, "hedge_after must be milliseconds"),
        ({"hedge_after": 0}, "hedge_after must be above 0"),
        ({"max_hedge_ratio": 2}, "max_hedge_ratio must be at least 0"),
        ({"on_loss": "ignore"}, "on_loss must be one of raise, partial"),
        ({"deadline": -1}, "deadline must be above 0"),
        ({"batch_queries": 0}, "batch_queries must be at least 1"),
    ],
)
def test_messages(given, text):
    with pytest.raises((ValueError, TypeError), match=f"dask.ServeParams: {text}"):
        ServeParams(**given)


def test_no_client_is_an_error_with_a_way_out(tmp_path):
    from gpuann import dask

    with pytest.raises(BackendError, match=r"use gpuann\.shards in one process"):
        dask.load(tmp_path)


def test_a_bad_worker_is_named_before_anything_is_placed(tmp_path):
    well = {"version": gpuann.__version__, "folder": True}
    told = {"tcp://a": well, "tcp://b": well}
    assert clients.sound_workers("here", told, tmp_path) == ["tcp://a", "tcp://b"]
    for wrong, text in [
        (well | {"version": "0.0"}, f"tcp://b must have gpuann {gpuann.__version__}"),
        (well | {"folder": False}, "tcp://b must see .*; give a folder that all machines share"),
        (BackendError("no GPU"), "tcp://b must have gpuann and the device, got .*no GPU"),
    ]:
        with pytest.raises(BackendError, match=text):
            clients.sound_workers("here", told | {"tcp://b": wrong}, tmp_path)
    with pytest.raises(BackendError, match="the cluster must have a worker"):
        clients.sound_workers("here", {}, tmp_path)
    with pytest.raises(ValueError, match="workers must be among tcp://a, tcp://b, got 'tcp://c'"):
        clients.among("here", ["tcp://a", "tcp://c"], ["tcp://a", "tcp://b"])


@needs_fibers
def test_a_worker_with_a_device(tmp_path):
    """The actor without a cluster: a load compiles, and the device's answers are the CPU's."""
    shards.save(tmp_path / "x", on_disk.build("ivf_pq"))
    source = Stored(
        str(tmp_path / "x"), manifest.read_manifest("", tmp_path / "x").shards, "shared"
    )
    x = np.ascontiguousarray(on_disk.QUERIES[:4])

    async def answer(device):
        holder = Holder(device, os.getpid())
        assert await holder.load(0, source) == 700
        found = await holder.search([0], x, Question(5, 4, 1 << 28, 700))
        await holder.drop(0)
        with pytest.raises(KeyError):
            await holder.search([0], x, Question(5, 4, 1 << 28, 700))
        return found[0]

    want = asyncio.run(answer("cpu"))
    with emulated.stands_in(emulated.EmulatedDevice(Fibers(checked=False))):
        assert_same_knn(asyncio.run(answer("cuda")), want)
