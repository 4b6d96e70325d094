"""An index on a cluster of processes: the single index' answers; what becomes of lost workers."""

import os
import signal

import distributed
import numpy as np
import on_disk
import pytest
from compare import assert_same_knn

from gpuann import BackendError, dask, filters, shards

pytestmark = pytest.mark.filterwarnings("ignore")  # of Dask's own servers, on their way out


@pytest.fixture(scope="module")
def client():
    options = {"threads_per_worker": 1, "dashboard_address": None, "processes": True}
    with (
        distributed.LocalCluster(n_workers=3, **options) as cluster,
        distributed.Client(cluster, timeout=30) as client,
    ):
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


folder, saved = on_disk.folder, on_disk.saved
