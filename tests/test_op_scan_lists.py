"""scan_lists: the truth of the probed rows, by each of its paths, filtered and limited."""

import importlib

import numpy as np
import pytest
import scan_cases
import strategies
from compare import assert_knn, assert_same, assert_same_knn
from hypothesis import given
from hypothesis import strategies as st

from gpuann.backends.numpy_ops import _stacks, _survivors, _tiled, scan_lists

MODULE = importlib.import_module("gpuann.backends.numpy_ops.scan_lists")
PATHS = ["one_list", "few", "tiled", "stacked"]


def force(monkeypatch, path):
    """Send every scan along one path; tiny tiles, so that small cases cross their edges."""
    monkeypatch.setattr(MODULE, "ONE_LIST_ROWS", (1 << 30) if path == "one_list" else -1)
    monkeypatch.setattr(MODULE, "ONE_LIST_FLOATS", 1 << 40)
    monkeypatch.setattr(MODULE, "KEPT", (1 << 40) if path == "few" else -1)
    monkeypatch.setattr(MODULE, "LONGEST", 1 << 40)
    monkeypatch.setattr(MODULE, "FEW_PER_LIST", 1 << 30)
    monkeypatch.setattr(MODULE._dense, "SELECTED", 300)
    if path == "few":
        monkeypatch.setattr(MODULE._dense, "TILE_FLOATS", 400)  # pieces of few pairs
    monkeypatch.setattr(_tiled, "FIRST_EPOCH", 24)
    monkeypatch.setattr(_tiled, "EPOCH_GROWTH", 2)
    monkeypatch.setattr(_tiled, "ROW_BUDGET", 16)
    if path == "stacked":  # tiles of very different shapes together, and few in a stack
        monkeypatch.setattr(_stacks, "PADDING", 5)
        monkeypatch.setattr(_stacks, "FLOATS", 1 << 14)
        return
    monkeypatch.setattr(_stacks, "ALONE", 0)
    monkeypatch.setattr(_stacks, "TILE_FLOATS", 1)
    monkeypatch.setattr(_stacks, "TILE_SCORES", 1)


def scan(case, queries, probes, k, **more):
    terms = case.terms(queries, probes)
    return scan_lists(queries, terms, case.payload, case.lists, probes, k, case.metric, **more)


@pytest.mark.parametrize("path", PATHS)
@given(data=st.data())
def test_lattice_is_exact(path, data):
    n_rows, dim = data.draw(strategies.SIZES), data.draw(strategies.DIMS)
    n_queries, k = (
        data.draw(st.sampled_from([1, 3, 33, 70])),
        data.draw(st.sampled_from([1, 4, 80])),
    )
    n_lists = 1 if path == "one_list" else data.draw(st.sampled_from([1, 2, 7]))
    metric = data.draw(strategies.METRICS)
    rng = np.random.default_rng([n_rows, dim, n_queries, k])
    case = scan_cases.flat(
        rng, strategies.lattice, n_rows=n_rows, n_lists=n_lists, dim=dim, metric=metric
    )
    queries = strategies.lattice(rng, n_queries, dim)
    probes = scan_cases.probes(rng, n_queries, n_lists, data.draw(st.integers(1, n_lists)))
    with pytest.MonkeyPatch.context() as patch:
        force(patch, path)
        dists, ids = scan(case, queries, probes, k)
    want_dists, want_ids = case.truth(queries, probes, k)
    assert_same(ids, want_ids)
    assert_same(dists, want_dists.astype(np.float32))


@pytest.mark.parametrize("path", PATHS[1:])
@pytest.mark.parametrize("metric", ["sqeuclidean", "inner_product"])
@pytest.mark.parametrize("pq_len", [1, 2, 3, 4, 8])
def test_pq(rng, monkeypatch, path, metric, pq_len):
    force(monkeypatch, path)
    case = scan_cases.pq(
        rng, strategies.real, n_rows=400, n_lists=6, pq_dim=5, pq_len=pq_len, metric=metric
    )
    queries, probes = strategies.real(rng, 50, 5 * pq_len), scan_cases.probes(rng, 50, 6, 3)
    got = scan(case, queries, probes, 10)
    assert_knn(got, case.truth(queries, probes, 11), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("metric", ["sqeuclidean", "inner_product"])
@pytest.mark.parametrize("residual", [True, False])
def test_sq(rng, monkeypatch, path, metric, residual):
    force(monkeypatch, path)
    n_lists = 1 if path == "one_list" else 6
    shape = {"n_rows": 400, "n_lists": n_lists, "dim": 11, "metric": metric, "residual": residual}
    case = scan_cases.sq(rng, strategies.real, **shape)
    queries = strategies.real(rng, 50, 11)
    probes = scan_cases.probes(rng, 50, n_lists, min(3, n_lists))
    got = scan(case, queries, probes, 10)
    assert_knn(got, case.truth(queries, probes, 11), rtol=1e-5, atol=1e-5)


def test_wide_pq_leaves_16_bit_entries(rng):
    case = scan_cases.pq(
        rng, strategies.real, n_rows=60, n_lists=2, pq_dim=300, pq_len=1, metric="sqeuclidean"
    )
    queries, probes = strategies.real(rng, 4, 300), scan_cases.probes(rng, 4, 2, 2)
    got = scan(case, queries, probes, 5)
    assert_knn(got, case.truth(queries, probes, 6), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.uint8])
@pytest.mark.parametrize("shift", [False, True])
def test_dtypes_and_shift(rng, monkeypatch, path, dtype, shift):
    force(monkeypatch, path)
    n_lists = 1 if path == "one_list" else 5
    case = scan_cases.flat(
        rng,
        strategies.real,
        n_rows=300,
        n_lists=n_lists,
        dim=20,
        metric="sqeuclidean",
        dtype=dtype,
        shift=shift,
    )
    queries = 10 * strategies.real(rng, 30, 20)
    probes = scan_cases.probes(rng, 30, n_lists, min(3, n_lists))
    got = scan(case, queries, probes, 10)
    assert_knn(got, case.truth(queries, probes, 11), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("path", PATHS)
def test_paths_agree_to_the_bit(rng, monkeypatch, path):
    case = scan_cases.flat(
        rng, strategies.real, n_rows=900, n_lists=1, dim=33, metric="sqeuclidean"
    )
    queries, probes = strategies.real(rng, 60, 33), np.zeros((60, 1), np.int32)
    want = scan(case, queries, probes, 20)
    force(monkeypatch, path)
    assert_same_knn(scan(case, queries, probes, 20), want)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5])
@pytest.mark.parametrize("per_query", [False, True])
def test_filter(rng, monkeypatch, path, share, per_query):
    force(monkeypatch, path)
    n_lists = 1 if path == "one_list" else 5
    case = scan_cases.flat(
        rng, strategies.lattice, n_rows=300, n_lists=n_lists, dim=7, metric="sqeuclidean"
    )
    queries = strategies.lattice(rng, 20, 7)
    probes = scan_cases.probes(rng, 20, n_lists, min(3, n_lists))
    # ids beyond the bit set are not allowed: it is shorter than the ids here
    allowed = np.zeros((20, 300), bool)
    allowed[:, :250] = rng.random((20 if per_query else 1, 250)) < share
    keep = scan_cases.bits(allowed[:, :250] if per_query else allowed[0, :250])
    dists, ids = scan(case, queries, probes, 8, keep=keep)
    want_dists, want_ids = case.truth(queries, probes, 8, allowed)
    assert_same(ids, want_ids)
    assert_same(dists, want_dists.astype(np.float32))


@pytest.mark.parametrize("path", PATHS)
def test_limit(rng, monkeypatch, path):
    force(monkeypatch, path)
    n_lists = 1 if path == "one_list" else 4
    case = scan_cases.flat(
        rng, strategies.lattice, n_rows=200, n_lists=n_lists, dim=4, metric="sqeuclidean"
    )
    queries = strategies.lattice(rng, 25, 4)
    probes = scan_cases.probes(rng, 25, n_lists, n_lists)
    limit = rng.integers(-1, 30, 25).astype(np.float32)
    dists, ids = scan(case, queries, probes, 30, limit=limit)
    want_dists, want_ids = case.truth(queries, probes, 30)
    outside = want_dists > limit[:, None]
    want_ids[outside], want_dists[outside] = -1, np.inf
    assert_same(ids, want_ids)
    assert_same(dists, want_dists.astype(np.float32))


@pytest.mark.parametrize("path", PATHS)
def test_without_rescoring_the_rows_are_the_same(rng, monkeypatch, path):
    force(monkeypatch, path)
    n_lists = 1 if path == "one_list" else 4
    for make in (strategies.real, strategies.lattice):
        case = scan_cases.flat(rng, make, n_rows=500, n_lists=n_lists, dim=9, metric="sqeuclidean")
        queries, probes = make(rng, 40, 9), scan_cases.probes(rng, 40, n_lists, n_lists)
        want = scan(case, queries, probes, 12)
        got = scan(case, queries, probes, 12, rescore=False)
        assert_same(np.sort(got[1], axis=1), np.sort(want[1], axis=1))


def test_a_limit_is_one_of_canonical_distances(rng, monkeypatch):
    """Also without rescoring, where scores are off by much."""
    case = scan_cases.flat(
        rng, strategies.lattice, n_rows=300, n_lists=1, dim=4, metric="sqeuclidean"
    )
    queries, probes = strategies.lattice(rng, 20, 4), np.zeros((20, 1), np.int32)
    dists, _ = case.truth(queries, probes, 9)
    limit = dists[:, 5].astype(np.float32)
    slack, passing = MODULE._slack.slack, MODULE._dense._batch.passing
    want = scan(case, queries, probes, 9, limit=limit)
    monkeypatch.setattr(MODULE._slack, "slack", lambda *a: slack(*a) + 0.5)
    moved = lambda *a: (*passing(*a)[:2], passing(*a)[2] + np.float32(0.25))  # noqa: E731
    monkeypatch.setattr(MODULE._dense._batch, "passing", moved)
    got = scan(case, queries, probes, 9, limit=limit, rescore=False)
    assert_same(np.sort(got[1], axis=1), np.sort(want[1], axis=1))


@pytest.mark.parametrize("wide", [1, 1e5])
def test_without_rescoring_only_rows_near_the_boundary_are_looked_at(rng, monkeypatch, wide):
    """Where scores cannot tell which rows are the k nearest, and where none of them can."""
    looked_at, distances = [], _survivors.Scorer.distances
    case = scan_cases.flat(rng, strategies.real, n_rows=900, n_lists=3, dim=9, metric="sqeuclidean")
    queries, probes = strategies.real(rng, 80, 9), scan_cases.probes(rng, 80, 3, 2)
    want = scan(case, queries, probes, 20)
    slack = MODULE._slack.slack

    def counted(self, survivors, **more):
        looked_at.append(len(survivors.query))
        return distances(self, survivors, **more)

    monkeypatch.setattr(MODULE._slack, "slack", lambda *a: 200 * wide * slack(*a))
    monkeypatch.setattr(_survivors.Scorer, "distances", counted)
    got = scan(case, queries, probes, 20, rescore=False)
    assert_same(np.sort(got[1], axis=1), np.sort(want[1], axis=1))
    if wide == 1:
        assert 0 < sum(looked_at) < 80 * 10, "fewer than the 20 and more of every query"
    else:
        assert sum(looked_at) > 80 * 400, "all that are probed, two of three lists of 900 rows"


def test_too_many_survivors_are_handled_exactly(rng, monkeypatch):
    force(monkeypatch, "tiled")
    case = scan_cases.flat(
        rng, strategies.lattice, n_rows=600, n_lists=3, dim=1, metric="sqeuclidean"
    )
    queries, probes = strategies.lattice(rng, 30, 1), scan_cases.probes(rng, 30, 3, 3)
    crowded = []
    best = _survivors.Collector._best
    monkeypatch.setattr(_survivors, "MAX_SURVIVORS", 50)
    monkeypatch.setattr(_survivors.Collector, "_best", lambda *a: crowded.append(1) or best(*a))
    dists, ids = scan(case, queries, probes, 4)
    want_dists, want_ids = case.truth(queries, probes, 4)
    assert_same(ids, want_ids)
    assert_same(dists, want_dists.astype(np.float32))
    assert crowded, "the buffer never overflowed"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("scale", [1e-20, 1e-4, 1e4, 1e14])
def test_any_norm(rng, monkeypatch, path, scale):
    force(monkeypatch, path)
    n_lists = 1 if path == "one_list" else 3
    case = scan_cases.flat(
        rng,
        lambda r, *s: (strategies.real(r, *s) * scale).astype(np.float32),
        n_rows=200,
        n_lists=n_lists,
        dim=6,
        metric="sqeuclidean",
    )
    queries = (strategies.real(rng, 10, 6) * scale).astype(np.float32)
    probes = scan_cases.probes(rng, 10, n_lists, n_lists)
    got = scan(case, queries, probes, 5)
    assert_knn(got, case.truth(queries, probes, 6), rtol=1e-6, atol=1e-44)


def test_one_long_list_among_short_ones_is_not_kept_whole(rng, monkeypatch):
    """The path that keeps every score makes room for the longest row of lists, so that counts."""
    kept = []
    monkeypatch.setattr(MODULE._dense, "scan_few", lambda *a: kept.append(a))
    offsets = np.concatenate([[0], np.cumsum([40_000, *[1] * 999])])
    case = scan_cases.flat(
        rng, strategies.real, n_rows=40_999, n_lists=1, dim=3, metric="sqeuclidean"
    )
    radius = np.full(1000, case.lists.radius[0])
    lists = case.lists._replace(offsets=offsets, radius=radius)
    probes = rng.integers(0, 1000, (600, 1)).astype(np.int32)
    queries = strategies.real(rng, 600, 3)
    probes[:5] = 0
    got = scan_lists(queries, None, case.payload, lists, probes, 3, "sqeuclidean")
    assert not kept
    assert (got[1][5:, 1:][probes[5:, 0] > 0] == -1).all()


def test_long_lists_are_decoded_in_pieces(rng, monkeypatch):
    case = scan_cases.pq(
        rng, strategies.real, n_rows=500, n_lists=3, pq_dim=4, pq_len=2, metric="sqeuclidean"
    )
    queries, probes = strategies.real(rng, 9, 8), scan_cases.probes(rng, 9, 3, 2)
    want = scan(case, queries, probes, 7)
    monkeypatch.setattr(MODULE._dense, "_ROWS_AT_ONCE", 11)
    assert_same_knn(scan(case, queries, probes, 7), want)


@pytest.mark.parametrize("rows_at_once, most", [(1000, 1000), (10, 1000), (1000, 6), (3, 1)])
def test_pieces_are_all_rows_of_all_lists_once(rows_at_once, most, monkeypatch):
    dense = MODULE._dense
    monkeypatch.setattr(dense, "_ROWS_AT_ONCE", rows_at_once)
    sizes, pairs, first = [4, 9, 25, 1, 6], [2, 3, 1, 7, 2], [0, 4, 13, 50, 51]  # a gap before 50
    at = np.cumsum([0, *pairs])
    lists = [
        dense._Busy(start, start + n, int(at[i]), int(at[i + 1]), 0)
        for i, (start, n) in enumerate(zip(first, sizes, strict=True))
    ]
    pieces = list(dense._pieces(lists, most))
    rows = [row for p in pieces for row in range(p.start, p.stop)]
    assert sorted(rows) == [row for l in lists for row in range(l.start, l.stop)]
    for piece in pieces:
        assert piece.stop - piece.start <= min(rows_at_once, most)
        assert piece.lists == [l for l in lists if l.stop > piece.start and l.start < piece.stop]
        assert len(piece.lists) == 1 or piece.lists[-1].last - piece.lists[0].first <= most


@pytest.mark.parametrize("n_rows, n_lists", [(900, 2), (430, 6)])
@pytest.mark.parametrize("path", ["tiled", "stacked"])
def test_pass_one_is_cut_into_tiles(rng, monkeypatch, path, n_rows, n_lists):
    """The last tile of a list is short, and would fit a stack."""
    case = scan_cases.flat(
        rng, strategies.lattice, n_rows=n_rows, n_lists=n_lists, dim=5, metric="sqeuclidean"
    )
    queries, probes = strategies.lattice(rng, 40, 5), scan_cases.probes(rng, 40, n_lists, 2)
    want_dists, want_ids = case.truth(queries, probes, 50)
    force(monkeypatch, path)
    monkeypatch.setattr(_stacks, "TILE_FLOATS", 1)
    monkeypatch.setattr(_tiled, "ROW_BUDGET", 600)
    monkeypatch.setattr(_tiled, "BUDGET_SHARE", 1)
    dists, ids = scan(case, queries, probes, 50)
    assert_same(ids, want_ids)
    assert_same(dists, want_dists.astype(np.float32))
