"""Every injected fault is caught, and every entry has at least three of them."""

from collections import Counter

import emulated
import mutants
import pytest
from emu import Fibers, KernelFault
from engines import needs_fibers
from test_cuda_ops import check

from gpuann.cuda import source, variants

IDS = [f"{m.entry}: {m.old.strip()[:50]!r}" for m in mutants.MUTANTS]


def mutated(monkeypatch, mutant):
    """Let every variant of the operation be compiled from the faulty text."""
    whole = source.spliced
    text = whole(mutant.op)
    assert text.count(mutant.old) >= 1, "the fault's place is gone from the kernel"
    faulty = text.replace(mutant.old, mutant.new)
    monkeypatch.setattr(source, "spliced", lambda op: faulty if op == mutant.op else whole(op))


@pytest.fixture(autouse=True)
def fresh_sources():
    """No variant of a faulty text is left behind."""
    source.source.cache_clear()
    yield
    source.source.cache_clear()


@needs_fibers
@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=IDS)
def test_is_caught(monkeypatch, mutant):
    mutated(monkeypatch, mutant)
    for schedule in ("in order", "reverse", "random"):
        device = emulated.EmulatedDevice(Fibers(True, schedule, time_limit=2))
        with emulated.stands_in(device):
            try:
                check(device, mutant.case)
            except (KernelFault, AssertionError):
                return
    pytest.fail("no schedule showed the fault")


def test_every_entry_has_three():
    faults = Counter(mutant.entry for mutant in mutants.MUTANTS)
    for variant in variants.table():
        for entry in variant.entries:
            assert faults[entry] >= 3, entry
