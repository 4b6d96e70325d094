"""Training over parts: the plan, the samples, Lloyd by sums, two strategies with one result."""

import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import oracle
import pytest
from compare import assert_close, assert_same

from bench.data import clustered
from gpuann import distributed, ivf_flat, ivf_pq, ivf_sq, kmeans
from gpuann.distributed import partial_kmeans, sampling

ROWS, _ = clustered(3000, 12, 1)
LATTICE = np.random.default_rng(3).integers(-4, 5, (900, 6)).astype(np.float32)
CUTS = [0, 7, 400, 401, 900]
PARAMS = {
    "ivf_flat": ivf_flat.IndexParams(n_lists=20, kmeans_n_iters=6),
    "ivf_pq": ivf_pq.IndexParams(n_lists=20, kmeans_n_iters=6, pq_dim=5),
    "ivf_sq": ivf_sq.IndexParams(n_lists=20, kmeans_n_iters=6),
    "ivf_sq whole": ivf_sq.IndexParams(n_lists=20, kmeans_n_iters=6, by_residual=False),
}


def parts_of(rows, cuts=CUTS):
    return [rows[a:b] for a, b in itertools.pairwise(cuts)]


def samples_of(rows, cuts, metric="sqeuclidean"):
    parts = parts_of(rows, cuts)
    return [distributed.sample_part(x, len(x), metric=metric, part=i) for i, x in enumerate(parts)]


@pytest.mark.parametrize(
    ("rows", "need", "want"),
    [
        ([10, 10, 10], 9, [3, 3, 3]),
        ([10, 10, 10], 11, [4, 4, 3]),
        ([1, 10, 10], 11, [1, 5, 5]),
        ([10, 0, 2, 10], 12, [5, 0, 2, 5]),
        ([3, 4], 100, [3, 4]),
    ],
)
def test_the_plan_takes_evenly_and_all_of_the_small(rows, need, want):
    plan = distributed.plan_sample(rows, distributed.Needs(2, need, 1), 8)
    assert list(plan.rows) == want
    assert plan.n_rows == min(need, sum(rows))


def test_parts_are_dealt_round():
    plan = distributed.plan_sample([5] * 7, distributed.Needs(7), 8, n_workers=3, seed=4)
    assert plan.workers == ((0, 3, 6), (1, 4), (2, 5))
    assert plan.seed == 4


def test_the_needs_are_those_of_the_parameters():
    flat = ivf_flat.IndexParams(n_lists=10, max_train_points_per_cluster=50)
    assert distributed.sample_needs(flat, 10**6, 16) == (500, 0, 0)
    assert distributed.sample_needs(flat, 600, 16) == (300, 0, 0)
    assert distributed.sample_needs(flat, 12, 16) == (10, 0, 0)
    pq = ivf_pq.IndexParams(n_lists=10, pq_dim=4, max_train_points_per_pq_code=100)
    assert distributed.sample_needs(pq, 10**6, 16, scalar_bounds=True) == (2560, 25600, 65536)


def test_large_samples_warn():
    plan = distributed.plan_sample([10**9], distributed.Needs(10**6), 96)
    assert plan.n_rows == 10**6
    with pytest.warns(UserWarning, match=r"the samples take 5.7 GiB; lower max_train_points"):
        distributed.plan_sample([10**9], distributed.Needs(2 * 10**6), 768)


def test_samples_are_seeded_and_parts_draw_apart():
    draw = [distributed.sample_part(ROWS, 50, part=p, seed=s).x for p, s in [(0, 0), (0, 0)]]
    assert_same(*draw)
    assert (distributed.sample_part(ROWS, 50, part=1).x != draw[0]).any()
    assert (distributed.sample_part(ROWS, 50, seed=1).x != draw[0]).any()
    chunks = distributed.sample_part([ROWS[:900], ROWS[900:]], 50)
    assert_same(chunks.x, draw[0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2.0**51])
def test_rows_that_are_not_finite_are_dropped_and_counted(bad):
    rows = ROWS[:40].copy()
    rows[[3, 17], [0, 11]] = bad
    sample = distributed.sample_part(rows, 40)
    assert sample.n_dropped == 2
    assert_same(sample.x, np.delete(rows, [3, 17], axis=0))
    assert np.isfinite(sample.bounds).all()
    empty = distributed.sample_part(rows[3:4], 1)
    assert (len(empty.x), empty.n_dropped) == (0, 1)


def test_cosine_normalises_before_the_bounds():
    rows = ROWS[:200] * np.float32(1000)
    sample = distributed.sample_part(rows, 200, metric="cosine")
    assert_close(np.linalg.norm(sample.x, axis=1), np.ones(200), rtol=1e-6, atol=0)
    assert_same(sample.bounds, np.stack([sample.x.min(axis=0), sample.x.max(axis=0)]))
    assert np.abs(sample.bounds).max() <= 1


def test_bounds_of_two_scales_cover_both():
    small, large = ROWS[:500], ROWS[500:1000] * 2 + 20
    samples = [distributed.sample_part(x, 500) for x in (small, large)]
    both = np.concatenate([small, large])
    bounds = distributed.merge_bounds([sample.bounds for sample in samples])
    assert_same(bounds, np.stack([both.min(axis=0), both.max(axis=0)]))
    assert (bounds[1] > samples[0].bounds[1]).any()


def test_whole_numbers_are_sampled_too():
    rows = np.random.default_rng(0).integers(0, 256, (60, 5)).astype(np.uint8)
    sample = distributed.sample_part(rows, 60)
    assert_same(sample.x, rows.astype(np.float32))


@pytest.mark.parametrize("cuts", [CUTS, [0, 900], list(range(0, 901, 100))])
def test_partials_add_up_to_the_oracle(cuts):
    """On a lattice sums are exact: the parts make no difference to the last bit."""
    centers = LATTICE[::45]
    total = distributed.combine([partial_kmeans(x, centers) for x in parts_of(LATTICE, cuts)])
    labels, dists = oracle.nearest_center(LATTICE, centers)
    sums, counts = oracle.cluster_sums(LATTICE, labels, len(centers))
    assert_same(total.sums[0], sums)
    assert_same(total.counts[0], counts)
    assert total.inertia == np.sum(dists)
    assert total.n_rows == 900


def test_combining_on_the_way_makes_no_difference():
    centers = LATTICE[::45]
    a, b, c, d = (partial_kmeans(x, centers) for x in parts_of(LATTICE))
    one = distributed.combine([a, b, c, d])
    two = distributed.combine([distributed.combine([a, b]), distributed.combine([c, d])])
    for name in ("sums", "counts", "farthest", "dists"):
        assert_same(getattr(one, name), getattr(two, name))
    want = distributed.next_centers(one, centers)
    assert_same(distributed.next_centers(two, centers), want)


def test_problems_side_by_side():
    x = np.stack([LATTICE, LATTICE[::-1] * 2])
    centers = x[:, ::45].copy()
    pieces = [x[:, a:b] for a, b in itertools.pairwise(CUTS)]
    total = distributed.combine([partial_kmeans(piece, centers) for piece in pieces])
    got = distributed.next_centers(total, centers)
    for b in range(2):
        alone = partial_kmeans(x[b], centers[b])
        assert_same(got[b], distributed.next_centers(alone, centers[b]))


def test_chunks_and_travel(monkeypatch):
    from gpuann import arrays

    monkeypatch.setattr(arrays, "CHUNK_FLOATS", 6 * 50)
    centers = LATTICE[:3]
    whole = partial_kmeans(LATTICE, centers)
    chunked = partial_kmeans(lambda: iter(parts_of(LATTICE)), centers)
    there = pickle.loads(pickle.dumps(chunked))
    for name in ("sums", "counts", "farthest", "dists"):
        assert_same(getattr(there, name), getattr(whole, name))
    assert there.of == whole.of


def test_empty_clusters_move_to_the_farthest_rows_of_all_parts():
    far = np.array([[50, 0], [0, -60], [50, 0]], np.float32)
    rows = np.concatenate([far[:1], np.zeros((5, 2), np.float32), far[1:]])
    centers = np.array([[0, 0], [900, 900], [901, 900], [902, 900]], np.float32)
    total = distributed.combine([partial_kmeans(x, centers) for x in (rows[:3], rows[3:])])
    assert total.n_empty == 3
    got = distributed.next_centers(total, centers)
    assert_same(got[1:], far[[1, 0, 2]])
    params = kmeans.KMeansParams(n_clusters=4, init_method="Array", max_iter=1)
    assert_same(got, kmeans.fit(params, rows, centers, device="cpu")[0])
    few = distributed.combine(
        [partial_kmeans(x, centers, n_farthest=2) for x in (rows[:3], rows[3:])]
    )
    with pytest.raises(ValueError, match=r"call partial_kmeans again with n_farthest=3"):
        distributed.next_centers(few, centers)
    two = partial_kmeans(rows[:2], centers)
    assert_same(
        distributed.next_centers(two, centers)[1:], np.stack([rows[0], rows[1], centers[3]])
    )


@pytest.mark.parametrize("kind", PARAMS)
@pytest.mark.parametrize("cuts", [[0, 3000], [0, 900, 1000, 3000], [0, 1, 1500, 3000]])
def test_lloyd_by_sums_is_lloyd_in_one_place(kind, cuts):
    samples = samples_of(ROWS, cuts)
    one = distributed.train_local(PARAMS[kind], samples, device="cpu")
    many = distributed.train_distributed(PARAMS[kind], samples, device="cpu")
    for name in ("centers", "codebooks", "scalar"):
        got, want = getattr(many, name), getattr(one, name)
        assert (got is None) == (want is None)
        if want is not None:
            assert_close(got, want, rtol=0, atol=1e-5 * np.abs(want).max())
    assert (many.metric, many.dim, many.shift) == (one.metric, one.dim, None)


@pytest.mark.parametrize("kind", PARAMS)
def test_on_a_lattice_the_parts_make_no_difference_to_the_last_bit(kind):
    samples = samples_of(LATTICE, CUTS)
    one = distributed.train_local(PARAMS[kind], samples, device="cpu")
    many = distributed.train_distributed(PARAMS[kind], samples, device="cpu")
    assert_same(many.centers, one.centers)
    if kind != "ivf_pq":
        assert many.fingerprint == one.fingerprint
    else:  # residuals are not whole numbers
        assert_close(many.codebooks, one.codebooks, rtol=0, atol=1e-5)


def test_one_part_is_the_single_build():
    """All rows sampled: the models of `ivf_pq.build`, to the last bit."""
    params = ivf_pq.IndexParams(
        n_lists=20, kmeans_n_iters=6, pq_dim=5, kmeans_trainset_fraction=1.0
    )
    index = ivf_pq.build(params, ROWS, device="cpu")
    for train in (distributed.train_local, distributed.train_distributed):
        models = train(params, samples_of(ROWS, [0, 3000]), device="cpu")
        assert_same(models.codebooks, index.pq_centers)
        assert_same(models.centers[:, :12], index.centers)


@pytest.mark.parametrize("metric", ["sqeuclidean", "cosine", "inner_product"])
def test_data_far_from_the_origin_are_shifted_alike(metric):
    params = ivf_flat.IndexParams(n_lists=8, kmeans_n_iters=3, metric=metric)
    samples = samples_of(ROWS + np.float32(500), [0, 100, 3000], metric)
    one = distributed.train_local(params, samples, device="cpu")
    many = distributed.train_distributed(params, samples, device="cpu")
    assert (one.shift is None) == (metric == "inner_product")
    if one.shift is not None:
        assert_close(many.shift, one.shift, rtol=1e-6, atol=0)
    assert_close(many.centers, one.centers, rtol=0, atol=1e-5 * np.abs(one.centers).max())


def test_any_engine_can_run_it():
    """A pool; and handles that are not the samples, with functions and arguments as pickles."""
    samples = samples_of(ROWS, [0, 900, 1000, 3000])
    want = distributed.train_distributed(PARAMS["ivf_pq"], samples, device="cpu")
    stored = dict(enumerate(samples))

    def run(function, keys, *more):
        for key, *own in zip(keys, *more, strict=True):
            there, arguments = pickle.loads(pickle.dumps((function, own)))
            stored[len(stored)] = there(stored[key], *arguments)
            yield len(stored) - 1

    def fetch(keys):
        return [stored[key] for key in keys]

    with ThreadPoolExecutor(2) as pool:
        engines = [(samples, pool.map, list), ([0, 1, 2], run, fetch)]
        for parts, own_run, own_fetch in engines:
            got = distributed.train_distributed(
                PARAMS["ivf_pq"], parts, run=own_run, fetch=own_fetch, device="cpu"
            )
            assert got.fingerprint == want.fingerprint


def test_parts_without_rows_do_not_matter():
    params = PARAMS["ivf_pq"]
    samples = samples_of(ROWS, [0, 900, 3000])
    nothing = distributed.sample_part(np.full((2, 12), np.nan, np.float32), 2)
    want = distributed.train_distributed(params, samples, device="cpu")
    more = [nothing, samples[0], nothing, samples[1]]
    got = distributed.train_distributed(params, more, scalar_bounds=True, device="cpu")
    assert_same(got.codebooks, want.codebooks)
    assert_same(got.bounds, np.stack([ROWS.min(axis=0), ROWS.max(axis=0)]))
    assert got.fingerprint == want.fingerprint, "bounds decide no list and no code"
    local = distributed.train_local(params, more, scalar_bounds=True, device="cpu")
    assert_same(local.bounds, got.bounds)


def test_empty_parts_and_given_metrics():
    empty = distributed.sample_part(ROWS[:0], 0)
    assert (empty.x.shape, empty.n_dropped) == ((0, 12), 0)
    samples = [empty, *samples_of(ROWS, [0, 900, 3000])]
    for train in (distributed.train_local, distributed.train_distributed):
        got = train(PARAMS["ivf_flat"], iter(samples), device="cpu")
        assert got.n_lists == 20
        cosine = ivf_flat.IndexParams(n_lists=20, metric="cosine")
        with pytest.raises(ValueError, match=r"sample 0 must be of metric cosine, got sqeuclidean"):
            train(cosine, samples, device="cpu")
        with pytest.raises(TypeError, match=r"every sample must be sampling.Sample, got numpy.nd"):
            train(PARAMS["ivf_flat"], [ROWS], device="cpu")


def test_extreme_rows_are_trained_on_alike():
    """Moved by their mean they may lie beyond what rows may; they have been checked before."""
    rows = np.full((101, 4), 2.0**50, np.float32)
    rows[0] = -(2.0**50)
    params = ivf_flat.IndexParams(n_lists=2, kmeans_n_iters=2)
    samples = samples_of(rows, [0, 40, 101])
    one = distributed.train_local(params, samples, device="cpu")
    many = distributed.train_distributed(params, samples, device="cpu")
    assert_close(many.centers, one.centers, rtol=1e-6, atol=1)


def test_many_empty_clusters_ask_the_parts_again(monkeypatch):
    """Duplicates leave most clusters empty, more than the rows that a round reports at first."""
    rows = np.repeat(LATTICE[:6], 50, axis=0)
    params = ivf_flat.IndexParams(n_lists=40, kmeans_n_iters=3)
    samples = samples_of(rows, [0, 100, 300])
    want = distributed.train_local(params, samples, device="cpu")
    monkeypatch.setattr("gpuann.distributed.train.N_FARTHEST", 4)
    got = distributed.train_distributed(params, samples, device="cpu")
    assert_same(got.centers, want.centers)


CENTERS = LATTICE[:3]
ERRORS = {
    "no rows": (lambda: distributed.plan_sample([0, 0], sampling.Needs(1), 4), "have a row in"),
    "another round": (
        lambda: distributed.combine(
            [partial_kmeans(LATTICE, CENTERS), partial_kmeans(LATTICE, CENTERS + 1)]
        ),
        "partial 1 must belong to the centres [0-9a-f]{32} of the first",
    ),
    "other farthest": (
        lambda: distributed.combine(
            [partial_kmeans(LATTICE, CENTERS), partial_kmeans(LATTICE, CENTERS, n_farthest=3)]
        ),
        "partial 1 must have n_farthest=64",
    ),
    "no partial": (lambda: distributed.combine([]), "partials must be at least one"),
    "moved on": (
        lambda: distributed.next_centers(partial_kmeans(LATTICE, CENTERS), CENTERS + 1),
        "total must belong to centers",
    ),
    "dim": (lambda: partial_kmeans(LATTICE, CENTERS[:, :4]), r"centers must have shape \(n, 6\)"),
    "problems": (
        lambda: partial_kmeans(LATTICE[None], np.stack([CENTERS, CENTERS])),
        r"part must have shape \(2, n, 6\)",
    ),
    "flat centers": (lambda: partial_kmeans(LATTICE, CENTERS[0]), r"have shape \(n, dim\) or"),
    "nan": (
        lambda: partial_kmeans(np.full((3, 6), np.nan, np.float32), CENTERS),
        "part must be finite",
    ),
    "nan in one of several": (
        lambda: partial_kmeans(np.full((1, 3, 6), np.nan, np.float32), CENTERS),
        "part must be finite",
    ),
    "part number": (lambda: distributed.sample_part(ROWS, 1, part=-1), "part must be at least 0"),
    "no bounds": (lambda: distributed.merge_bounds([]), "bounds must be at least one, got 0"),
    "no components": (lambda: distributed.plan_sample([3], (1,), 0), "dim must be at least 1"),
    "more than there are": (lambda: distributed.sample_part(ROWS, 3001), "n_rows must be between"),
    "metric": (lambda: distributed.sample_part(ROWS, 1, metric="l2"), "metric must be one of"),
    "too few": (
        lambda: distributed.train_local(PARAMS["ivf_flat"], samples_of(ROWS, [0, 19])),
        "n_lists must be at most the 19 rows",
    ),
    "too few in parts": (
        lambda: distributed.train_distributed(PARAMS["ivf_flat"], samples_of(ROWS, [0, 9, 19])),
        "n_lists must be at most the 19 rows",
    ),
    "dims": (
        lambda: distributed.train_local(
            PARAMS["ivf_flat"],
            [distributed.sample_part(ROWS, 9), distributed.sample_part(LATTICE, 9)],
        ),
        r"samples must have the same number of components, got \[6, 12\]",
    ),
    "no samples": (lambda: distributed.train_local(PARAMS["ivf_flat"], []), "be at least one"),
    "none in parts": (
        lambda: distributed.train_distributed(PARAMS["ivf_flat"], []),
        "be at least one",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_messages(case):
    call, text = ERRORS[case]
    with pytest.raises(ValueError, match=text):
        call()


@pytest.mark.parametrize("kind", PARAMS)
def test_sums_joined_on_the_way_are_those_of_all_parts(kind):
    """A tree of joins: sums of a lattice are exact, so whole rows have the same centres to the bit;
    residuals of other centres are no lattice, their sums are equal to rounding.
    """
    samples, joins = samples_of(LATTICE, CUTS), []

    def reduce(join, handles):
        while len(handles) > 1:
            joins.append(len(handles))
            handles = [join(handles[i : i + 2]) for i in range(0, len(handles), 2)]
        return handles[0]

    whole = distributed.train_distributed(PARAMS[kind], samples)
    tree = distributed.train_distributed(PARAMS[kind], samples, reduce=reduce)
    assert joins
    assert_same(tree.centers, whole.centers)
    if kind == "ivf_pq":
        assert_close(tree.codebooks, whole.codebooks, rtol=1e-5, atol=1e-5)
    else:
        assert tree.fingerprint == whole.fingerprint
