"""Quantisers by themselves."""

import numpy as np
import pytest
from compare import assert_close, assert_same

from bench.data import clustered
from gpuann import ivf_pq, quantize

ROWS, OTHERS = clustered(3000, 18, 200)


def fit_pq(**more):
    more = {"pq_dim": 6, "kmeans_n_iters": 5} | more
    return quantize.pq.fit(quantize.pq.QuantizerParams(**more), ROWS, device="cpu")


@pytest.mark.parametrize("bits", [4, 6, 8])
@pytest.mark.parametrize("rotation", ["none", "random", "opq"])
@pytest.mark.parametrize("pq_dim", [6, 4])
def test_a_code_is_the_nearest_entry(bits, rotation, pq_dim):
    made = fit_pq(pq_bits=bits, rotation=rotation, pq_dim=pq_dim)
    codes = quantize.pq.encode(made, OTHERS, device="cpu")
    assert codes.shape == (200, made.code_bytes) == (200, -(-pq_dim * bits // 8))
    wide = np.zeros((200, pq_dim * made.pq_len))
    if made.rotation is None:
        wide[:, :18] = OTHERS
    else:
        wide = OTHERS.astype(np.float64) @ made.rotation.T
    pieces = wide.reshape(200, pq_dim, 1, -1)
    dists = ((pieces - made.codebooks.astype(np.float64)) ** 2).sum(axis=3)
    want = made.codebooks[np.arange(pq_dim), dists.argmin(axis=2)].reshape(200, -1)
    want = want[:, :18] if made.rotation is None else want.astype(np.float64) @ made.rotation
    assert_close(quantize.pq.decode(made, codes), want, rtol=1e-5, atol=1e-5)
    error = ((OTHERS - quantize.pq.decode(made, codes)).astype(np.float64) ** 2).sum(axis=1).mean()
    assert quantize.pq.error(made, OTHERS, device="cpu") == pytest.approx(error, rel=1e-6)


def test_more_bits_err_less():
    errors = [quantize.pq.error(fit_pq(pq_bits=b), OTHERS, device="cpu") for b in range(4, 9)]
    assert sorted(errors, reverse=True) == errors
    assert quantize.pq.error(fit_pq(rotation="opq"), OTHERS, device="cpu") < errors[-1]


def test_chunks_and_dtypes():
    made = fit_pq()
    codes = quantize.pq.encode(made, OTHERS, device="cpu")
    assert_same(quantize.pq.encode(made, [OTHERS[:7], OTHERS[7:]], device="cpu"), codes)
    halves = OTHERS.astype(np.float16)
    want = quantize.pq.encode(made, halves.astype(np.float32), device="cpu")
    assert_same(quantize.pq.encode(made, halves, device="cpu"), want)
    again = fit_pq()
    assert_same(again.codebooks, made.codebooks)


def test_scalar_codes_err_by_half_a_step():
    made = quantize.scalar.fit(quantize.scalar.QuantizerParams(), ROWS)
    codes = quantize.scalar.encode(made, ROWS, device="cpu")
    assert codes.dtype == np.int8
    assert (codes.min(), codes.max()) == (-128, 127)
    decoded = quantize.scalar.decode(made, codes)
    assert (np.abs(decoded - ROWS) <= 0.5001 * made.step).all()
    error = ((ROWS - decoded).astype(np.float64) ** 2).sum(axis=1).mean()
    assert quantize.scalar.error(made, ROWS, device="cpu") == pytest.approx(error, rel=1e-9)


def test_scalar_bounds():
    rows = ROWS.copy()
    rows[5, 3] = 1e6  # one that is far away takes all of the codes
    whole = quantize.scalar.fit(quantize.scalar.QuantizerParams(), rows)
    most = quantize.scalar.fit(quantize.scalar.QuantizerParams(quantile=0.99), rows)
    assert whole.step[3] > 1000 * most.step[3]
    codes = quantize.scalar.encode(most, rows, device="cpu")
    assert codes[5, 3] == 127
    bounds = np.stack([np.full(18, -128), np.full(18, 127)])
    given = quantize.scalar.fit(quantize.scalar.QuantizerParams(), ROWS, bounds=bounds)
    assert_same(given.step, np.ones(18, np.float32))
    want = np.clip(np.rint(ROWS), -128, 127).astype(np.int8)
    assert_same(quantize.scalar.encode(given, ROWS, device="cpu"), want)


def test_what_it_says():
    made = fit_pq(rotation="random")
    assert repr(made) == "quantize.pq.Quantizer(dim 18, pq_dim 6, pq_len 3, pq_bits 8, turned)"
    plain = quantize.scalar.fit(quantize.scalar.QuantizerParams(), ROWS)
    assert repr(plain) == "quantize.scalar.Quantizer(dim 18, int8)"


ERRORS = {
    "pq dim": (
        lambda: quantize.pq.encode(fit_pq(), OTHERS[:, :5]),
        r"quantize.pq.encode: dataset must have shape \(n, 18\), got \(200, 5\)",
    ),
    "pq codes": (
        lambda: quantize.pq.decode(fit_pq(), np.zeros((2, 5), np.uint8)),
        r"quantize.pq.decode: codes must have shape \(n, 6\), got \(2, 5\)",
    ),
    "pq codes' dtype": (
        lambda: quantize.pq.decode(fit_pq(), np.zeros((2, 6), np.int32)),
        "quantize.pq.decode: codes must be uint8, got int32",
    ),
    "pq quantizer": (
        lambda: quantize.pq.encode(ivf_pq.IndexParams(), OTHERS),
        "quantize.pq.encode: quantizer must be pq.Quantizer, got ivf_pq.IndexParams",
    ),
    "pq_dim": (
        lambda: fit_pq(pq_dim=19),
        "quantize.pq.fit: pq_dim must be at most dim, 18, got 19",
    ),
    "quantile": (
        lambda: quantize.scalar.QuantizerParams(quantile=0),
        "quantize.scalar.QuantizerParams: quantile must be",
    ),
    "rotation": (
        lambda: quantize.pq.QuantizerParams(rotation="pca"),
        "quantize.pq.QuantizerParams: rotation must be one of none, random, opq, got 'pca'",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, words = ERRORS[name]
    with pytest.raises((ValueError, TypeError), match=words):
        call()
