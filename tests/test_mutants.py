"""Every injected fault is caught, and every entry has at least three of them."""

import contextlib
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import emulated
import mutants
import pytest
from emu import BuildFault, Fibers, KernelFault, toolchain
from engines import needs_fibers
from test_cuda_ops import answer, check

from gpuann.cuda import source, variants

IDS = [f"{m.entry}: {m.old.strip()[:50]!r}" for m in mutants.MUTANTS]


def mutated(monkeypatch, mutant):
    """Let every variant of the operation be compiled from the faulty text."""
    whole = source.spliced
    text = whole(mutant.op)
    assert text.count(mutant.old) == 1, "the fault must have one place in the kernel"
    faulty = text.replace(mutant.old, mutant.new)
    monkeypatch.setattr(source, "spliced", lambda op: faulty if op == mutant.op else whole(op))


@pytest.fixture(autouse=True)
def fresh_sources():
    """No variant of a faulty text is left behind."""
    source.source.cache_clear()
    yield
    source.source.cache_clear()


class Texts(emulated.Nothing):
    """Runs nothing, and keeps what it was asked to run."""

    def __init__(self):
        self.seen = set()

    def launch(self, text, *_):
        self.seen.add(text)


@pytest.fixture(scope="session")
def compiled(request):
    """The faulty texts that are wanted, compiled on all cores: in turn they take minutes. Not where
    the tests themselves run side by side.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    names = {item.name for item in request.session.items}
    texts = Texts()
    for mutant, name in zip(mutants.MUTANTS, IDS, strict=True):
        if f"test_is_caught[{name}]" in names:
            with pytest.MonkeyPatch.context() as patch:
                mutated(patch, mutant)
                source.source.cache_clear()
                device = emulated.EmulatedDevice(texts)
                with emulated.stands_in(device):
                    answer(device, mutant.case)
    source.source.cache_clear()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(_build, texts.seen))


def _build(text):
    with contextlib.suppress(BuildFault):  # whose test says so
        toolchain.build(text, checked=True)


@needs_fibers
@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=IDS)
def test_is_caught(monkeypatch, mutant):
    mutated(monkeypatch, mutant)
    for schedule in ("in order", "reverse", "random"):
        device = emulated.EmulatedDevice(Fibers(True, schedule, time_limit=2))
        with emulated.stands_in(device):
            try:
                check(device, mutant.case)
            except BuildFault:
                raise  # a text that does not compile proves nothing
            except (KernelFault, AssertionError):
                return
    pytest.fail("no schedule showed the fault")


@needs_fibers
@pytest.mark.parametrize("case", sorted({mutant.case for mutant in mutants.MUTANTS}))
def test_without_a_fault_nothing_is_reported(case):
    device = emulated.EmulatedDevice(Fibers(True, time_limit=2))
    with emulated.stands_in(device):
        check(device, case)


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=IDS)
def test_the_case_reaches_the_entry(mutant):
    device = emulated.EmulatedDevice(emulated.Nothing())
    with emulated.stands_in(device):
        answer(device, mutant.case)
    assert (mutant.op, mutant.entry) in {(launch.op, launch.entry) for launch in device.launches}


def test_every_entry_has_three():
    faults = Counter(mutant.entry for mutant in mutants.MUTANTS)
    for variant in variants.table():
        for entry in variant.entries:
            assert faults[entry] >= 3, entry
