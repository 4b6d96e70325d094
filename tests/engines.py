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

# GPUANN_REQUIRE_GPU=1 makes the absence of a device a failure
_required = os.environ.get("GPUANN_REQUIRE_GPU") == "1"
needs_gpu = _needs(None if _required else device.why_not(), "a CUDA device")
