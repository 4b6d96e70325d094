"""k-means: equals Lloyd's loops, improves, re-seeds empty clusters by its rule, repeats itself."""

import numpy as np
import oracle
import pytest
from compare import assert_close, assert_same

from bench.data import clustered
from gpuann import backends, kmeans
from gpuann.kmeans import KMeansParams

ROWS, _ = clustered(800, 12, 1)
CPU = backends.choose("test", "cpu")


def fit(rows=ROWS, centroids=None, **params):
    return kmeans.fit(KMeansParams(**params), rows, centroids)


def test_equals_the_loops():
    start = ROWS[:9]
    centers, inertia, n_iter = fit(
        centroids=start, n_clusters=9, init_method="Array", max_iter=6, tol=0.0
    )
    want, labels = oracle.lloyd(ROWS, start, 6)
    assert n_iter == 6
    assert_close(centers, want, rtol=1e-5, atol=1e-5)
    got, cost = kmeans.predict(KMeansParams(), ROWS, centers)
    assert_same(got, labels.astype(np.int32))
    assert cost == inertia == kmeans.cluster_cost(ROWS, centers)
    assert inertia == pytest.approx(((ROWS - want[labels]) ** 2).sum(), rel=1e-5)


@pytest.mark.parametrize("method", ["Random", "KMeansPlusPlus"])
def test_inertia_falls_and_the_seed_decides(method):
    few = fit(n_clusters=30, init_method=method, max_iter=1, tol=0.0)
    many = fit(n_clusters=30, init_method=method, max_iter=15, tol=0.0)
    assert many[1] < few[1]
    again = fit(n_clusters=30, init_method=method, max_iter=15, tol=0.0)
    assert_same(many[0], again[0])
    other = fit(n_clusters=30, init_method=method, max_iter=15, tol=0.0, seed=1)
    assert (other[0] != many[0]).any()


def test_plus_plus_starts_better_than_random():
    groups = np.repeat(100 * np.eye(20, dtype=np.float32), 30, axis=0)
    rows = groups + np.random.default_rng(0).standard_normal(groups.shape, dtype=np.float32)

    def first_cost(method):
        params = [KMeansParams(n_clusters=20, init_method=method, seed=s) for s in range(5)]
        starts = [kmeans.initial_centers(CPU, rows, p) for p in params]
        return np.mean([kmeans.cluster_cost(rows, c) for c in starts])

    assert first_cost("KMeansPlusPlus") < first_cost("Random")


def test_plus_plus_draws_no_row_twice_while_others_are_left():
    rows = np.repeat(np.eye(6, dtype=np.float32), 30, axis=0)
    params = KMeansParams(n_clusters=6, init_method="KMeansPlusPlus")
    starts = kmeans.initial_centers(CPU, rows, params)
    assert len(np.unique(starts, axis=0)) == 6


@pytest.mark.parametrize("tol", [0.0, None])
def test_empty_clusters_move_to_the_farthest_rows(tol):
    rows = np.array([[0], [1], [2], [50], [99]], np.float32)
    far = np.full((2, 1), 1e6, np.float32)
    start = np.concatenate([np.zeros((1, 1), np.float32), far])[None]
    once = kmeans.lloyd(CPU, rows[None], start, 1, tol)
    # the mean of all, then the farthest row from centre 0, then the next
    assert once.centers[0, :, 0].tolist() == [pytest.approx(30.4), 99.0, 50.0]
    done = kmeans.lloyd(CPU, rows[None], start, 10, tol)
    assert sorted(done.centers[0, :, 0].tolist()) == [1.0, 50.0, 99.0]


def test_early_stop():
    centers, _, n_iter = fit(n_clusters=5, max_iter=300, tol=1e-3)
    assert 1 < n_iter < 60
    assert centers.shape == (5, 12)
    settled = fit(n_clusters=5, max_iter=300, tol=0.0)
    assert settled[2] < 300


def test_it_settles_where_no_row_moves():
    """Without distances it comes to the same centres, an iteration earlier."""
    start = ROWS[:5][None]
    by_labels = kmeans.lloyd(CPU, ROWS[None], start, 300)
    by_inertia = kmeans.lloyd(CPU, ROWS[None], start, 300, 0.0)
    assert by_labels.n_iter == by_inertia.n_iter - 1 < 299
    assert by_labels.inertia == []
    assert_same(by_labels.centers, by_inertia.centers)


def test_a_batch_is_its_problems():
    x = np.stack([ROWS, ROWS[::-1], ROWS * 2])
    start = np.ascontiguousarray(x[:, 5:12])
    together = kmeans.lloyd(CPU, x, start, 5, -1.0)
    for b in range(3):
        alone = kmeans.lloyd(CPU, x[b : b + 1], start[b : b + 1], 5, -1.0)
        assert_same(together.centers[b], alone.centers[0])


def test_training_on_a_sample():
    centers, inertia, _ = fit(n_clusters=8, max_points_per_cluster=20, max_iter=10)
    assert inertia == pytest.approx(kmeans.cluster_cost(ROWS, centers))
    assert inertia > fit(n_clusters=8, max_iter=10)[1]


@pytest.mark.parametrize("n_clusters", [1, 799, 800])
def test_extreme_numbers_of_clusters(n_clusters):
    centers, inertia, _ = fit(n_clusters=n_clusters, max_iter=3)
    assert centers.shape == (n_clusters, 12)
    if n_clusters == 800:
        assert inertia == 0
    if n_clusters == 1:
        assert_close(centers[0], ROWS.astype(np.float64).mean(axis=0), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.uint8])
def test_small_dtypes(dtype):
    rows = np.clip(ROWS * 5 + 60, 0, 120).astype(dtype)
    got = kmeans.fit(KMeansParams(n_clusters=6), rows)
    want = kmeans.fit(KMeansParams(n_clusters=6), rows.astype(np.float32))
    assert_same(got[0], want[0])


def test_duplicates_only():
    centers, inertia, _ = fit(np.ones((50, 3), np.float32), n_clusters=4)
    assert inertia == 0
    assert (centers == 1).all()
