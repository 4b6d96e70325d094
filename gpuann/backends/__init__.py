"""The only place that chooses a backend."""

import importlib.util
import os
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from gpuann.backends import numpy_ops
from gpuann.backends.seam import Array, Ops
from gpuann.errors import BackendError, bad_value, message


@dataclass(frozen=True)
class Backend:
    """A device with its operations, and what the code above the seam needs beside them."""

    device: str
    """Its name: "cpu" or "cuda:N"."""
    reason: str
    """Why this device: what the demo prints."""
    ops: Ops
    xp: ModuleType
    """The array module: numpy here; above the seam only elementwise code uses it."""
    lut_pairs_per_list: float
    """Mean (query, probe) pairs a list under which `scan_lut` is faster than `scan_lists`."""

    def put(self, array: Any) -> Array:
        """Host array -> array on the device."""
        return self.xp.asarray(array)


def choose(where: str, device: str | None = None) -> Backend:
    """The backend for `device`: "cpu", "cuda", "cuda:N", or None for GPUANN_DEVICE, else CUDA if
    there is one, else the CPU.

    Raises BackendError where a device is asked for and cannot be had: never another one instead.
    """
    reason = f'device="{device}" was asked for'
    if device is None:
        device = os.environ.get("GPUANN_DEVICE") or None
        reason = f"GPUANN_DEVICE={device}"
    if device is None:
        missing = _why_no_cuda()
        device, reason = ("cpu", missing) if missing else ("cuda", "a CUDA device was found")
    if device == "cpu":
        return Backend("cpu", reason, numpy_ops, np, lut_pairs_per_list=0.1)
    kind, _, number = device.partition(":") if isinstance(device, str) else ("", "", "")
    if kind != "cuda" or not (number.isdecimal() or device == "cuda"):
        raise bad_value(where, "device", 'be "cpu", "cuda" or "cuda:N"', repr(device))
    raise BackendError(
        message(
            where,
            f'device "{device}"',
            "have CuPy, a CUDA device and gpuann's CUDA backend",
            _why_no_cuda(),
            'use device="cpu"',
        )
    )


def _why_no_cuda() -> str:
    """What is missing for CUDA."""
    if importlib.util.find_spec("cupy") is None:
        return "no CuPy (pip install 'gpuann[cuda13]' or 'gpuann[cuda12]')"
    return "this version of gpuann has no CUDA backend yet"
