"""An index on a cluster of processes: the single index' answers; what becomes of lost workers."""

import asyncio
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import dask.array as da
import distributed
import numpy as np
import on_disk
import pytest
from compare import assert_same_knn
from on_disk import folder, saved

from gpuann import BackendError, dask, filters, shards
from gpuann.dask.holder import Holder

__all__ = ["folder", "saved"]  # fixtures


@contextmanager
def started(n_workers, *, processes):
    """A cluster of one thread a worker -> it, and a client that is not the default."""
    options = {"threads_per_worker": 1, "dashboard_address": ":0", "processes": processes}
    with (
        distributed.LocalCluster(n_workers=n_workers, **options) as cluster,
        distributed.Client(cluster, timeout=30, set_as_default=False) as client,
    ):
        yield cluster, client


@pytest.fixture(scope="module")
def client():
    with started(3, processes=True) as (_, client):
        yield client


@pytest.mark.parametrize("kind", on_disk.KINDS)
@pytest.mark.parametrize("n_shards", [1, 2, 5])
def test_answers_are_those_of_the_single_index(client, folder, kind, n_shards):
    local = on_disk.build(kind)
    shards.save(folder, local)
    want = on_disk.search(kind, local)
    index = dask.load(folder, client=client, n_shards=n_shards, n_replicas=2)
    try:
        params = on_disk.KINDS[kind][1]
        found = dask.search(params, index, on_disk.QUERIES, 10)
        assert_same_knn(found, want)
        assert found.coverage == 1.0
        assert len(index) == 700
        assert len(index.workers) == n_shards
        one = dask.search(params, index, on_disk.QUERIES[:1], 10)
        assert_same_knn(one, (want[0][:1], want[1][:1]))
        some = filters.from_ids(np.arange(0, 700, 3))
        kept = dask.search(params, index, on_disk.QUERIES, 10, some)
        assert_same_knn(kept, shards.search(params, local, on_disk.QUERIES, 10, filter=some))
        assert_same_knn(on_disk.search(kind, index.to_local()), want)
    finally:
        index.close()


def kill_holder(client, index, shard=0):
    """SIGKILL to a worker that holds a shard -> its address."""
    worker = index.workers[shard][0]
    pid = client.run(os.getpid, workers=[worker])[worker]
    os.kill(pid, signal.SIGKILL)
    return worker


def test_a_killed_worker_is_passed_over_and_replaced(client, saved):
    params = on_disk.KINDS["ivf_flat"][1]
    want = on_disk.search("ivf_flat", shards.load(saved, ["cpu"]))
    index = dask.load(saved, client=client, n_replicas=2)
    try:
        assert_same_knn(dask.search(params, index, on_disk.QUERIES, 10), want)
        kill_holder(client, index)
        for _ in range(6):
            found = dask.search(params, index, on_disk.QUERIES, 10, deadline=60)
            assert_same_knn(found, want)
            assert found.coverage == 1.0
        index.settled()
        assert index.stats()["lost"] >= 1
        client.wait_for_workers(3, timeout=30)
        index.rebalance()
        assert all(len(some) == 2 for some in index.workers)
        assert_same_knn(dask.search(params, index, on_disk.QUERIES, 10), want)
    finally:
        index.close()


def test_without_a_replica_the_shard_is_named_or_the_coverage_says_so(client, saved):
    params = on_disk.KINDS["ivf_flat"][1]
    client.wait_for_workers(3, timeout=30)
    index = dask.load(saved, client=client)
    try:
        kill_holder(client, index, shard=1)
        with pytest.raises(BackendError, match="shard 1 must be answered by a worker"):
            dask.search(params, index, on_disk.QUERIES, 10, deadline=60)
        index.settled()  # its files are read again, by another worker
        found = dask.search(params, index, on_disk.QUERIES, 10)
        want = on_disk.search("ivf_flat", shards.load(saved, ["cpu"]))
        assert_same_knn(found, want)
        kill_holder(client, index, shard=2)
        found = dask.search(params, index, on_disk.QUERIES, 10, on_loss="partial")
        assert 0 < found.coverage < 1
        assert found[1].shape == (len(on_disk.QUERIES), 10)
    finally:
        index.close()


def test_a_closed_index_and_other_arguments_are_refused(client, saved):
    client.wait_for_workers(3, timeout=30)
    params = on_disk.KINDS["ivf_flat"][1]
    with pytest.raises(ValueError, match="n_replicas must be at most the 3 workers"):
        dask.load(saved, client=client, n_replicas=4)
    index = dask.load(saved, client=client)
    with pytest.raises(ValueError, match="queries must have shape"):
        dask.search(params, index, on_disk.QUERIES[:, :3], 10)
    index.close()
    with pytest.raises(ValueError, match="index must be open"):
        dask.search(params, index, on_disk.QUERIES, 10)


def test_queries_of_a_dask_array_are_searched_block_by_block(client, saved):
    client.wait_for_workers(3, timeout=30)
    params = on_disk.KINDS["ivf_flat"][1]
    want = on_disk.search("ivf_flat", shards.load(saved, ["cpu"]))
    index = dask.load(saved, client=client)
    n, dim = on_disk.QUERIES.shape
    for chunks in [(7, dim), (n, dim), ((0, 5, n - 5), (6, dim - 6))]:
        queries = da.from_array(on_disk.QUERIES, chunks=chunks)
        found = dask.search(params, index, queries, 10)
        assert_same_knn(found, want)
        assert found.coverage == 1.0
    none = dask.search(params, index, queries[:0], 10)
    assert (none[0].shape, none[1].dtype, none.coverage) == ((0, 10), np.int64, 1.0)
    with pytest.raises(ValueError, match=r"queries must have shape \(n, 16\), got \(\d+, 3\)"):
        dask.search(params, index, queries[:, :3], 10)
    with pytest.raises(ValueError, match=r"queries must have shape \(n, 16\), got \(16,\)"):
        dask.search(params, index, queries[0], 10)
    with pytest.raises(TypeError, match=r"queries must be an array, got .*; search each chunk"):
        dask.search(params, index, [on_disk.QUERIES[:2], on_disk.QUERIES[2:]], 10)
    index.close()


@pytest.fixture(scope="module")
def threads():
    """Workers that are threads of this process: what is patched here is patched there."""
    with started(2, processes=False) as (_, client):
        yield client


def slow(monkeypatch, seconds):
    """seconds(shard, call of that shard) that a call takes longer, the most of its shards."""
    search, calls = Holder.search, {}

    async def slowly(holder, numbers, x, question):
        for number in numbers:
            calls[number] = calls.get(number, 0) + 1
        await asyncio.sleep(max(seconds(number, calls[number]) for number in numbers))
        return await search(holder, numbers, x, question)

    monkeypatch.setattr(Holder, "search", slowly)
    return calls


def test_a_shard_that_is_late(threads, saved, monkeypatch):
    params = on_disk.KINDS["ivf_flat"][1]
    want = on_disk.search("ivf_flat", shards.load(saved, ["cpu"]))
    index = dask.load(saved, client=threads, n_shards=2)
    slow(monkeypatch, lambda shard, call: 1.0 if shard == 1 else 0)
    with pytest.raises(TimeoutError, match=r"shard 1 must answer within the deadline of 0\.2 s"):
        dask.search(params, index, on_disk.QUERIES, 10, deadline=0.2)
    found = dask.search(params, index, on_disk.QUERIES, 10, deadline=0.2, on_loss="partial")
    rows = [shard.n_rows for shard in index.serving.shards]
    assert found.coverage == rows[0] / 700
    assert_same_knn(dask.search(params, index, on_disk.QUERIES, 10), want)
    assert index.stats()["lost"] == 0, "late is not lost"
    index.close()


def test_a_slow_replica_is_hedged_and_the_answer_is_the_same(threads, saved, monkeypatch):
    params = on_disk.KINDS["ivf_flat"][1]
    want = on_disk.search("ivf_flat", shards.load(saved, ["cpu"]))
    serve = dask.ServeParams(hedge_after=20, max_hedge_ratio=1)
    index = dask.load(saved, client=threads, n_shards=1, n_replicas=2, serve=serve)
    calls = slow(monkeypatch, lambda shard, call: 0.5 if call == 1 else 0)
    assert_same_knn(dask.search(params, index, on_disk.QUERIES, 10), want)
    stats = index.stats()
    assert (stats["hedges"], stats["hedge_wins"], calls[0]) == (1, 1, 2)
    index.close()


def test_searches_from_many_threads_at_once(threads, saved):
    """Some travel together; each gets its own answer."""
    params = on_disk.KINDS["ivf_flat"][1]
    want = on_disk.search("ivf_flat", shards.load(saved, ["cpu"]))
    index = dask.load(saved, client=threads, n_shards=2)

    def one(i):
        return dask.search(params, index, on_disk.QUERIES[i : i + 1], 10)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(one, range(30)))
    for i, answer in enumerate(found):
        assert_same_knn(answer, (want[0][i : i + 1], want[1][i : i + 1]))
    assert index.stats()["searches"] < 30, "some went together"
    index.close()


def test_a_worker_that_comes_takes_its_share(saved):
    params = on_disk.KINDS["ivf_flat"][1]
    want = on_disk.search("ivf_flat", shards.load(saved, ["cpu"]))
    with started(1, processes=False) as (cluster, client):
        index = dask.load(saved, client=client)
        cluster.scale(3)
        client.wait_for_workers(3, timeout=30)
        index.rebalance(n_replicas=2)
        assert {len(set(some)) for some in index.workers} == {2}
        assert_same_knn(dask.search(params, index, on_disk.QUERIES, 10), want)
        first = sorted({worker for some in index.workers for worker in some})[0]
        stay = [w for w in client.scheduler_info(-1)["workers"] if w != first]
        index.rebalance(workers=stay)
        assert first not in {worker for some in index.workers for worker in some}
        assert_same_knn(dask.search(params, index, on_disk.QUERIES, 10), want)
        index.close()


def test_models_of_their_own_are_a_shard_each(threads, folder):
    params = on_disk.KINDS["ivf_flat"][1]
    apart = on_disk.build("ivf_flat", scope="independent")
    shards.save(folder, apart)
    index = dask.load(folder, client=threads)
    assert len(index.workers) == 3
    found = dask.search(params, index, on_disk.QUERIES, 10)
    assert_same_knn(found, on_disk.search("ivf_flat", apart))
    index.close()
    with pytest.raises(ValueError, match="n_shards must be 3, as the files with a model each"):
        dask.load(folder, client=threads, n_shards=2)
