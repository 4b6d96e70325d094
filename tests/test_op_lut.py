"""build_lut and scan_lut: tables to rounding, answers exact, also from float16 tables."""

import numpy as np
import oracle
import pytest
import scan_cases
import strategies
from compare import assert_close, assert_same_knn

from gpuann.backends.numpy_ops import build_lut, scan_lists, scan_lut


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("pq_len", [1, 2, 3, 8])
def test_table_entries(rng, dtype, pq_len):
    queries, codebooks = strategies.real(rng, 5, 4 * pq_len), strategies.real(rng, 4, 256, pq_len)
    lut = build_lut(queries, codebooks, dtype)
    assert lut.dtype == dtype
    want = np.einsum(
        "qml,mjl->qmj",
        queries.reshape(5, 4, pq_len).astype(np.float64),
        codebooks.astype(np.float64),
    )
    unit = 2.0**-11 if dtype == np.float16 else 2.0**-24
    assert_close(lut, want, rtol=2 * unit, atol=16 * unit)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("metric", ["sqeuclidean", "inner_product"])
@pytest.mark.parametrize("make", [strategies.lattice, strategies.real])
def test_same_bits_as_scan_lists(rng, make, metric, dtype):
    case = scan_cases.pq(rng, make, n_rows=700, n_lists=9, pq_dim=6, pq_len=2, metric=metric)
    queries = make(rng, 40, 12)
    probes = scan_cases.probes(rng, 40, 9, 4)
    terms = case.terms(queries, probes)
    scaled = queries if metric == "inner_product" else 2 * queries
    lut = build_lut(scaled, case.payload.codebooks, dtype)
    for k in (1, 10, 900):
        got = scan_lut(lut, queries, terms, case.payload, case.lists, probes, k, metric)
        want = scan_lists(queries, terms, case.payload, case.lists, probes, k, metric)
        assert_same_knn(got, want)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_a_table_that_overflows_float16_loses_nothing(rng):
    def large(rng, *shape):
        return (300 * strategies.real(rng, *shape)).astype(np.float32)

    case = scan_cases.pq(
        rng, large, n_rows=300, n_lists=4, pq_dim=6, pq_len=2, metric="sqeuclidean"
    )
    queries, probes = large(rng, 20, 12), scan_cases.probes(rng, 20, 4, 3)
    terms = case.terms(queries, probes)
    lut = build_lut(2 * queries, case.payload.codebooks, np.float16)
    assert np.isinf(lut).any()
    for k in (1, 10):
        got = scan_lut(lut, queries, terms, case.payload, case.lists, probes, k, case.metric)
        want = scan_lists(queries, terms, case.payload, case.lists, probes, k, case.metric)
        assert_same_knn(got, want)


def test_adc_is_the_distance_to_the_decoded_row(rng):
    case = scan_cases.pq(
        rng, strategies.real, n_rows=300, n_lists=5, pq_dim=4, pq_len=3, metric="sqeuclidean"
    )
    queries = strategies.real(rng, 8, 12)
    probes = scan_cases.probes(rng, 8, 5, 5)
    lut = build_lut(2 * queries, case.payload.codebooks)
    terms = case.terms(queries, probes)
    dists, ids = scan_lut(lut, queries, terms, case.payload, case.lists, probes, 7, case.metric)
    place = np.argsort(case.lists.ids)
    decoded = oracle.decode(
        case.payload.codes, case.payload.codebooks, case.payload.centers[case.list_of]
    )
    for q in range(8):
        want = [oracle.distance(queries[q], decoded[place[i]], case.metric) for i in ids[q]]
        assert_close(dists[q], want, rtol=1e-5, atol=0)
