"""Plans against what is built and run at sizes that fit, closed forms, and the hedging itself."""

import asyncio
import json
import math

import emulated
import numpy as np
import pytest
from emu import Fibers
from engines import needs_fibers

from gpuann import brute_force, index_factory, ivf_flat, planning
from gpuann.codecs import opq
from gpuann.dask import ServeParams
from gpuann.dask.counters import Counters
from gpuann.dask.hedging import Replica, ShardState, ask
from gpuann.planning import rates
from gpuann.planning.report import Plan
from gpuann.planning.sizes import most_rows, row_shape, sizes
from gpuann.planning.tails import Budget, CallModel, simulate
from gpuann.planning.work import work

STATED = {"rows_per_second": 1e7, "centers_per_second": 1e7}
TEXTBOOK = {
    "rows": 1.2e9,
    "dim": 512,
    "index": "OPQ64,IVF65536,PQ64",
    "n_probes": 64,
    "shards": 16,
    "replicas": 3,
    "memory": 80 << 30,
    "service_cv": 0.15,
    "stall_share": 0.01,
    "stall_ms": 120,
    "hedge_after": "p95",
} | STATED
INDEXES = ["Flat", "IVF9,Flat", "IVF9,SQ8", "IVF9,PQ5x6", "PQ4", "OPQ5,IVF9,PQ5", "RR,IVF3,PQ7x4"]
DIM = 18


def data(rng, n, dtype, far=0.0):
    x = rng.standard_normal((n, DIM)) * 20 + far
    return (x if np.dtype(dtype).kind == "f" else np.abs(x).clip(0, 127)).astype(dtype)


def no_shift(index):
    """Bytes that the plan counts for a shift where the data asked for none."""
    whole = isinstance(index, brute_force.Index)
    shift = index.payload.shift if whole else index.core.coarse.axes.shift
    return 4 * DIM if shift is None else 0


@pytest.mark.parametrize("text", INDEXES)
@pytest.mark.parametrize("metric", ["sqeuclidean", "inner_product", "cosine"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8"])
def test_bytes_are_those_of_a_built_index(rng, text, metric, dtype):
    for far in (0, 100 if metric == "sqeuclidean" else 0):
        made, rows = index_factory(DIM, text, metric, **few(text)), data(rng, 331, dtype, far)
        index = made.build(rows, device="cpu")
        want = sizes("test", made, 331, dtype, cuda=False)
        assert index.nbytes == want.on_device - no_shift(index)
        assert want.halves == 0
        assert far == 0 or dtype[0] != "f" or no_shift(index) == 0


@needs_fibers
@pytest.mark.parametrize("text", INDEXES)
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_bytes_are_those_of_an_index_on_cuda(rng, monkeypatch, text, dtype):
    monkeypatch.setattr(opq, "N_ITERS", 2)  # however often: an OPQ matrix takes the same bytes
    with emulated.stands_in(emulated.EmulatedDevice(Fibers(checked=False))):
        made, rows = index_factory(DIM, text, **few(text)), data(rng, 331, dtype)
        index = made.build(rows, device="cuda")
        want = sizes("test", made, 331, dtype, cuda=True)
        assert index.device == "cuda:0"
        assert index.nbytes == want.on_device - no_shift(index)


def few(text):
    return {} if text == "Flat" else {"kmeans_n_iters": 1}


def test_rows_kept_count_beside_the_index(rng):
    made, rows = index_factory(DIM, "IVF9,PQ6,RFlat", kmeans_n_iters=1), data(rng, 331, "float32")
    index, want = made.build(rows, device="cpu"), sizes("test", made, 331, "float32", cuda=False)
    assert index.nbytes == want.on_device + want.kept - no_shift(index.inner)


@pytest.mark.parametrize("text", [*INDEXES, "IVF9,PQ6,RFlat"])
@pytest.mark.parametrize("cuda", [False, True])
def test_the_most_rows_are_the_most(text, cuda):
    made = index_factory(DIM, text)

    def held(n):
        size = sizes("test", made, n, "float32", cuda=cuda)
        return size.on_device + (0 if cuda else size.kept)

    for room in (held(20), held(1000), held(1000) + 7):
        n = most_rows("test", made, "float32", room, cuda=cuda)
        assert held(n) <= room < held(n + 1)
    assert most_rows("test", made, "float32", 1, cuda=cuda) == 0


def test_twice_the_rows_are_twice_the_codes():
    for text in INDEXES:
        one, two = (
            sizes("test", index_factory(DIM, text), n, "int8", cuda=True) for n in (50, 100)
        )
        assert two.codes == 2 * one.codes
        assert two.beside == 2 * one.beside
        assert two.models == one.models


def test_rows_scanned_are_those_of_a_run_on_even_lists(rng):
    centers = 100 * np.eye(8, DIM, dtype=np.float32)
    rows = np.repeat(centers, 40, axis=0) + rng.standard_normal((320, DIM)).astype(np.float32)
    index = ivf_flat.build_precomputed(ivf_flat.IndexParams(n_lists=8), rows, centers, device="cpu")
    assert index.imbalance == 1
    made = index_factory(DIM, "IVF8,Flat")
    for n_probes in (1, 3, 8, 20):
        at = brute_force.search(brute_force.build(centers, device="cpu"), rows, min(8, n_probes))[1]
        counted = index.list_sizes[at].sum(axis=1)
        shape = row_shape("test", made, "float32", cuda=False)
        found = work(made, shape, 320, n_probes, index.imbalance)
        assert (counted == found.rows).all()
        assert found.multiply_adds == 8 * DIM + found.rows * DIM
        assert found.bytes == (8 + found.rows) * (4 * DIM + 4)


def test_rows_scanned_on_uneven_lists(rng):
    """Of queries that fall as the rows do, one list each: sum of squares, exactly."""
    centers = 100 * np.eye(4, DIM, dtype=np.float32)
    rows = np.repeat(centers, [10, 20, 40, 130], axis=0)
    rows += rng.standard_normal(rows.shape).astype(np.float32)
    index = ivf_flat.build_precomputed(ivf_flat.IndexParams(n_lists=4), rows, centers, device="cpu")
    at = brute_force.search(brute_force.build(centers, device="cpu"), rows, 1)[1]
    made = index_factory(DIM, "IVF4,Flat")
    shape = row_shape("test", made, "float32", cuda=False)
    found = work(made, shape, 200, 1, index.imbalance).rows
    assert index.list_sizes[at].sum(axis=1).mean() == pytest.approx(found, rel=1e-12)


@pytest.mark.parametrize("n_shards", [1, 4, 16, 100])
def test_searches_without_a_stall_are_as_many_as_the_law_says(n_shards):
    n, p = 40_000, 0.01
    model = CallModel(1.0, 0.0, p, 100.0)
    want = (1 - p) ** n_shards
    mean = simulate(model, n_shards, 1, n_searches=n).mean_ms
    stalled = (mean - 1) / 100
    assert abs(stalled - (1 - want)) < 5 * math.sqrt(want * (1 - want) / n)


@pytest.mark.parametrize("n_shards", [1, 5, 16])
def test_the_slowest_of_exponentials(n_shards):
    """cv = 1 is exponential: the mean of the largest is the harmonic number, F(x)^S its law."""
    n = 60_000
    found = simulate(CallModel(2.0, 1.0), n_shards, 1, n_searches=n)
    each = 1 / np.arange(1, n_shards + 1)
    deviation = 2 * math.sqrt(np.square(each).sum() / n)
    assert abs(found.mean_ms - 2 * each.sum()) < 5 * deviation
    for q, got in ((0.5, found.p50_ms), (0.95, found.p95_ms), (0.99, found.p99_ms)):
        below = (1 - math.exp(-got / 2)) ** n_shards
        assert abs(below - q) < 5 * math.sqrt(q * (1 - q) / n)


def test_queues_of_exponential_service_are_those_of_m_m_1():
    """Time in the system is exponential of mean service / (1 - rho)."""
    n, rho = 60_000, 0.6
    found = simulate(CallModel(2.0, 1.0, rho=rho), 1, 1, n_searches=n)
    mean = 2 / (1 - rho)
    assert abs(found.mean_ms - mean) < 5 * mean / math.sqrt(n)
    assert abs(math.exp(-found.p95_ms / mean) - 0.05) < 5 * math.sqrt(0.05 * 0.95 / n)


def test_hedged_calls_of_two_replicas():
    """Constant service s, stalls of share p, unbounded budget: a search is s, d + s after one
    stall that was hedged, or d + s + stall at least after two.
    """
    n, p = 200_000, 0.05
    model, args = CallModel(2.0, 0.0, p, 50.0), {"max_hedge_ratio": 1.0, "n_searches": n}
    found = simulate(model, 1, 2, hedge_after=5, **args)
    mean = 2 * (1 - p) + p * (1 - p) * 7 + p * p * 52
    assert abs(found.hedged_share - p) < 5 * math.sqrt(p * (1 - p) / n)
    assert abs(found.mean_ms - mean) < 5 * math.sqrt((25 * p + 2500 * p * p) / n)
    assert (found.p50_ms, found.p99_ms, found.hedge_ms) == (2, 7, 5)
    alone = simulate(model, 1, 1, hedge_after=5, **args)
    assert (alone.hedged_share, alone.hedge_ms) == (0, None)


@pytest.mark.parametrize("ratio", [0.0, 0.05, 0.13, 1.0])
@pytest.mark.parametrize("n_shards", [1, 7])
def test_the_budget_is_kept_call_by_call(rng, ratio, n_shards):
    """What the closed form grants, in uneven chunks, is what a loop grants."""
    late = rng.random((400, n_shards)) < 0.2
    budget, want, hedges = Budget(ratio, n_shards), np.zeros_like(late), 0
    for i, row in enumerate(late):
        for s, one in enumerate(row):
            want[i, s] = one and hedges < ratio * (i + 1) * n_shards
            hedges += int(want[i, s])
    got = [budget.grant(part) for part in np.split(late, [1, 1, 50, 133])]
    assert (np.concatenate(got) == want).all()
    assert budget.hedges == hedges


@pytest.mark.parametrize("ratio", [0.05, 1.0])
def test_hedges_are_those_of_the_code_that_hedges(rng, ratio):
    """The same calls stall in both; `ask` is given sleeps far apart, and only counts are compared:
    hedges sent, and stalls that the searcher saw.
    """
    n, n_shards = 12, 8
    stalls = rng.random((n, n_shards)) < 0.25
    granted = Budget(ratio, n_shards).grant(stalls)
    params = ServeParams(hedge_after=60, max_hedge_ratio=ratio)
    counters = Counters()

    async def call(shard, stalled):
        asked = []

        async def send(replica):
            asked.append(replica)
            first = len(asked) == 1
            await asyncio.sleep(0.25 if stalled and first else 0)
            return "stalled" if stalled and first else "fine"

        return await ask(shard, send, params, counters, lambda s, r: None)

    async def main():
        states = [ShardState(s, 9, [Replica("a"), Replica("b")]) for s in range(n_shards)]
        return [
            await asyncio.gather(*(call(*one) for one in zip(states, row, strict=True)))
            for row in stalls.tolist()
        ]

    found = np.array(asyncio.run(main()))
    assert counters.calls == n * n_shards
    assert counters.hedges == counters.hedge_wins == granted.sum()
    assert ((found == "stalled").sum(axis=1) == (stalls & ~granted).sum(axis=1)).all()


def test_the_textbook_case():
    """A median of about 18 ms and a p99 under 45, by stated rates; not without hedging."""
    found = planning.plan(**TEXTBOOK)
    assert (found.shards, found.replicas, found.machines) == (16, 3, 48)
    assert found.sizes.codes == 64 * 75_000_000
    assert found.fits
    assert 17 <= found.hedged.p50_ms <= 19
    assert found.hedged.p99_ms < 45 < found.unhedged.p99_ms
    assert found.hedged.hedged_share <= 0.05 + 1e-4
    assert planning.plan(**TEXTBOOK) == found
    assert json.loads(json.dumps(found.as_dict()))["rates"]["source"] == "stated"


def test_a_billion_rows_of_768():
    args = {"n_probes": 64, "memory": 80 << 30} | STATED
    found = planning.plan(1e9, 768, "IVF65536,PQ96", **args)
    assert found.shards == 1 + (found.sizes.on_device + (1 << 30) > 40 << 30)
    assert found.shards * found.rows_per_shard >= 10**9
    assert found.fits
    assert not planning.plan(1e9, 768, "IVF65536,PQ96", shards=1, **args).fits


def test_more_shards_or_replicas_never_use_fewer_bytes():
    def held(**more):
        found = planning.plan(1e6, 64, "IVF1024,PQ16", n_searches=100, **STATED, **more)
        return found.sizes.on_device * found.shards * found.replicas

    by_shards = [held(shards=s) for s in (1, 2, 5, 16)]
    by_replicas = [held(replicas=r) for r in (1, 2, 3)]
    assert by_shards == sorted(by_shards)
    assert by_replicas == [r * by_replicas[0] for r in (1, 2, 3)]


def test_replicas_for_a_load():
    args = {"n_searches": 100, "utilisation": 0.5} | STATED
    one = planning.plan(1e6, 64, "IVF1024,PQ16", **args)
    many = planning.plan(1e6, 64, "IVF1024,PQ16", load=3.2 * one.queries_per_second, **args)
    assert many.replicas == 7
    assert planning.plan(1e6, 64, "IVF1024,PQ16", replicas=9, load=1, **args).replicas == 9


def test_probes_for_a_recall_come_from_a_curve_alone():
    args = {"n_searches": 100} | STATED
    curve = [(64, 0.99), (4, 0.7), (16, 0.93)]
    found = planning.plan(1e6, 64, "IVF1024,PQ16", recall=0.9, curve=curve, **args)
    assert found.n_probes == 16
    assert "not proven" in str(found)
    assert "no recall is claimed" in str(planning.plan(1e6, 64, "IVF1024,PQ16", **args))


def test_a_bound_says_so_and_is_faster_than_what_reads_more():
    peaks = {"bandwidth": 3e12, "multiply_adds": 4e14, "n_searches": 100}
    found = planning.plan(1e9, 768, "IVF65536,PQ96", n_probes=64, **peaks)
    assert found.rates.source == "bound"
    assert "a bound, not measured" in str(found)
    assert "at most" in str(found)
    assert found.call_ms / 1e3 >= found.work.bytes / 3e12 * (1 - 1e-12)


@pytest.mark.parametrize("text", ["Flat", "IVF64,Flat", "IVF64,SQ8", "OPQ8,IVF64,PQ8,RFlat"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_rates_are_measured_here(monkeypatch, text, dtype):
    monkeypatch.setattr(rates, "_SECONDS", 0.01)
    monkeypatch.setattr(rates, "_MOST_ROWS", 4096)
    found = planning.plan(1e5, 24, text, dtype=dtype, device="cpu", n_searches=100)
    assert isinstance(found, Plan)
    assert found.rates.source == "measured"
    assert "on cpu" in str(found)
    assert found.rates.rows_per_second > 0
    seconds = found.work.rows / found.rates.rows_per_second
    seconds += found.work.centers / found.rates.centers_per_second
    assert found.call_ms == pytest.approx(1e3 * seconds)


@pytest.mark.parametrize(
    ("index", "n_probes", "batch", "said"),
    [
        ("IVF256,Flat", 64, 64, "IVF16,Flat, 4 probes, 16 queries a list (planned: 16)"),
        ("IVF256,SQ8", 256, 3, "IVF16,SQ8, 16 probes, 3 queries a list (planned: 3)"),
        ("IVF4096,PQ6", 64, 64, "IVF64,PQ6, 1 probes, 1 queries a list (planned: 1)"),
        ("IVF4096,PQ6", 1, 2, "IVF40,PQ6, 1 probes, 0.05 queries a list (planned: 0.000488)"),
    ],
)
def test_rates_are_of_queries_that_share_lists_as_planned(
    monkeypatch, index, n_probes, batch, said
):
    monkeypatch.setattr(rates, "_SECONDS", 0.01)
    monkeypatch.setattr(rates, "_MOST_ROWS", 4096)
    args = {"n_probes": n_probes, "batch": batch, "device": "cpu", "n_searches": 100}
    assert said in planning.plan(1e5, 24, index, **args).rates.detail


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rows": 0}, "rows must be at least 1"),
        ({"rows": 10.5}, "rows must be whole"),
        ({"rows": float("inf")}, "rows must be at least 1 and finite"),
        ({"rows": 9}, "index must have at most 9 lists"),
        ({"index": "IVF16,HNSW32"}, "index_factory: description must have"),
        ({"dtype": "float64"}, "dtype must be one of"),
        ({"recall": 0.9}, "n_probes must be left out with recall"),
        ({"recall": 0.9, "n_probes": None}, "curve must be given with recall"),
        ({"recall": 0.9, "n_probes": None, "curve": [(4, 0.5)]}, "recall must be at most the cur"),
        ({"utilisation": 1.0}, "utilisation must be below 1"),
        ({"load": 10.0}, "utilisation must be above 0 with load"),
        ({"load": 1e15, "utilisation": 0.5}, "load must need at most"),
        ({"stall_share": 2}, "stall_share must be at least 0 and at most 1"),
        ({"stall_ms": -1}, "stall_ms must be at least 0"),
        ({"hedge_after": "p99"}, "hedge_after must be milliseconds"),
        ({"hedge_after": 0}, "hedge_after must be above 0"),
        ({"memory": 1000, "shards": None}, "memory must hold the models"),
        ({"imbalance": 0.5}, "imbalance must be at least 1"),
        ({"centers_per_second": None}, "centers_per_second must go with rows_per_second"),
        ({"rows_per_second": None}, "rows_per_second must go with"),
        ({"bandwidth": 1e12, "multiply_adds": 1e12}, "bandwidth must be left out with"),
        ({"rows_per_second": 0.0}, "rows_per_second must be above 0"),
        ({"replicas": 0}, "replicas must be at least 1"),
    ],
)
def test_bad_arguments_are_named(change, said):
    with pytest.raises(ValueError, match=said):
        planning.plan(**TEXTBOOK | change)


def test_a_text_is_no_number():
    with pytest.raises(TypeError, match=r"planning\.plan: stall_ms must be a number"):
        planning.plan(**TEXTBOOK | {"stall_ms": "long"})
