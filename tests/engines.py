"""Which engines this machine has; a test that lacks its engine is skipped by name."""

import os

import emu
import ptx
import pytest

from gpuann.cuda import compile, device


def _needs(missing, what):
    return pytest.mark.skipif(missing is not None, reason=f"{what}: {missing}")


needs_nvrtc = _needs(compile.why_not(), "NVRTC")
needs_fibers = _needs(emu.why_not(), "the CUDA emulator")
needs_ptx = _needs(ptx.why_not(), "the PTX interpreter")

_no_gpu = device.why_not()


def needs_gpu(test):
    """A real device: its absence is a failure where GPUANN_REQUIRE_GPU=1."""
    if os.environ.get("GPUANN_REQUIRE_GPU") == "1":
        return test
    return _needs(_no_gpu, "a CUDA device")(test)
