"""Shards built apart, merged, split, moved: the single index' arrays and answers; ids stay."""

import contextlib
import itertools
import pickle

import emulated
import models
import numpy as np
import pytest
from compare import assert_same, assert_same_knn
from emu import Fibers
from engines import needs_fibers

import gpuann
from bench.data import clustered
from gpuann import brute_force, distributed, ivf_flat, ivf_pq, ivf_sq, kinds, shards

ROWS, QUERIES = clustered(900, 16, 40)
IDS = np.random.default_rng(5).permutation(4000)[:900].astype(np.int64)
CUTS = [0, 1, 300, 620, 900]
KINDS = ["ivf_flat", "ivf_pq", "ivf_sq", "ivf_sq whole"]


def trained(kind, metric="sqeuclidean", rows=ROWS, seed=0):
    if kind == "ivf_flat":
        params = ivf_flat.IndexParams(n_lists=12, metric=metric, seed=seed)
    elif kind != "ivf_pq":
        residual = kind == "ivf_sq"
        params = ivf_sq.IndexParams(n_lists=12, metric=metric, seed=seed, by_residual=residual)
    else:
        params = ivf_pq.IndexParams(
            n_lists=12, metric=metric, pq_dim=8, kmeans_n_iters=4, seed=seed
        )
    samples = [distributed.sample_part(rows, len(rows), metric=metric)]
    return distributed.train_local(params, samples, device="cpu")


def parts(kind, metric="sqeuclidean", ids=IDS):
    made = trained(kind, metric)
    return [
        distributed.build_part(made, ROWS[a:b], ids[a:b], device="cpu")
        for a, b in itertools.pairwise(CUTS)
    ]


def flat_parts(metric="sqeuclidean"):
    return [
        distributed.build_part(metric, ROWS[a:b], IDS[a:b], device="cpu")
        for a, b in itertools.pairwise(CUTS)
    ]


def shards_of(kind, metric="sqeuclidean"):
    return flat_parts(metric) if kind == "brute_force" else parts(kind, metric)


def answer(some, k=10, devices=("cpu",), queries=QUERIES, **more):
    index = shards.from_shards(some, list(devices), **more)
    kind = some[0]
    params = None
    if kind.models is not None:
        module = getattr(gpuann, kinds.name_of(kind.models))
        params = module.SearchParams(n_probes=4)
    return shards.search(params, index, queries, k)


def assert_same_shard(got, want, *, radius=True):
    for name in ("offsets", "ids", "norms", *(["radius"] if radius else [])):
        assert_same(getattr(got.lists, name), getattr(want.lists, name))
    for a, b in zip(got.payload, want.payload, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert_same(a, b)
    assert got.fingerprint == want.fingerprint


@pytest.mark.parametrize("metric", models.METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_merging_the_shards_gives_the_single_index(kind, metric):
    """Byte for byte, rows of a list in the order of their ids."""
    order = np.argsort(IDS)
    single = distributed.build_part(trained(kind, metric), ROWS[order], IDS[order], device="cpu")
    made = parts(kind, metric)
    assert_same_shard(distributed.merge(made), single)
    assert_same_shard(distributed.merge(made[::-1]), single)
    again = distributed.merge(distributed.split(single, 5))
    assert_same_shard(again, single)


@pytest.mark.parametrize("metric", models.METRICS)
@pytest.mark.parametrize("kind", ["brute_force", *KINDS])
def test_any_arrangement_answers_as_the_single_index(kind, metric):
    made = shards_of(kind, metric)
    whole = distributed.merge(made)
    want = answer([whole])
    assert_same_knn(answer(made, devices=["cpu"] * 4), want)
    for n in (1, 3, 7):
        moved = distributed.rebalance(made, n)
        assert len(moved) == n
        assert max(len(s) for s in moved) - min(len(s) for s in moved) <= 1
        assert_same_knn(answer(moved, devices=["cpu"] * n), want)
        assert_same_knn(answer(made, devices=["cpu"] * n), want)
    assert_same_knn(answer(made, devices=["cpu"] * 6, n_replicas=2), want)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_the_answer_is_that_of_the_public_index(kind):
    made = trained(kind)
    width = made.centers[:, :16]
    given = [width] if kind == "ivf_flat" else [width, made.codebooks]
    module = ivf_flat if kind == "ivf_flat" else ivf_pq
    more = {} if kind == "ivf_flat" else {"pq_dim": 8}
    params = module.IndexParams(n_lists=12, **more)
    index = module.build_precomputed(params, ROWS, *given, device="cpu")
    want = module.search(module.SearchParams(n_probes=4), index, QUERIES, 10)
    assert_same_knn(answer(parts(kind, ids=np.arange(900))), want)


@pytest.mark.parametrize("kind", ["brute_force", *KINDS])
def test_splitting_moves_rows_and_keeps_names(kind):
    whole = distributed.merge(shards_of(kind))
    pieces = distributed.split(whole, 4)
    ids = [np.sort(piece.ids) for piece in pieces]
    assert_same(np.concatenate(ids), np.sort(IDS))
    assert all(a[-1] < b[0] for a, b in itertools.pairwise(ids))
    assert {piece.fingerprint for piece in pieces} == {whole.fingerprint}


def test_shards_are_plain_data():
    made = parts("ivf_pq")
    there = pickle.loads(pickle.dumps(made[2]))
    assert_same_shard(there, made[2])
    assert repr(there) == "distributed.Shard(ivf_pq, 320 rows, dim 16, sqeuclidean)"


def test_fingerprints_tell_models_apart():
    one, two = trained("ivf_flat"), trained("ivf_flat", seed=1)
    assert one.fingerprint == trained("ivf_flat").fingerprint
    others = [two, trained("ivf_pq"), trained("ivf_flat", "euclidean")]
    assert len({m.fingerprint for m in [one, *others]}) == 4


def test_independent_models_stand_side_by_side():
    """Their distances mean the same: probing every list is exact."""
    made = [
        distributed.build_part(trained("ivf_flat", rows=part), part, IDS[a:b], device="cpu")
        for a, b in [(0, 300), (300, 900)]
        for part in [ROWS[a:b]]
    ]
    for refused in (distributed.merge, lambda s: distributed.rebalance(s, 2)):
        with pytest.raises(ValueError, match=r"shard 1 must have the models .* of the first"):
            refused(made)
    with pytest.raises(ValueError, match=r'search side by side with scope="independent"'):
        shards.from_shards(made, ["cpu", "cpu"])
    want = brute_force.search(brute_force.build(ROWS, device="cpu"), QUERIES, 10)
    for devices in (["cpu"], ["cpu", "cpu"]):
        index = shards.from_shards(made, devices, scope="independent")
        assert not index.has_one_model
        got = shards.search(ivf_flat.SearchParams(n_probes=12), index, QUERIES, 10)
        assert_same(got[0], want[0])
        assert_same(got[1], IDS[want[1]])
    assert shards.from_shards(parts("ivf_flat"), ["cpu"] * 2).has_one_model


@pytest.mark.parametrize("given", [IDS[:300], 5000])
@pytest.mark.parametrize("kind", ["brute_force", "ivf_pq"])
def test_rows_that_are_not_finite_are_refused_or_dropped_by_choice(kind, given):
    rows = ROWS[:300].copy()
    rows[[7, 200], 3] = [np.nan, np.inf]
    made = "cosine" if kind == "brute_force" else trained("ivf_pq")
    with pytest.raises(ValueError, match=r"finite .* in row 7, column 3"):
        distributed.build_part(made, rows, given, device="cpu")
    got = distributed.build_part(made, rows, given, non_finite="drop", device="cpu")
    left = np.delete(np.arange(300), [7, 200])
    names = given + left if np.ndim(given) == 0 else given[left]
    want = distributed.build_part(made, rows[left], names, device="cpu")
    assert_same_shard(got, want)
    assert got.n_dropped == 2
    assert distributed.merge([got]).n_dropped == 2
    none = distributed.build_part(made, ROWS[:300], given, non_finite="drop", device="cpu")
    assert none.n_dropped == 0


def test_rows_in_whole_numbers():
    rows = np.random.default_rng(0).integers(0, 256, (300, 16)).astype(np.uint8)
    made = trained("ivf_flat", rows=rows.astype(np.float32))
    pieces = [
        distributed.build_part(made, rows[a : a + 100], np.arange(a, a + 100), device="cpu")
        for a in (0, 100, 200)
    ]
    merged = distributed.merge(pieces)
    assert merged.payload[0].dtype == np.uint8
    assert_same_shard(merged, distributed.build_part(made, rows, device="cpu"))
    with pytest.raises(TypeError, match="shard 1 must have rows of uint8 as the first"):
        distributed.merge([pieces[0], distributed.build_part(made, ROWS[:5], device="cpu")])


@needs_fibers
@pytest.mark.parametrize("kind", KINDS)
def test_parts_made_on_a_device_are_those_of_the_cpu(kind):
    with contextlib.ExitStack() as stack:
        for number in range(2):
            device = emulated.EmulatedDevice(Fibers(checked=False), emulated.RTX, number)
            device.watched = True
            stack.enter_context(emulated.stands_in(device))
        samples = [distributed.sample_part(ROWS[a:b], b - a) for a, b in [(0, 400), (400, 900)]]
        params = {
            "ivf_flat": ivf_flat.IndexParams(n_lists=12, kmeans_n_iters=3),
            "ivf_pq": ivf_pq.IndexParams(n_lists=12, kmeans_n_iters=3, pq_dim=8),
            "ivf_sq": ivf_sq.IndexParams(n_lists=12, kmeans_n_iters=3),
            "ivf_sq whole": ivf_sq.IndexParams(n_lists=12, kmeans_n_iters=3, by_residual=False),
        }[kind]
        on_cpu = distributed.train_distributed(params, samples, device="cpu")
        there = distributed.train_distributed(params, samples, device="cuda:1")
        assert there.fingerprint == on_cpu.fingerprint
        made = [
            distributed.build_part(there, ROWS[a:b], IDS[a:b], device=device)
            for a, b, device in [(0, 400, "cuda:0"), (400, 900, "cuda:1")]
        ]
        assert all(isinstance(shard.ids, np.ndarray) for shard in made)
        want = distributed.build_part(on_cpu, ROWS, IDS, device="cpu")
        assert_same_shard(distributed.merge(made), distributed.merge([want]), radius=False)
        devices = ["cuda:1", "cpu", "cuda:0"]
        assert_same_knn(answer(made, devices=devices), answer([want]))


ONE = distributed.build_part(trained("ivf_flat"), ROWS[:20], device="cpu")
ERRORS = {
    "dim": (
        lambda: distributed.build_part(trained("ivf_flat"), ROWS[:, :5]),
        r"distributed.build_part: dataset must have shape \(n, 16\), as its models, got \(900, 5\)",
    ),
    "id twice": (
        lambda: distributed.build_part(trained("ivf_flat"), ROWS[:3], [4, 5, 4]),
        "ids must be distinct, got 4 twice",
    ),
    "negative id": (
        lambda: distributed.build_part(trained("ivf_flat"), ROWS[:3], [4, -1, 5]),
        "ids must be between 0 and 9223372036854775807, got -1",
    ),
    "ids shape": (
        lambda: distributed.build_part(trained("ivf_flat"), ROWS[:3], [4]),
        r"ids must have shape \(3,\)",
    ),
    "running ids": (
        lambda: distributed.build_part(trained("ivf_flat"), ROWS[:3], -2),
        "ids must be between 0 and 9223372036854775805, got -2",
    ),
    "metric": (lambda: distributed.build_part("l2", ROWS), "metric must be one of"),
    "non_finite": (
        lambda: distributed.build_part(trained("ivf_flat"), ROWS, non_finite="keep"),
        "non_finite must be one of raise, drop",
    ),
    "last id": (
        lambda: distributed.build_part("cosine", ROWS[:3], 2**63 - 2),
        "ids must be between 0 and 9223372036854775805",
    ),
    "unsigned id": (
        lambda: distributed.build_part("cosine", ROWS[:2], np.array([1, 2**63], np.uint64)),
        "ids must be between 0 and 9223372036854775807, got 9223372036854775808",
    ),
    "nothing finite": (
        lambda: distributed.build_part("cosine", ROWS[:2] * np.nan, non_finite="drop"),
        "build_part: dataset must have a row that is finite, got none; leave the part out",
    ),
    "the same rows twice": (lambda: distributed.merge([ONE, ONE]), "ids must be distinct"),
    "twice on devices": (lambda: shards.from_shards([ONE, ONE], ["cpu"]), "ids must be distinct"),
    "nothing to merge": (lambda: distributed.merge([]), "shards must be at least one"),
    "nothing to move": (lambda: distributed.rebalance([], 2), "shards must be at least one"),
    "nothing to search": (lambda: shards.from_shards([], ["cpu"]), "shards must be at least one"),
    "too many": (lambda: distributed.split(ONE, 21), "n_shards must be at most the 20 rows"),
    "idle devices": (
        lambda: shards.from_shards([ONE], ["cpu"] * 2, scope="independent"),
        "devices must be at most the 1 shards, got 2",
    ),
    "two kinds": (
        lambda: shards.from_shards(
            [ONE, distributed.build_part(trained("ivf_pq"), ROWS[20:40], IDS[20:40] + 50)],
            ["cpu"],
            scope="independent",
        ),
        "shard 1 must be ivf_flat, sqeuclidean, dim 16, as the first, got ivf_pq",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_messages(case):
    call, text = ERRORS[case]
    with pytest.raises(ValueError, match=text):
        call()


def test_what_are_no_shards():
    with pytest.raises(TypeError, match=r"shard 1 must be a distributed.Shard, got int"):
        distributed.merge([ONE, 2])
    with pytest.raises(TypeError, match="shards must be several, in a list, got one"):
        shards.from_shards(ONE, ["cpu"])
    assert len(distributed.merge(iter([ONE]))) == 20


def test_ids_that_are_not_numbers():
    with pytest.raises(TypeError, match="ids must be integers, got float64"):
        distributed.build_part(trained("ivf_flat"), ROWS[:2], [0.5, 1.0])
    with pytest.raises(TypeError, match="models must be"):
        distributed.build_part(None, ROWS[:2])
