"""Even lists: the imbalance figure, its warning, and centres that are trained for it."""

import warnings

import models
import numpy as np
import pytest
from compare import assert_same

from gpuann import distributed, ivf_flat, ivf_pq


def skewed(n=6000, dim=8, seed=0):
    """Half of the rows in one tight cluster, the others far apart."""
    rng = np.random.default_rng(seed)
    tight = 0.05 * rng.standard_normal((n // 2, dim))
    spread = 6 * rng.standard_normal((n - n // 2, dim))
    return np.concatenate([tight, spread]).astype(np.float32)


ROWS, EYE = skewed(), np.eye(4, dtype=np.float32)


def build(balanced, device="cpu", rows=ROWS):
    params = ivf_flat.IndexParams(n_lists=24, balanced=balanced)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ivf_flat.build(params, rows, device=device)


def test_the_figure():
    index = build(False)
    sizes = index.list_sizes.astype(float)
    assert index.imbalance == pytest.approx(24 * (sizes**2).sum() / 6000**2)
    even = ivf_flat.build_precomputed(
        ivf_flat.IndexParams(n_lists=4), np.repeat(EYE, 5, axis=0), EYE, device="cpu"
    )
    assert even.imbalance == 1.0


def test_balanced_lists_are_more_even():
    plain, even = build(False), build(True)
    assert plain.imbalance > 3
    assert even.imbalance < 0.35 * plain.imbalance  # measured 1.7 and 6.7
    assert even.list_sizes.max() < 0.5 * plain.list_sizes.max()
    assert_same(build(True).centers, even.centers)
    truth = models.search(models.build("brute_force", ROWS, device="cpu"), ROWS[::50], 10)
    found = models.search(even, ROWS[::50], 10, n_probes=24)
    assert_same(found[1], truth[1])


def test_one_list_that_holds_too_much_is_said():
    with pytest.warns(UserWarning, match=r"ivf_flat.build: list \d+ holds [\d,]+ of 6,000 rows"):
        ivf_flat.build(ivf_flat.IndexParams(n_lists=24), ROWS, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ivf_flat.build(ivf_flat.IndexParams(n_lists=24, balanced=True), ROWS, device="cpu")


def test_few_iterations_and_odd_numbers():
    for n_iters in (1, 2, 3):
        params = ivf_pq.IndexParams(n_lists=5, pq_dim=2, kmeans_n_iters=n_iters, balanced=True)
        assert len(ivf_pq.build(params, ROWS[::7], device="cpu")) == len(ROWS[::7])


def test_parameters():
    with pytest.raises(TypeError, match="balanced must be True or False, got int"):
        ivf_flat.IndexParams(balanced=1)
    params = ivf_flat.IndexParams(n_lists=4, balanced=True)
    sample = distributed.sample_part(ROWS, 500)
    assert distributed.train_local(params, [sample], device="cpu").n_lists == 4
    with pytest.raises(ValueError, match="balanced must be False for sums that travel"):
        distributed.train_distributed(params, [sample])
