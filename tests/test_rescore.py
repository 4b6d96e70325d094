"""Canonical distances by products in float64: to the last bit those that are summed in order."""

import numpy as np
import pytest
from compare import assert_same

from gpuann.backends.numpy_ops import _canonical, _rescore
from gpuann.backends.numpy_ops._rescore import Pairs, Rescorer
from gpuann.backends.seam import FlatPayload, PqPayload, SqPayload

N_LISTS, N_ROWS, N_QUERIES = 3, 150, 40


def _in_order(rescorer, pairs):
    return _canonical.score(
        rescorer.payload, rescorer.queries, rescorer.metric, pairs.query, pairs.row, pairs.list
    )


@pytest.fixture(autouse=True)
def of_any_dim(monkeypatch):
    """As if short rows were worth a product too."""
    monkeypatch.setattr(_rescore, "_PAIR_IN_COMPONENTS", 0)


@pytest.fixture
def summed(monkeypatch):
    """How many pairs `Rescorer.distances` summed in order."""
    counted = []
    plain = _canonical.score

    class Counting:
        @staticmethod
        def score(*given):
            counted.append(len(given[-1]))
            return plain(*given)

    monkeypatch.setattr(_rescore, "_canonical", Counting)
    return counted


def _pairs(rng, share=0.5, n_rows=N_ROWS, n_queries=N_QUERIES):
    """Some of all pairs, in any order; a list is a third of the rows."""
    all_pairs = rng.permutation(n_queries * n_rows)[: int(share * n_queries * n_rows)]
    query, row = np.divmod(all_pairs, n_rows)
    return Pairs(query, row, row * N_LISTS // n_rows)


def _flat(rng, dim, dtype=np.float32, make=None):
    if np.dtype(dtype).itemsize == 1:
        return FlatPayload(rng.integers(0, 120, (N_ROWS, dim)).astype(dtype), None, None)
    make = make or rng.standard_normal
    return FlatPayload(make((N_ROWS, dim)).astype(dtype), None, None)


def _cosine(rng, dim):
    rows = rng.standard_normal((N_ROWS, dim)).astype(np.float32)
    rows[::7] = 0
    norms = np.linalg.norm(rows, axis=1)
    scale = np.where(norms > 0, 1 / np.where(norms > 0, norms, 1), 0).astype(np.float32)
    return FlatPayload(rows, scale, None)


def _shifted(rng, dim):
    shift = (1000 + rng.standard_normal(dim)).astype(np.float32)
    rows = (shift + rng.standard_normal((N_ROWS, dim))).astype(np.float32)
    return FlatPayload(rows, None, shift)


def _pq(rng, dim):
    codes = rng.integers(0, 16, (N_ROWS, dim // 2)).astype(np.uint8)
    books = rng.standard_normal((dim // 2, 256, 2)).astype(np.float32)
    return PqPayload(codes, books, rng.standard_normal((N_LISTS, dim)).astype(np.float32))


def _sq(rng, dim, centers):
    step = rng.uniform(0, 0.1, dim).astype(np.float32)
    middle = rng.standard_normal(dim).astype(np.float32)
    codes = rng.integers(-128, 128, (N_ROWS, dim)).astype(np.int8)
    of_lists = rng.standard_normal((N_LISTS, dim)).astype(np.float32) if centers else None
    return SqPayload(codes, step, middle, of_lists)


PAYLOADS = {
    "float32": _flat,
    "float16": lambda rng, dim: _flat(rng, dim, np.float16),
    "int8": lambda rng, dim: _flat(rng, dim, np.int8),
    "uint8": lambda rng, dim: _flat(rng, dim, np.uint8),
    "cosine": _cosine,
    "shifted": _shifted,
    "pq": _pq,
    "sq": lambda rng, dim: _sq(rng, dim, centers=False),
    "sq of residuals": lambda rng, dim: _sq(rng, dim, centers=True),
}


@pytest.mark.parametrize("metric", ["sqeuclidean", "inner_product"])
@pytest.mark.parametrize("dim", [2, 48, 130])
@pytest.mark.parametrize("name", PAYLOADS)
def test_as_in_order(rng, summed, name, dim, metric):
    payload = PAYLOADS[name](rng, dim)
    queries = rng.standard_normal((N_QUERIES, dim)).astype(np.float32)
    if name == "shifted":
        queries += payload.shift
    if name == "cosine":
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        queries[3] = 0  # no direction either
    rescorer, pairs = Rescorer(payload, queries, metric), _pairs(rng)
    got = rescorer.distances(pairs)
    assert sum(summed) < 0.1 * len(got)  # the others are certain: rows without a direction are not
    assert_same(got, _in_order(rescorer, pairs))
    assert_same(rescorer.distances(pairs, threads=True), got)


@pytest.mark.parametrize("scale", [1e-12, 1e-4, 1e4, 1e12])
def test_any_scale(rng, summed, scale):
    payload = _flat(rng, 96, make=lambda shape: scale * rng.standard_normal(shape))
    queries = (scale * rng.standard_normal((N_QUERIES, 96))).astype(np.float32)
    rescorer, pairs = Rescorer(payload, queries, "sqeuclidean"), _pairs(rng)
    assert_same(rescorer.distances(pairs), _in_order(rescorer, pairs))
    assert sum(summed) < 0.01 * len(pairs.row)


def test_in_blocks(rng, monkeypatch, summed):
    """Products of 7 queries and 7 rows, and a list cut into several parts."""
    monkeypatch.setattr(_rescore, "_BLOCK", 7)
    monkeypatch.setattr(_rescore, "_MOST_PAIRS", 600)
    rescorer = Rescorer(
        _flat(rng, 24), rng.standard_normal((N_QUERIES, 24)).astype(np.float32), "sqeuclidean"
    )
    pairs = _pairs(rng)
    got = rescorer.distances(pairs)
    assert sum(summed) < 0.01 * len(got)
    assert_same(got, _in_order(rescorer, pairs))


@pytest.mark.parametrize("what", ["equal", "near"])
def test_doubt(rng, summed, what):
    """Queries that are rows, or nearly, far from the origin: the product cannot tell."""
    rows = 1e4 + rng.standard_normal((N_ROWS, 20)).astype(np.float32)
    queries = rows[:N_QUERIES].copy()
    if what == "near":
        queries = np.nextafter(queries, np.float32(np.inf))
    rescorer = Rescorer(FlatPayload(rows, None, None), queries, "sqeuclidean")
    pairs = _pairs(rng, share=1)
    got = rescorer.distances(pairs)
    assert sum(summed) >= N_QUERIES
    assert_same(got, _in_order(rescorer, pairs))


def test_halfway(rng, summed):
    """A true distance in the middle of two float32: exact in float64, and in doubt all the same."""
    rows = rng.integers(0, 3, (N_ROWS, 3)).astype(np.float32)
    rows[:, 0] = 4096  # 2^24 + a little
    queries = np.zeros((N_QUERIES, 3), np.float32)
    rescorer = Rescorer(FlatPayload(rows, None, None), queries, "sqeuclidean")
    pairs = _pairs(rng, share=1)
    got = rescorer.distances(pairs)
    odd = (rows[pairs.row, 1:].astype(int) ** 2).sum(axis=1) % 2 == 1
    assert sum(summed) == odd.sum() > 0
    assert_same(got, _in_order(rescorer, pairs))


def test_without_the_error_bound_it_fails(rng, monkeypatch):
    """Long rows, each close to a query: the last bits are not the canonical ones."""
    monkeypatch.setattr(_rescore, "_UNIT", 0.0)
    rows = rng.standard_normal((N_ROWS, 20)).astype(np.float32)
    queries = (rows[:N_QUERIES] * (1 + 1e-5 * rng.standard_normal((N_QUERIES, 20)))).astype(
        np.float32
    )
    rescorer = Rescorer(FlatPayload(rows, None, None), queries, "sqeuclidean")
    pairs = _pairs(rng, share=1)
    assert (rescorer.distances(pairs) != _in_order(rescorer, pairs)).any()


def test_few_pairs_are_summed_in_order(rng, summed):
    rescorer = Rescorer(
        _flat(rng, 24), rng.standard_normal((N_QUERIES, 24)).astype(np.float32), "sqeuclidean"
    )
    pairs = _pairs(rng, share=0.02)
    assert_same(rescorer.distances(pairs), _in_order(rescorer, pairs))
    assert sum(summed) == len(pairs.row)


def test_no_pair(rng):
    rescorer = Rescorer(_flat(rng, 4), np.zeros((1, 4), np.float32), "sqeuclidean")
    none = np.empty(0, np.int64)
    assert len(rescorer.distances(Pairs(none, none, none))) == 0


def test_short_rows_are_summed_in_order(rng, monkeypatch, summed):
    monkeypatch.setattr(_rescore, "_PAIR_IN_COMPONENTS", 24)
    queries = rng.standard_normal((N_QUERIES, 24)).astype(np.float32)
    rescorer, pairs = Rescorer(_flat(rng, 24), queries, "sqeuclidean"), _pairs(rng)
    assert_same(rescorer.distances(pairs), _in_order(rescorer, pairs))
    assert sum(summed) == len(pairs.row)
