"""Launching kernels: what a device is, and the checks that every launch goes through.

A `Device` is CuPy's (`device.py`) or the emulated one of the tests. Code above it, planning
included, is the same for both.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from gpuann.cuda.source import Source, pack
from gpuann.errors import BackendError, bad_value, message

MAX_GRID = (2**31 - 1, 65535, 65535)


class Limits(NamedTuple):
    """What a plan depends on."""

    capability: int
    """10 * major + minor: 90 for sm_90."""
    n_sms: int
    """Multiprocessors."""
    shared_bytes: int
    """Dynamic shared memory that one block may have."""

    def most_results(self, beside: int = 0) -> int:
        """Results of one query that a block can select, with `beside` bytes of shared memory for
        other things: a power of two, 24 bytes each.
        """
        return 1 << (max(1, (self.shared_bytes - beside) // 24).bit_length() - 1)


class Device(Protocol):
    """A GPU, or what stands for one."""

    number: int
    limits: Limits
    xp: ModuleType
    """The array module: above this seam only elementwise code uses it."""

    def active(self) -> AbstractContextManager[Any]:
        """While it lasts, new arrays and launches are on this device."""
        ...

    def stream(self) -> AbstractContextManager[Any]:
        """A new stream; while it is entered, work of this thread goes there."""
        ...

    def address(self, array: Any) -> int:
        """Where the array's first element lies."""
        ...

    def run(
        self, source: Source, entry: str, grid: tuple[int, int, int], packed: Any, shared: int
    ) -> None:
        """Put one launch on the current stream."""
        ...

    def synchronize(self) -> None:
        """Wait for the current stream; raise what its kernels did wrong."""
        ...

    def scratch(self, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
        """Uninitialised memory for the operation under way; see `Workspace`."""
        ...

    def pinned(self, n_bytes: int) -> Any:
        """Host memory (n_bytes,) uint8 that the device can copy from by itself."""
        ...

    def mapped(self, host: Any) -> Any:
        """A host array as the device sees it by itself, not copied; None unless all of it is
        page-locked.
        """
        ...

    def upload(self, host: Any) -> Any:
        """A host array on the device, copied on the current stream: pinned memory may not be
        changed before the stream has been waited for.
        """
        ...

    def record(self, work: Callable[[Any], Any], shape: tuple[int, ...], dtype: Any) -> Any:
        """The launches of work(x), which waits for nothing, x (shape) -> `graph.Recording`.

        work is run twice: once as it is, which compiles and allocates what it needs, and once to be
        recorded. x and all that it makes, scratch too, are in memory of their own, which the
        recording holds; arrays that it finds must outlive the recording.
        """
        ...

    def is_captured(self) -> bool:
        """Whether what goes to the current stream is being recorded by someone, not run."""
        ...


class Arguments(NamedTuple):
    """The struct of one operation, packed once for all of its launches."""

    device: Device
    source: Source
    packed: Any
    held: Any
    """The arrays, which must live until the last launch is on the stream."""


def arguments(device: Device, source: Source, **values: Any) -> Arguments:
    """Every member of the kernel's argument struct, by name; types and layout are checked."""
    return Arguments(device, source, pack(source, device.address, values), values)


def launch(to: Arguments, entry: str, grid: tuple[int, ...], shared: int = 0) -> None:
    """Launch one entry with blocks of the variant's size; `shared` bytes of dynamic memory.

    An empty grid is an error: CuPy would make one block of it. With GPUANN_SYNC=1 the launch is
    waited for, so that a fault is reported by the kernel that made it.
    """
    device, source = to.device, to.source
    x, y, z = (*grid, 1, 1)[:3]
    for size, most in zip((x, y, z), MAX_GRID, strict=True):
        if not 1 <= size <= most:
            raise bad_value(entry, "grid", f"have between 1 and {most} blocks an axis", grid)
    if shared > device.limits.shared_bytes:
        rule = f"need at most {device.limits.shared_bytes} bytes of shared memory here"
        raise BackendError(message(entry, "the block", rule, shared, "ask for fewer results"))
    device.run(source, entry, (x, y, z), to.packed, shared)
    if os.environ.get("GPUANN_SYNC") == "1":
        try:
            device.synchronize()
        except Exception as error:
            where = source.symbol(entry)
            rule = "run without a fault"
            raise BackendError(message(where, f"grid {grid}", rule, error)) from error


class Workspace(threading.local):
    """Memory that operations borrow: grows, is never given back while the thread lives.

    One piece for each name, stream and thread: launches of a stream run in order, so a piece may be
    used again by the next operation; another stream or thread gets its own.
    """

    def __init__(self, allocate: Callable[[int], Any], stream: Callable[[], int]) -> None:
        self._allocate, self._stream = allocate, stream
        self._held: dict[tuple[int, str], Any] = {}

    @contextlib.contextmanager
    def apart(self) -> Iterator[dict[tuple[int, str], Any]]:
        """While it lasts, this thread borrows pieces of its own, which are yielded: whoever keeps
        launches that use them keeps them.
        """
        before, self._held = self._held, {}
        try:
            yield self._held
        finally:
            self._held = before

    def take(self, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
        """(shape) of dtype, uninitialised; the array of the last `take` of this name is void."""
        n_bytes = dtype.itemsize
        for size in shape:
            n_bytes *= size
        key = (self._stream(), name)
        held = self._held.get(key)
        if held is None or held.size < n_bytes:
            self._held[key] = None  # let the smaller one go first
            held = self._held[key] = self._allocate(max(n_bytes, 256))
        return held[:n_bytes].view(dtype).reshape(shape)
