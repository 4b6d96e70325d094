"""Batches one after another: the answers of one search, two on their way at a time."""

import itertools

import emulated
import models
import numpy as np
import pytest
from compare import assert_same_knn
from emu import Fibers
from engines import needs_fibers

import gpuann
from bench.data import clustered
from gpuann import filters, ivf_flat

ROWS, QUERIES = clustered(1200, 12, 90)
CUTS = [0, 1, 40, 41, 41, 90]


def params_of(kind):
    return None if kind == "brute_force" else getattr(gpuann, kind).SearchParams(n_probes=4)


def batches():
    for a, b in itertools.pairwise(CUTS):
        yield QUERIES[a:b]


def joined(found):
    return [np.concatenate(part) for part in zip(*found, strict=True)]


@pytest.mark.parametrize("kind", models.KINDS)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_fibers)])
def test_batches_are_one_search(kind, device):
    with emulated.stands_in(emulated.EmulatedDevice(Fibers(checked=False))) as there:
        there.watched = True
        index = models.build(kind, ROWS, device=device, pq_dim=4)
        search = getattr(gpuann, kind).search_batches
        some = np.arange(1200) % 3 > 0
        name = "prefilter" if kind == "brute_force" else "filter"
        for keep in (None, some):
            want = models.search(index, QUERIES, 7, **{name: keep})
            found = list(search(params_of(kind), index, batches(), 7, filter=keep))
            assert [len(f[1]) for f in found] == [1, 39, 1, 0, 49]
            assert_same_knn(joined(found), want)
            assert all(isinstance(part, np.ndarray) for f in found for part in f)
        if device == "cuda":
            assert there.pinned_bytes > 0
            assert there.streams >= 2


def test_it_reads_two_ahead_and_no_more():
    index, read = models.build("ivf_flat", ROWS, device="cpu"), []

    def counted():
        for i in range(10):
            read.append(i)
            yield QUERIES[i : i + 1]

    found = ivf_flat.search_batches(params_of("ivf_flat"), index, counted(), 3)
    assert not read
    for i in range(10):
        next(found)
        assert len(read) <= i + 2
    assert list(found) == []


def test_it_may_be_left_early():
    index = models.build("ivf_flat", ROWS, device="cpu")
    for _ in ivf_flat.search_batches(params_of("ivf_flat"), index, batches(), 3):
        break
    assert list(ivf_flat.search_batches(params_of("ivf_flat"), index, [], 3)) == []


def test_errors():
    index = models.build("ivf_flat", ROWS, device="cpu")
    asked = params_of("ivf_flat")
    with pytest.raises(TypeError, match="batches must be arrays one after another, got ndarray"):
        ivf_flat.search_batches(asked, index, QUERIES, 3)
    with pytest.raises(TypeError, match="filter must be one set for all batches"):
        each = filters.from_mask(np.ones((90, 1200), bool))
        ivf_flat.search_batches(asked, index, batches(), 3, filter=each)
    bad = [QUERIES, QUERIES[:, :5], QUERIES]
    found = ivf_flat.search_batches(asked, index, bad, 3)
    with pytest.raises(ValueError, match=r"ivf_flat.search_batches: queries must have shape"):
        list(found)
