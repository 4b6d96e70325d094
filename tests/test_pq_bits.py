"""PQ codes of 4 to 8 bits: packed side by side, searched as the rows that they stand for."""

import models
import numpy as np
import oracle
import pytest
from compare import assert_close, assert_same, assert_same_knn
from hypothesis import given
from hypothesis import strategies as st

from bench.data import clustered
from gpuann import distributed, ivf_pq, shards
from gpuann.backends import packing

ROWS, QUERIES = clustered(2000, 20, 60)
BITS = [4, 5, 6, 7, 8]


def build(bits, rows=ROWS, pq_dim=10, **more):
    return models.build("ivf_pq", rows, pq_dim=pq_dim, pq_bits=bits, device="cpu", **more)


def one_by_one(codes, bits):
    """Packed by hand: a row is one large number."""
    rows = []
    for row in codes.tolist():
        number = sum(code << (m * bits) for m, code in enumerate(row))
        rows.append(number.to_bytes(-(-len(row) * bits // 8), "little"))
    return np.frombuffer(b"".join(rows), np.uint8).reshape(len(codes), -1)


@given(st.integers(1, 8), st.integers(1, 40), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_packing(bits, pq_dim, n, seed):
    codes = np.random.default_rng(seed).integers(0, 2**bits, (n, pq_dim)).astype(np.uint8)
    packed = packing.pack(np, codes, bits)
    assert_same(packed, one_by_one(codes, bits))
    assert packed.shape[1] == packing.row_bytes(pq_dim, bits)
    assert_same(packing.unpack(np, packed, pq_dim, bits), codes)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("metric", ["sqeuclidean", "inner_product"])
def test_the_distance_is_to_the_decoded_row(bits, metric):
    index = build(bits, metric=metric, pq_dim=7)
    assert (index.pq_bits, index.pq_dim, index.pq_centers.shape) == (bits, 7, (7, 2**bits, 3))
    dists, ids = models.search(index, QUERIES, 10, n_probes=16)
    payload, lists = index.core.payload, index.core.lists
    assert payload.codes.shape == (2000, -(-7 * bits // 8))
    codes = packing.unpack(np, payload.codes, 7, bits)
    assert codes.max() < 2**bits
    centers = np.repeat(payload.centers, index.list_sizes, axis=0)
    near = oracle.decode(codes, payload.codebooks, centers)[:, :20][np.argsort(lists.ids)][ids]
    if metric == "inner_product":
        want = (QUERIES.astype(np.float64)[:, None] * near).sum(axis=2)
    else:
        want = ((QUERIES.astype(np.float64)[:, None] - near) ** 2).sum(axis=2)
    assert_close(dists, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bits", BITS)
def test_tables_and_lists_answer_alike(bits):
    index = build(bits)
    many = np.concatenate([QUERIES] * 8)
    want = models.search(index, many, 10, n_probes=5)
    one = [models.search(index, q[None], 10, n_probes=5) for q in QUERIES]
    assert_same_knn(
        [np.concatenate(p)[:60] for p in zip(*one, strict=True)], [w[:60] for w in want]
    )


def test_more_bits_find_more():
    truth = models.search(models.build("brute_force", ROWS, device="cpu"), QUERIES, 10)[1]
    found = []
    for bits in BITS:
        ids = models.search(build(bits), QUERIES, 10, n_probes=16)[1]
        hits = [len(set(a) & set(b)) for a, b in zip(ids.tolist(), truth.tolist(), strict=True)]
        found.append(np.mean(hits) / 10)
    assert sorted(found) == found
    assert found[0] >= 0.61  # measured 0.632, 0.705, 0.797, 0.857, 0.890


def test_shards_of_packed_codes_are_the_single_index(tmp_path):
    params = ivf_pq.IndexParams(n_lists=9, pq_dim=7, pq_bits=5, kmeans_n_iters=3)
    search = ivf_pq.SearchParams(n_probes=4)
    one = shards.build(params, ROWS, ["cpu"])
    want = shards.search(search, one, QUERIES, 10)
    three = shards.build(params, ROWS, ["cpu"] * 3)
    assert_same_knn(shards.search(search, three, QUERIES, 10), want)
    shards.save(tmp_path / "index", three)
    again = shards.load(tmp_path / "index", ["cpu"] * 2)
    assert_same_knn(shards.search(search, again, QUERIES, 10), want)
    samples = [distributed.sample_part(ROWS, 2000)]
    made = distributed.train_local(params, samples, device="cpu")
    assert made.codebooks.shape == (7, 32, 3)


def test_given_codebooks_have_as_many_entries():
    index = build(6)
    params = ivf_pq.IndexParams(n_lists=16, pq_dim=10, pq_bits=6)
    books = index.pq_centers
    again = ivf_pq.build_precomputed(params, ROWS, index.centers, books, device="cpu")
    assert_same(again.core.payload.codes, index.core.payload.codes)
    with pytest.raises(ValueError, match=r"pq_centers must have shape \(10, 64, 2\)"):
        ivf_pq.build_precomputed(params, ROWS, index.centers, books[:, :32])
