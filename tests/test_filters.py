"""Filters: only what is kept comes back, on every index, whichever way they are given."""

import warnings

import models
import numpy as np
import oracle
import pytest
import scan_cases
from compare import assert_same, assert_same_knn

import gpuann
from bench.data import clustered
from gpuann import brute_force, filters, ivf_flat, ivf_pq, shards, streamed
from gpuann.engine import survivors

ROWS, QUERIES = clustered(1500, 16, 40)
RNG = np.random.default_rng(7)
HALF = RNG.random(1500) < 0.5
FEW = RNG.random(1500) < 0.02
EACH = RNG.random((40, 1500)) < RNG.random((40, 1))


@pytest.fixture(scope="module")
def built():
    return {kind: models.build(kind, ROWS, device="cpu") for kind in models.KINDS}


def search(index, queries=QUERIES, k=10, keep=None, **more):
    name = "prefilter" if isinstance(index, brute_force.Index) else "filter"
    return models.search(index, queries, k, **{name: keep}, **more)


def by_hand(index, mask, k=10, n_probes=4):
    """All results of the lists that are probed, less those that the mask drops."""
    dists, ids = models.search(index, QUERIES, 1500, n_probes=n_probes)
    out = np.full((40, k), np.inf, np.float32), np.full((40, k), -1)
    for q in range(40):
        kept = (ids[q] >= 0) & (mask if mask.ndim == 1 else mask[q])[np.maximum(ids[q], 0)]
        n = min(k, int(kept.sum()))
        out[0][q, :n], out[1][q, :n] = dists[q][kept][:k], ids[q][kept][:k]
    return out


@pytest.mark.parametrize("kind", models.KINDS)
@pytest.mark.parametrize("mask", [HALF, EACH, np.ones(1500, bool), np.arange(1500) < 700])
def test_only_what_is_kept_comes_back(built, kind, mask):
    index = built[kind]
    want = by_hand(index, mask)
    assert_same_knn(search(index, keep=mask), want)
    for n in (1, 7):  # the paths of small batches
        parts = np.split(np.arange(40), range(n, 40, n))
        some = [search(index, QUERIES[p], keep=mask if mask.ndim == 1 else mask[p]) for p in parts]
        assert_same_knn([np.concatenate(p) for p in zip(*some, strict=True)], want)


@pytest.mark.parametrize("kind", models.KINDS)
@pytest.mark.parametrize("metric", models.METRICS)
def test_what_a_selective_filter_keeps_is_all_compared(kind, metric):
    index = models.build(kind, ROWS, metric, device="cpu")
    kept = filters.from_mask(FEW)
    assert survivors.is_exhaustive(kept, 1500, 16, 16, 4)
    want = models.search(index, QUERIES, 1500, n_probes=16)
    want = [np.stack([x[FEW[i]] for x, i in zip(part, want[1], strict=True)]) for part in want]
    k = FEW.sum()
    got = search(index, k=k + 5, keep=kept)
    assert_same_knn([part[:, :k] for part in got], want)
    assert (got[1][:, k:] == -1).all()
    worst = -np.inf if metric == "inner_product" else np.inf
    assert (got[0][:, k:] == worst).all()
    one = [search(index, q[None], k=k + 5, keep=kept) for q in QUERIES]
    assert_same_knn([np.concatenate(p) for p in zip(*one, strict=True)], got)


def test_the_truth():
    index = brute_force.build(ROWS, device="cpu")
    for mask in (HALF, FEW, EACH):
        each = np.broadcast_to(mask, (40, 1500))
        want = oracle.knn(QUERIES, ROWS, 5, "sqeuclidean", keep=each)
        assert_same(search(index, k=5, keep=mask)[1], want[1])


@pytest.mark.parametrize("kind", models.KINDS)
def test_a_mask_that_ends_before_the_newest_rows_warns(built, kind):
    """Once for each filter and index; ids say what they mean without one."""
    module, index = getattr(gpuann, kind), built[kind]
    longer = module.extend(index, ROWS[:40])
    mask = np.ones(1500, bool)
    words = rf"{kind}.search: (pre)?filter ends before 40 ids of the index, 1500 to 1539: rows with"
    for make in (filters.from_mask, np.asarray):
        with pytest.warns(UserWarning, match=words) as said:
            got = search(longer, keep=make(mask))
        assert said[0].filename == models.__file__, "at the line that searched"
        assert_same_knn(got, search(index))
    packed = np.packbits(mask, bitorder="little").copy()
    packed.resize(188)
    with pytest.warns(UserWarning, match="ends before 36 ids of the index, 1504 to 1539"):
        search(longer, keep=filters.from_bitset(packed.view(np.uint32)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = filters.from_mask(mask)
        search(index, keep=kept)
        search(longer, keep=np.arange(1500))
        search(longer, keep=np.ones(1540, bool))
    with pytest.warns(UserWarning, match=words) as said:
        for _ in range(3):
            search(longer, keep=kept)
    assert len(said) == 1


def test_short_masks_of_other_searches(built, tmp_path):
    longer = ivf_flat.extend(built["ivf_flat"], ROWS[:40])
    ivf_flat.save(tmp_path / "x", longer)
    many = shards.load(tmp_path / "x", ["cpu", "cpu"])
    shards.save(tmp_path / "folder", many)
    on_disk = streamed.open(tmp_path / "folder", device="cpu")
    kept, asked = np.ones(1500, bool), ivf_flat.SearchParams(n_probes=4)
    lists = np.zeros((40, 1), np.int64)
    for call in (
        lambda: shards.search(asked, many, QUERIES, 3, filter=kept),
        lambda: shards.range_search(asked, many, QUERIES, 1.0, kept),
        lambda: shards.search_preassigned(asked, many, QUERIES, 3, lists, filter=kept),
        lambda: streamed.search(asked, on_disk, QUERIES, 3, filter=kept),
        lambda: ivf_flat.range_search(asked, longer, QUERIES, 1.0, kept),
        lambda: ivf_flat.search_preassigned(asked, longer, QUERIES, 3, lists, filter=kept),
        lambda: list(ivf_flat.search_batches(asked, longer, [QUERIES, QUERIES], 3, kept)),
    ):
        with pytest.warns(UserWarning, match="filter ends before 40 ids") as said:
            call()
        assert [w.filename for w in said] == [__file__]


def test_filters_in_all_their_forms(built):
    index = built["ivf_pq"]
    want = search(index, keep=HALF)
    words = scan_cases.bits(HALF)
    ids = np.flatnonzero(HALF)
    forms = [
        filters.from_mask(HALF),
        filters.from_bitset(words),
        filters.from_ids(ids[::-1]),
        filters.from_ids(np.concatenate([ids, ids])),
        filters.from_ids(ids.tolist()),
        ids,
        ids.tolist(),
        filters.from_bitmap(np.tile(words, (40, 1))),
    ]
    for keep in forms:
        assert_same_knn(search(index, keep=keep), want)
    assert_same_knn(search(index, keep=filters.no_filter()), search(index))
    each = search(index, keep=EACH)
    assert_same_knn(search(index, keep=filters.from_bitmap(scan_cases.bits(EACH))), each)
    # cuVS's: the bits of one query behind those of another
    flat = scan_cases.bits(EACH.reshape(-1))
    assert_same_knn(search(index, keep=filters.from_bitmap(flat)), each)


def test_counts():
    assert filters.from_mask(HALF).n_kept == HALF.sum()
    assert filters.from_ids([5, 5, 40]).n_kept == 2
    assert filters.from_ids([]).n_kept == 0
    assert filters.from_mask(EACH).n_kept == EACH.sum(axis=1).max()
    assert repr(filters.from_ids([1, 2])) == "filters.Filter(one set, 2 ids kept)"
    assert repr(filters.from_mask(EACH)).startswith("filters.Filter(a set for each query, ")


@pytest.mark.filterwarnings("ignore:.*filter ends before")
@pytest.mark.parametrize("kind", models.KINDS)
def test_nothing_is_kept(built, kind):
    nothing = (
        np.zeros(1500, bool),
        filters.from_ids([]),
        np.zeros((40, 1500), bool),
        np.zeros(0, bool),
    )
    for keep in nothing:
        dists, ids = search(built[kind], keep=keep)
        assert (ids == -1).all()
        assert np.isinf(dists).all()


@pytest.mark.filterwarnings("ignore:.*filter ends before")
@pytest.mark.parametrize("kind", models.KINDS)
def test_ids_that_are_not_there(built, kind):
    """Beyond the rows they keep nothing; rows beyond the bits are not kept."""
    far = filters.from_ids([3, 70, 1499, 100_000])
    ids = search(built[kind], k=20, keep=far, n_probes=16)[1]
    assert_same(np.sort(ids, axis=1)[:, -3:], np.tile([3, 70, 1499], (40, 1)))
    assert (np.sort(ids, axis=1)[:, :-3] == -1).all()
    short = np.ones(33, bool)
    ids = search(built[kind], k=50, keep=short, n_probes=16)[1]
    assert set(ids.ravel().tolist()) == {-1, *range(33)}


def test_filtered_shards_answer_as_the_single_index(tmp_path):
    for params, asked in [
        (ivf_pq.IndexParams(n_lists=9, pq_dim=4), ivf_pq.SearchParams(n_probes=3)),
        (ivf_flat.IndexParams(n_lists=9), ivf_flat.SearchParams(n_probes=3)),
        ("cosine", None),
    ]:
        one = shards.build(params, ROWS, ["cpu"])
        three = shards.build(params, ROWS, ["cpu"] * 6, n_replicas=2)
        folder = tmp_path / str(type(params).__module__)
        shards.save(folder, three)
        there = streamed.open(folder, device="cpu", block_bytes=1 << 14)
        for keep in (HALF, FEW, EACH, filters.from_ids([])):
            want = shards.search(asked, one, QUERIES, 10, filter=keep)
            assert_same_knn(shards.search(asked, three, QUERIES, 10, filter=keep), want)
            assert_same_knn(streamed.search(asked, there, QUERIES, 10, filter=keep), want)


def test_many_threads_share_a_filter(built):
    kept, index = filters.from_mask(FEW), built["ivf_pq"]
    want = search(index, keep=kept)
    for got in models.at_once(lambda _: search(index, keep=kept)):
        assert_same_knn(got, want)


def test_a_filter_does_not_hold_an_index():
    kept = filters.from_mask(FEW)
    index = models.build("ivf_flat", ROWS, device="cpu")
    search(index, keep=kept)
    assert len(kept._survivors) == 1
    del index
    assert len(kept._survivors) == 0


def test_later_changes_do_not_matter(built):
    words = scan_cases.bits(HALF)
    kept = filters.from_bitset(words)
    words[:] = 0
    assert_same_knn(search(built["ivf_flat"], keep=kept), search(built["ivf_flat"], keep=HALF))


def test_chunks_of_queries(built):
    index = built["ivf_flat"]
    want = search(index, keep=HALF)
    assert_same_knn(search(index, [QUERIES[:9], QUERIES[9:]], keep=HALF), want)
    with pytest.raises(ValueError, match="filter must be one set for queries in chunks"):
        search(index, [QUERIES[:9], QUERIES[9:]], keep=EACH)


ERRORS = {
    "float": (
        lambda i: search(i, keep=np.ones(9)),
        "ivf_flat.search: filter must be a filter, booleans or ids, got float64",
    ),
    "words": (
        lambda i: search(i, keep=np.ones(9, np.uint32)),
        "filter must be a filter, booleans or ids, got uint32; make one of ids or booleans",
    ),
    "other queries": (
        lambda i: search(i, keep=EACH[:3]),
        "ivf_flat.search: filter must have a set for each of the 40 queries, got 3",
    ),
    "flat bitmap": (
        lambda i: search(i, keep=filters.from_bitmap(np.zeros(7, np.uint32))),
        "ivf_flat.search: filter must have 1875 words for 40 queries and 1500 rows, got 7",
    ),
    "mask": (lambda _: filters.from_mask(np.ones(3)), "from_mask: mask must be bool, got float64"),
    "mask axes": (
        lambda _: filters.from_mask(np.ones((1, 1, 1), bool)),
        r"from_mask: mask must have shape \(n_ids,\) or \(n_queries, n_ids\), got \(1, 1, 1\)",
    ),
    "ids": (lambda _: filters.from_ids([0.5]), "from_ids: ids must be integers, got float64"),
    "negative": (lambda _: filters.from_ids([3, -1]), "ids must be between 0 and .*got -1"),
    "large": (lambda _: filters.from_ids([1 << 40]), "ids must be between 0 and 34359738367"),
    "bitset": (lambda _: filters.from_bitset(np.ones(3, int)), "bitset must be uint32, got int64"),
    "bitset axes": (
        lambda _: filters.from_bitset(np.ones((1, 1), np.uint32)),
        r"from_bitset: bitset must have shape \(n_words,\), got \(1, 1\)",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(built, name):
    call, words = ERRORS[name]
    with pytest.raises((ValueError, TypeError), match=words):
        call(built["ivf_flat"])


def test_the_package_names_it():
    assert gpuann.filters is filters


def test_a_flat_bitmap_is_cut_for_each_index_anew():
    """17 and 20 rows take the same number of words."""
    rows = np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32)
    words = np.random.default_rng(1).integers(0, 2**32, 2, dtype=np.uint32)
    shared = filters.from_bitmap(words)
    for n in (17, 20):
        index = brute_force.build(rows[:n], device="cpu")
        own = filters.from_bitmap(words)
        want = brute_force.search(index, rows[:2], 5, prefilter=own)
        assert_same_knn(brute_force.search(index, rows[:2], 5, prefilter=shared), want)
        bits = np.unpackbits(words.view(np.uint8), bitorder="little")[: 2 * n].reshape(2, n)
        for q in range(2):
            assert bits[q][want[1][q][want[1][q] >= 0]].all()


@pytest.mark.parametrize("n_rows", [1, 31, 32, 33, 70])
def test_flat_bitmaps_of_any_width(n_rows):
    each = np.random.default_rng(n_rows).random((9, n_rows)) < 0.5
    flat = filters.from_bitmap(scan_cases.bits(each.reshape(-1)))
    cut = flat._of_queries("test", "filter", 9, n_rows)
    assert_same(cut, scan_cases.bits(each))
