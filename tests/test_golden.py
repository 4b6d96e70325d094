"""What a GPU made of the wrappers in ptx.cuh, recorded by `bench.golden`, against both emulators.

There is no record yet: no GPU was at hand. The comparison is tried on what the emulators make.
"""

from pathlib import Path

import emulated
import numpy as np
import pytest
from compare import assert_same
from emu import Fibers
from engines import needs_fibers, needs_gpu, needs_ptx
from ptx import Interpreter

from bench import golden
from gpuann.cuda import devices

FILES = sorted(Path(__file__).parent.glob("golden/*.npz"))
ENGINES = [
    pytest.param(lambda: Fibers(checked=True), marks=needs_fibers, id="fibers"),
    pytest.param(Interpreter, marks=needs_ptx, id="ptx"),
]


def exact(given):
    """d and what its terms come to in modulus, in float64."""
    a, b, c = (given[name].astype(np.float64) for name in ("a", "b", "c"))
    b = b.transpose(0, 2, 1)
    return c + a @ b, np.abs(c) + np.abs(a) @ np.abs(b)


def assert_product(given, found):
    """Within the error that the kernels allow for: 2^-22 for each of 17 sums."""
    want, size = exact(given)
    assert not np.isnan(found["d"]).any()
    assert (np.abs(found["d"] - want) <= 17 * 2.0**-22 * size).all()
    whole = np.arange(len(want)) % 5 == 0
    assert_same(found["d"][whole], want[whole].astype(np.float32))
    assert_same(found["copied"].view(np.float16).reshape(given["a"].shape), given["a"])


@pytest.mark.parametrize("engine", ENGINES)
def test_the_emulators_keep_to_the_bound(engine):
    given = golden.inputs()
    device = emulated.EmulatedDevice(engine())
    with emulated.stands_in(device):
        assert_product(given, golden.record(device, given))


def test_records_are_of_these_inputs_and_keep_to_the_bound():
    given = golden.inputs()
    for name, array in golden.inputs().items():
        assert_same(given[name], array)  # by seed
    for file in FILES:
        with np.load(file) as recorded:
            assert_product(given, recorded)
            for name, array in given.items():
                assert_same(recorded[name], array)


def test_what_errs_more_is_noticed():
    given = golden.inputs()
    want, size = exact(given)
    found = {"d": want.astype(np.float32), "copied": given["a"].reshape(-1, 256).view(np.uint32)}
    assert_product(given, found)
    wrong = found | {"d": (want + 2.0**-17 * size).astype(np.float32)}
    with pytest.raises(AssertionError):
        assert_product(given, wrong)
    with pytest.raises(AssertionError):
        assert_product(given, found | {"copied": found["copied"][::-1]})


@needs_gpu
@pytest.mark.gpu
def test_this_gpu():
    given = golden.inputs()
    assert_product(given, golden.record(devices.get(0), given))
