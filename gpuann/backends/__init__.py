"""The only place that chooses a backend."""

import contextlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from gpuann.arrays import on_cuda
from gpuann.backends import cuda_ops, numpy_ops
from gpuann.backends.cuda_ops._halves import half_words, with_halves
from gpuann.backends.cuda_ops._sizes import ROWS
from gpuann.backends.numpy_ops import _threads
from gpuann.backends.seam import Array, FlatPayload, Lists, Ops, Payload
from gpuann.cuda import devices
from gpuann.cuda.launch import Device
from gpuann.errors import BackendError, bad_value, message

P = TypeVar("P", bound=Payload)
Result = TypeVar("Result")

# mean (query, probe) pairs a list under which look-up tables are taken: measured on two CPU cores;
# for CUDA a guess, no GPU has measured it yet
_CPU_LUT_PAIRS, _CUDA_LUT_PAIRS = 0.1, 2.0
_CPU_FLOATS = 1 << 17  # components that a step of `over_rows` takes: half a MiB of float32
# what scans hold, a query and a result. CPU: the minima of pass 1; survivors before and after
# sorting, four a result. CUDA: places for 1024 survivors or 4 a result, row and score, twice.
_CPU_BYTES = 16384, 240
_CUDA_BYTES = 24 * 1024 + 512, 4 * 24 + 48


@dataclass(frozen=True)
class Backend:
    """A device with its operations, and what the code above the seam needs beside them."""

    device: str
    """Its name: "cpu" or "cuda:N"."""
    reason: str
    """Why this device: what the demo prints."""
    ops: Ops
    xp: ModuleType
    """The array module, numpy or cupy; above the seam only elementwise code uses it."""
    lut_pairs_per_list: float
    """Mean (query, probe) pairs a list under which `scan_lut` is faster than `scan_lists`."""
    rows_at_once: int
    """Rows that a step of rearranging takes: those that a CPU's cache holds, or all."""

    bytes_per_query: int
    """That a scan holds for each query of a batch ..."""
    bytes_per_result: int
    """... and for each of its k results."""
    cuda: Device | None = None
    """The device, where it is one of CUDA's."""

    def put(self, array: Any) -> Array:
        """Host or device array -> array on the device."""
        if on_cuda(array) and not hasattr(array, "__cuda_array_interface__"):
            return self.xp.from_dlpack(array)
        return self.xp.asarray(array)

    def get(self, array: Array) -> npt.NDArray[Any]:
        """Array on the device -> host array; waits for it."""
        return array if self.cuda is None else cast("Any", array).get()

    def active(self) -> AbstractContextManager[Any]:
        """While it lasts, arrays are made on this device."""
        return contextlib.nullcontext() if self.cuda is None else self.cuda.active()

    def stream(self) -> AbstractContextManager[Any]:
        """A stream of its own, to be entered by one thread."""
        return contextlib.nullcontext() if self.cuda is None else self.cuda.stream()

    def staging(self, n_bytes: int) -> npt.NDArray[np.uint8]:
        """Host memory (n_bytes,) uint8 to fill and to `upload` from."""
        return np.empty(n_bytes, np.uint8) if self.cuda is None else self.cuda.pinned(n_bytes)

    def upload(self, host: npt.NDArray[Any]) -> Array:
        """A piece of `staging` on the device; on the CPU that piece itself. It may be filled anew
        once the device has been waited for and the array is no longer needed.
        """
        return host if self.cuda is None else self.cuda.upload(host)

    def mapped(self, host: npt.NDArray[Any]) -> Array | None:
        """A page-locked host array as the device reads it where it is, else None."""
        return None if self.cuda is None else cast("Array | None", self.cuda.mapped(host))

    def prepared(self, payload: P, lists: Lists) -> P:
        """A payload of an index that will be searched: on CUDA rows stored whole as float32 or
        float16 come as scaled float16 too, 2 bytes a component more, which are part of the index.
        """
        if self.cuda is None or not isinstance(payload, FlatPayload):
            return payload
        if payload.vectors.dtype.kind != "f":
            return payload
        return cast("P", with_halves(self.xp, payload, lists))

    def over_rows(self, work: Callable[[slice], Result], n_rows: int, dim: int) -> list[Result]:
        """work(part) for slices that make up n_rows rows of dim components, in order: on the CPU
        pieces that its cache holds, shared out to the threads; on a device one, of all rows.
        `work` is array code and calls no operation.
        """
        if self.cuda is not None:
            return [work(slice(0, n_rows))]
        step = max(1, _CPU_FLOATS // dim)
        parts = [slice(at, min(at + step, n_rows)) for at in range(0, max(1, n_rows), step)]
        return _threads.run(work, parts)

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.cuda is not None:
            self.cuda.synchronize()

    def holds(self, data: Any) -> bool:
        """Whether `data` lies on a CUDA device and this backend can take it as it is."""
        return self.cuda is not None and on_cuda(data)


def halves_bytes(n_rows: int, dim: int) -> int:
    """Of `FlatPayload.halves` of n_rows rows: what `Backend.prepared` adds on CUDA."""
    return 4 * (n_rows + ROWS - 1) * half_words(dim)


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
        missing = devices.why_not()
        device, reason = ("cpu", missing) if missing else ("cuda", "a CUDA device was found")
    if device == "cpu":
        return Backend("cpu", reason, numpy_ops, np, _CPU_LUT_PAIRS, 512, *_CPU_BYTES)
    kind, _, number = device.partition(":") if isinstance(device, str) else ("", "", "")
    if kind != "cuda" or not (number.isdecimal() or device == "cuda"):
        raise bad_value(where, "device", 'be "cpu", "cuda" or "cuda:N"', repr(device))
    missing = devices.why_not()
    if missing:
        rule = "have CuPy and a CUDA device"
        way_out = 'use device="cpu"'
        raise BackendError(message(where, f'device "{device}"', rule, missing, way_out))
    cuda = devices.get(int(number or 0))
    name = f"cuda:{cuda.number}"
    tuning = _CUDA_LUT_PAIRS, 1 << 30, *_CUDA_BYTES
    return Backend(name, reason, cuda_ops, cuda.xp, *tuning, cuda)
