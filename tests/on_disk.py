"""Indexes in folders, for the tests of those."""

import pytest

from bench.data import clustered
from gpuann import ivf_flat, ivf_pq, ivf_sq, shards

ROWS, QUERIES = clustered(700, 16, 30)
KINDS = {
    "brute_force": ("cosine", None),
    "ivf_flat": (ivf_flat.IndexParams(n_lists=10), ivf_flat.SearchParams(n_probes=4)),
    "ivf_flat cosine": (
        ivf_flat.IndexParams(n_lists=10, metric="cosine"),
        ivf_flat.SearchParams(n_probes=4),
    ),
    "ivf_pq": (
        ivf_pq.IndexParams(n_lists=10, pq_dim=5, kmeans_n_iters=4),
        ivf_pq.SearchParams(n_probes=4),
    ),
    "ivf_sq": (ivf_sq.IndexParams(n_lists=10), ivf_sq.SearchParams(n_probes=4)),
    "ivf_sq whole": (
        ivf_sq.IndexParams(n_lists=10, by_residual=False, metric="cosine"),
        ivf_sq.SearchParams(n_probes=4),
    ),
}


def build(kind, n=3, **more):
    return shards.build(KINDS[kind][0], ROWS, ["cpu"] * n, **more)


def search(kind, index, queries=QUERIES):
    return shards.search(KINDS[kind][1], index, queries, 10)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "index"


@pytest.fixture
def saved(folder):
    """Rows 0 to 699 of ivf_flat in three shards."""
    shards.save(folder, build("ivf_flat"))
    return folder


def files(folder):
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith(".lock"))
