"""The ten operations on the device: every case, by every engine, equals NumPy to the last bit.

checked   the .cu text on the CPU with bounds, races and uninitialised memory watched; three
          orders of blocks and threads
ptx       the PTX that NVRTC makes of it, interpreted
gpu       a real device (marker `gpu`; GPUANN_REQUIRE_GPU=1 makes its absence a failure)
"""

import importlib

import emulated
import numpy as np
import op_cases
import pytest
from compare import assert_close, assert_same
from emu import Fibers
from engines import needs_fibers, needs_gpu, needs_ptx
from ptx import Interpreter

from gpuann.backends import cuda_ops
from gpuann.cuda import devices, variants

ALL = sorted(op_cases.CASES)
CANONICAL = ("assign", "scan_lists", "scan_lut", "refine")
SMALL = [name for name in ALL if op_cases.CASES[name].small]


def answer(device, name, to_host=emulated.to_host):
    """The case's answer by the CUDA backend on `device`, on the host."""
    case = op_cases.CASES[name]
    arguments = {k: emulated.to_device(device, v) for k, v in op_cases.arguments(name).items()}
    with pytest.MonkeyPatch.context() as patch:
        for module, constant, value in case.settings:
            full = f"gpuann.backends.cuda_ops.{module}"
            patch.setattr(importlib.import_module(full), constant, value)
        return to_host(getattr(cuda_ops, case.op)(**arguments))


def check(device, name):
    case = op_cases.CASES[name]
    got = answer(device, name)
    want = op_cases.expected(name)
    both = zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]
    for a, b in both:
        if case.tolerance:
            assert_close(a, b, rtol=case.tolerance[0], atol=case.tolerance[1])
        else:
            assert_same(a, b)
            if case.op in CANONICAL and a.dtype == np.float32:
                assert_same(a.view(np.uint32), b.view(np.uint32))  # 0.0 is not -0.0 here


@needs_fibers
@pytest.mark.parametrize("schedule", ["in order", "reverse", "random"])
@pytest.mark.parametrize("name", ALL)
def test_checked(name, schedule):
    device = emulated.EmulatedDevice(Fibers(checked=True, schedule=schedule))
    with emulated.stands_in(device):
        check(device, name)
    assert device.waits == 0, "an operation waited for the device"


@needs_ptx
@pytest.mark.parametrize("name", SMALL)
def test_ptx(name):
    device = emulated.EmulatedDevice(Interpreter())
    with emulated.stands_in(device):
        check(device, name)


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("name", ALL)
def test_gpu(name):
    check(devices.get(0), name)


def launched(names):
    """(variant, entry) of everything that these cases launch."""
    device = emulated.EmulatedDevice(emulated.Nothing())
    with emulated.stands_in(device):
        for name in names:
            answer(device, name)
    return {(f"{l.op} {l.variant}", l.entry) for l in device.launches}


@pytest.mark.parametrize("names", [ALL, SMALL], ids=["checked", "ptx"])
def test_every_variant_and_entry_is_proven(names):
    shipped = {(f"{s.op} {s.variant}", entry) for s in variants.table() for entry in s.entries}
    assert launched(names) == shipped


def test_every_operation_has_cases():
    assert {case.op for case in op_cases.CASES.values()} == set(cuda_ops.__all__)


def test_a_wrong_answer_is_noticed(monkeypatch):
    """The comparison itself: an engine that does nothing leaves poisoned memory."""
    device = emulated.EmulatedDevice(emulated.Nothing())
    with emulated.stands_in(device), pytest.raises(AssertionError):
        check(device, "assign small")
    assert np.isnan(device.empty((2,), np.float32).host).all()
