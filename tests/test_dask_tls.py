"""A cluster that talks over TLS, by Dask's own `Security`: nothing of ours changes."""

import distributed
import on_disk
import pytest
from compare import assert_same_knn
from distributed.security import Security

from gpuann import dask, shards


def test_a_cluster_that_talks_over_tls(tmp_path):
    security = Security.temporary()  # a certificate of its own, needs the package cryptography
    options = {"threads_per_worker": 1, "dashboard_address": ":0", "protocol": "tls://"}
    with (
        distributed.LocalCluster(n_workers=2, security=security, **options) as cluster,
        distributed.Client(
            cluster.scheduler_address, security=security, timeout=30, set_as_default=False
        ) as client,
    ):
        params, asked = on_disk.KINDS["ivf_pq"]
        dask.build(params, on_disk.ROWS, tmp_path / "x", client=client, n_shards=2)
        index = dask.load(tmp_path / "x", client=client, n_replicas=2)
        assert all(worker.startswith("tls://") for some in index.workers for worker in some)
        want = on_disk.search("ivf_pq", shards.load(tmp_path / "x", ["cpu"]))
        assert_same_knn(dask.search(asked, index, on_disk.QUERIES, 10), want)
        index.close()
        with pytest.raises((TypeError, OSError)):  # without the certificate nobody gets in
            distributed.Client(cluster.scheduler_address, timeout=2)
