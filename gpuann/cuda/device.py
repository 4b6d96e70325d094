"""A CUDA device through CuPy: the only file that drives it, with `capture.py`.

CuPy gives arrays, elementwise code (which it compiles itself), streams and module loading; our
kernels are compiled by `compile.py`. No cuBLAS and the like: the wheel without extras will do.
"""

import functools
import threading
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any

import numpy as np

from gpuann.cuda import compile
from gpuann.cuda.capture import Recorder
from gpuann.cuda.launch import Limits
from gpuann.cuda.source import Source
from gpuann.errors import BackendError

STATIC_SHARED = 4096  # bytes that a kernel with dynamic shared memory has beside it, at most
_UNASKED = 48 * 1024 - STATIC_SHARED  # dynamic shared memory beyond this must be asked for


class CupyDevice(Recorder):
    """Device `number` of this process. `cupy` is the module, or a stand-in for it in tests."""

    def __init__(self, number: int, cupy: ModuleType) -> None:
        super().__init__(number, cupy)
        about = self._device.attributes
        self.limits = Limits(
            capability=int(self._device.compute_capability),
            n_sms=int(about["MultiProcessorCount"]),
            shared_bytes=int(about["MaxSharedMemoryPerBlockOptin"]) - STATIC_SHARED,
        )
        self._arch = compile.arch_of(self.limits.capability)
        self._functions: dict[tuple[Source, str], Any] = {}
        self._asked: set[tuple[Source, str]] = set()  # functions that may have all shared memory
        self._loading = threading.Lock()

    def active(self) -> AbstractContextManager[Any]:
        """See `launch.Device`."""
        return self._device

    def stream(self) -> AbstractContextManager[Any]:
        """See `launch.Device`. It does not wait for the default stream."""
        with self._device:
            return self.xp.cuda.Stream(non_blocking=True)

    def address(self, array: Any) -> int:
        """See `launch.Device`. An array of another device is refused."""
        if array.device.id != self.number:
            raise ValueError(f"array on cuda:{array.device.id} given to cuda:{self.number}")
        return int(array.data.ptr)

    def run(
        self, source: Source, entry: str, grid: tuple[int, int, int], packed: Any, shared: int
    ) -> None:
        """See `launch.Device`. The struct goes by value, as one array of size 1."""
        function = self._function(source, entry)
        with self._device:
            if shared > _UNASKED and (source, entry) not in self._asked:
                driver = self.xp.cuda.driver
                attribute = driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                driver.funcSetAttribute(function.ptr, attribute, self.limits.shared_bytes)
                self._asked.add((source, entry))
            function(grid, (source.block, 1, 1), (packed,), shared_mem=shared)

    def synchronize(self) -> None:
        """See `launch.Device`."""
        self.xp.cuda.get_current_stream().synchronize()

    def pinned(self, n_bytes: int) -> Any:
        """See `launch.Device`."""
        with self._device:
            memory = self.xp.cuda.alloc_pinned_memory(n_bytes)
        return np.frombuffer(memory, np.uint8, n_bytes)

    def mapped(self, host: Any) -> Any:
        """See `launch.Device`."""
        cuda, at, more = self.xp.cuda, host.ctypes.data, host.nbytes - 1
        with self._device:
            first, last = map(cuda.runtime.pointerGetAttributes, (at, at + more))
            whole = last.devicePointer - first.devicePointer == more and host.flags.c_contiguous
            if not (whole and first.type == last.type == cuda.runtime.memoryTypeHost):
                return None
            memory = cuda.UnownedMemory(first.devicePointer, more + 1, host, self.number)
            return self.xp.ndarray(host.shape, host.dtype, cuda.MemoryPointer(memory, 0))

    def upload(self, host: Any) -> Any:
        """See `launch.Device`."""
        with self._device:
            made = self.xp.empty(host.shape, host.dtype)
            made.set(host, self.xp.cuda.get_current_stream())
        return made

    def _function(self, source: Source, entry: str) -> Any:
        """The entry, compiled and loaded at its first use; one module serves all its entries."""
        found = self._functions.get((source, entry))
        if found is None:
            with self._loading, self._device:
                self._load(source)
            found = self._functions[source, entry]
        return found

    def _load(self, source: Source) -> None:
        module = self.xp.cuda.function.Module()
        module.load(compile.cubin(source.text, self._arch))
        for entry in source.entries:
            self._functions[source, entry] = module.get_function(source.symbol(entry))


@functools.cache
def why_not() -> str | None:
    """What is missing for CUDA on this machine, or None."""
    try:
        import cupy
    except ImportError:
        return "no CuPy (pip install 'gpuann[cuda13]' or 'gpuann[cuda12]')"
    if not cupy.cuda.is_available():
        return "no CUDA device"
    try:
        compile.arch_of(int(cupy.cuda.Device(0).compute_capability))
    except BackendError as error:
        return str(error)
    return None


def to_host(data: Any) -> Any:
    """Any array on a CUDA device, of whichever library -> NumPy array."""
    import cupy

    by_interface = hasattr(data, "__cuda_array_interface__")
    return (cupy.asarray(data) if by_interface else cupy.from_dlpack(data)).get()


def open_device(number: int) -> CupyDevice:
    """Device `number`; `why_not` said that there is one."""
    import cupy

    return CupyDevice(number, cupy)
