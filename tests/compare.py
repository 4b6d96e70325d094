"""Comparators: tolerances by keyword only, NaN refused first; `test_compare` makes each fail."""

import numpy as np


def assert_same(got, want):
    """Equal to the last bit (but -0.0 equals 0.0), shape and dtype included."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"shape {got.shape} instead of {want.shape}"
    assert got.dtype == want.dtype, f"dtype {got.dtype} instead of {want.dtype}"
    _refuse_nan(got)
    wrong = got != want
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise AssertionError(
            f"{wrong.sum()} of {wrong.size} differ, first at {first}: "
            f"{got[first]} instead of {want[first]}"
        )


def assert_same_knn(got, want):
    """Two results (dists, ids) equal to the last bit."""
    assert_same(got[1], want[1])
    assert_same(got[0], want[0])


def assert_close(got, want, *, rtol, atol):
    """Within rtol of `want` or atol, infinities alike."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape, f"shape {got.shape} instead of {want.shape}"
    _refuse_nan(got)
    assert (np.isinf(got) == np.isinf(want)).all(), "infinities differ"
    finite = ~np.isinf(want)
    assert (got[~finite] == want[~finite]).all(), "signs of infinities differ"
    error = np.abs(got[finite] - want[finite]) - (atol + rtol * np.abs(want[finite]))
    assert (error <= 0).all(), f"off by up to {error.max():.3g} beyond the tolerance"


def assert_knn(got, want, *, rtol, atol):
    """A result against float64 truth: distances close, and ids equal but among near ties.

    want holds one column more than got, if there is one, so that ties at the end are seen.
    """
    dists, ids = got
    want_dists, want_ids = (np.asarray(a) for a in want)
    k = dists.shape[1]
    assert_close(dists, want_dists[:, :k], rtol=rtol, atol=atol)
    assert ((ids < 0) == np.isinf(dists)).all(), "padding is not (inf, -1)"
    for q in range(len(ids)):
        names = ids[q][ids[q] >= 0]
        assert len(set(names.tolist())) == len(names), f"query {q}: an id twice"
        for place, (i, d) in enumerate(zip(ids[q], dists[q], strict=True)):
            if i == want_ids[q, place]:
                continue
            near = np.abs(want_dists[q] - d) <= 2 * (atol + rtol * abs(d))
            assert i in want_ids[q][near], f"query {q}, place {place}: id {i} at {d}"


def recall(ids, truth):
    """Share of the true ids (Q, k) that were found, by set, -1 never counts."""
    found = (truth[:, :, None] == ids[:, None, :]) & (truth[:, :, None] >= 0)
    return float(found.any(axis=2).sum() / (truth >= 0).sum())


def _refuse_nan(got):
    if got.dtype.kind == "f":
        assert not np.isnan(got).any(), "NaN (on an emulated device: memory that nothing wrote)"
