"""The textbook case: 200,000 x 64, 256 lists, 8 Lloyd iterations from given rows."""

import numpy as np
import pytest
from compare import assert_same_knn, recall

from bench.data import textbook
from gpuann import brute_force, ivf_flat, kmeans, shards

# what the textbook's own run gave
CURVE = {1: 0.340, 2: 0.557, 4: 0.838, 8: 0.987, 16: 1.000}


@pytest.mark.slow
def test_rows_scanned_and_recall_curve():
    base, queries, start = (np.asarray(a) for a in textbook())
    rows, queries = base.astype(np.float32), queries.astype(np.float32)
    params = kmeans.KMeansParams(n_clusters=256, init_method="Array", max_iter=8, tol=0.0)
    centers, _, n_iter = kmeans.fit(params, rows, rows[start])
    assert n_iter == 8
    index = ivf_flat.build_precomputed(ivf_flat.IndexParams(n_lists=256), rows, centers)
    truth = brute_force.search(brute_force.build(rows), queries, 10)[1]
    for n_probes, want in CURVE.items():
        found = ivf_flat.search(ivf_flat.SearchParams(n_probes=n_probes), index, queries, 10)[1]
        assert abs(recall(found, truth) - want) <= 0.01, n_probes
        if n_probes == 8:
            assert 0.984 <= recall(found, truth) <= 0.988

    split = shards.build(ivf_flat.IndexParams(n_lists=256), rows, ["cpu"] * 4, centers=centers)
    probe = ivf_flat.SearchParams(n_probes=8)
    want = ivf_flat.search(probe, index, queries, 10)
    assert_same_knn(shards.search(probe, split, queries, 10), want)

    nearest = brute_force.search(brute_force.build(centers), queries, 8)[1]
    scanned = index.list_sizes[nearest].sum(axis=1).mean()
    assert abs(scanned - 6660) <= 10
