"""What users of FAISS try on an index is refused, and the message says what there is instead."""

import copy

import numpy as np
import pytest

from gpuann import brute_force, filters, ivf_flat, refined

ROWS = np.random.default_rng(0).random((60, 8), np.float32)
PLAIN = ivf_flat.build(ivf_flat.IndexParams(n_lists=4), ROWS, device="cpu")
INDEXES = [PLAIN, brute_force.build(ROWS, device="cpu"), refined.build(PLAIN, ROWS)]


@pytest.mark.parametrize("index", INDEXES, ids=lambda i: type(i).__module__)
def test_methods_of_faiss(index):
    module = type(index).__module__.rpartition(".")[2]
    for name, ours in (("add_with_ids", "extend"), ("remove_ids", "delete"), ("search", "search")):
        words = f"{module}.Index: attribute must .*got {name}; {module}.{ours} is a function"
        with pytest.raises(AttributeError, match=words):
            getattr(index, name)
    with pytest.raises(AttributeError, match=r"got ntotal; it is len\(index\)"):
        index.ntotal  # noqa: B018
    assert not hasattr(index, "nobody_has_this")


@pytest.mark.parametrize("index", INDEXES, ids=lambda i: type(i).__module__)
def test_nothing_can_be_set_on_an_index(index):
    for name in ("nprobe", "core"):
        with pytest.raises(AttributeError):
            setattr(index, name, 8)


def test_a_number_of_probes_that_is_set_is_not_lost_in_silence():
    words = r"attribute must stay as it is, got nprobe; every search has its own: SearchParams\("
    with pytest.raises(AttributeError, match=words):
        PLAIN.nprobe = 8


def test_an_index_can_be_copied():
    probes = ivf_flat.SearchParams(n_probes=4)
    want = ivf_flat.search(probes, PLAIN, ROWS[:3], 2)[1]
    assert (ivf_flat.search(probes, copy.copy(PLAIN), ROWS[:3], 2)[1] == want).all()


def test_a_selector_of_faiss_is_no_filter():
    class IDSelectorRange:
        pass

    with pytest.raises(TypeError, match=r"got IDSelectorRange; make one of .* gpuann\.filters"):
        filters.given("ivf_flat.search", "filter", IDSelectorRange())
