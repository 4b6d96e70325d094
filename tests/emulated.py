"""A CUDA device without a GPU: strict arrays, and kernels run by one of the engines.

    EmulatedDevice(Fibers(checked=True))   the .cu text, compiled for the CPU, checked (emu/)
    EmulatedDevice(Fibers(checked=False))  the same, fast
    EmulatedDevice(Interpreter())          the PTX that NVRTC made of it (ptx/)
    EmulatedDevice(Nothing())              launches are recorded, not run

All host code of the CUDA backend runs unchanged on it; only `gpuann/cuda/device.py` does not.
"""

import contextlib
import threading
from typing import NamedTuple

import numpy as np
from device_arrays import POISON, ArrayModule, DeviceArray, Memory
from emu import Buffer

from gpuann.cuda import devices
from gpuann.cuda.launch import Limits

H200 = Limits(capability=90, n_sms=132, shared_bytes=228_352)
RTX = Limits(capability=120, n_sms=84, shared_bytes=97_280)
SMALL = Limits(capability=80, n_sms=4, shared_bytes=162_816)


class Launch(NamedTuple):
    """One launch as it was asked for."""

    op: str
    variant: str
    entry: str
    grid: tuple[int, int, int]
    block: int
    shared: int


class Nothing:
    """An engine that runs nothing: host code does not depend on what kernels compute."""

    def launch(self, *_):
        pass


class EmulatedDevice:
    """Stands for device `number`; see `gpuann.cuda.launch.Device`."""

    def __init__(self, engine, limits=SMALL, number=0):
        self.engine, self.limits, self.number = engine, limits, number
        self.xp = ArrayModule(self)
        self.launches = []
        self.borrowed = {}
        self.waits = 0  # how often the host waited for the device
        self.made = 0  # arrays made by the array module
        self.streams = 0  # how many were asked for
        self.pinned_bytes = 0  # in all
        self.page_locked = []  # host arrays that the device reads by itself
        self.watched = False  # whether array work outside `active` is a mistake
        self._depth = 0
        self.fault = None  # raised by the next synchronize
        self.replays = 0  # of recordings
        self.nodes = 0  # of the last one: launches of ours, and work of the array module
        self._memory = Memory()
        self._held = {}
        self._recording = threading.local()

    @property
    def id(self):
        """As CuPy's Device has it."""
        return self.number

    @contextlib.contextmanager
    def active(self):
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    def stream(self):
        self.streams += 1
        return contextlib.nullcontext()

    def must_be_active(self):
        """With a second GPU, array work here would be on whichever is current."""
        assert self._depth or not self.watched, "array work outside Backend.active()"

    def address(self, array):
        assert isinstance(array, DeviceArray)
        assert array.device is self, "an array of another device"
        return array.host.ctypes.data

    def run(self, source, entry, grid, packed, shared):
        self.launches.append(Launch(source.op, source.variant, entry, grid, source.block, shared))

        def launch():
            buffers = [
                Buffer(a.address, a.n_bytes, f"array {a.host.dtype}{list(a.host.shape)}")
                for a in self._memory.live()
            ]
            self.engine.launch(
                source.text,
                source.symbol(entry),
                grid,
                (source.block, 1, 1),
                packed.tobytes(),
                shared,
                buffers,
            )

        self.does(launch)

    def does(self, work):
        """Work of the device: done, and recorded if it is being recorded."""
        if self.is_captured():
            self._recording.now.steps.append(work)
        return work()

    def is_captured(self):
        return getattr(self._recording, "now", None) is not None

    def record(self, work, shape, dtype):
        """The work is done while it is recorded; whatever it left is gone before a replay."""
        with self.active():
            given = self.xp.zeros(shape, dtype)
            work(given)
            recording = self._recording.now = Recording(self, given)
            try:
                recording.found = work(given)
            finally:
                self._recording.now = None
        self.nodes = len(recording.steps)
        return recording

    def wait(self):
        """The host waits for the device."""
        if self.is_captured():
            raise RuntimeError("operation not permitted when stream is capturing")
        self.waits += 1

    def synchronize(self):
        self.wait()
        if self.fault:
            raise self.fault

    def scratch(self, name, shape, dtype):
        """Fresh and of the very size each time, so that the checker sees where it ends."""
        made = self.empty(shape, dtype)
        self.borrowed[name] = made  # of whichever thread came last
        self._held[threading.get_ident(), name] = made  # as a workspace does
        return made

    def pinned(self, n_bytes):
        self.pinned_bytes += n_bytes
        return np.empty(n_bytes, np.uint8)

    def mapped(self, host):
        """Arrays that a test calls page-locked; nothing is copied."""
        if not any(host is locked for locked in self.page_locked):
            return None
        memory = self.empty(host.shape, host.dtype).memory  # where kernels may read
        memory.host[...] = host
        return DeviceArray(memory.host, memory, self)

    def upload(self, host):
        self.must_be_active()
        return self.array(host)

    def empty(self, shape, dtype):
        memory = self._memory.allocate(shape, dtype)
        if self.is_captured():
            self._recording.now.memory.append(memory)
        return DeviceArray(memory.host, memory, self)

    def array(self, host):
        """A copy of a host array, which a recording would make of memory that is gone."""
        if self.is_captured():
            raise RuntimeError("host memory may not be read when stream is capturing")
        return self.computed(lambda: host)

    def computed(self, make):
        """An array of what the device computes: make() -> host array or scalar."""
        self.made += 1
        like = np.asarray(make())
        made = self.empty(like.shape, like.dtype)
        made.host[...] = like
        if self.is_captured():
            self._recording.now.steps.append(lambda: made.host.__setitem__(..., make()))
        return made


class Recording:
    """Work that can be done again, see `gpuann.cuda.graph.Recording`; it holds its memory."""

    def __init__(self, device, given):
        self.given, self.found = given, None
        self.steps, self.memory = [], [given.memory]
        self._used = False  # since the last `done`: the device works in order, so none is needed
        self._device = device

    @property
    def n_bytes(self):
        return sum(memory.n_bytes for memory in self.memory)

    def wait(self):
        assert not self._used, "done() was left out"

    def launch(self):
        """Nothing that the recording or the last replay left may be of use."""
        self._used = True
        self._device.replays += 1
        for memory in self.memory[1:]:
            memory.bytes[:] = POISON
        for step in self.steps:
            step()

    def done(self):
        self._used = False


@contextlib.contextmanager
def stands_in(device):
    """While it lasts, "cuda" (device 0) is `device`."""
    devices.put(device.number, device)
    try:
        yield device
    finally:
        devices.put(device.number, None)


def to_device(device, value):
    """Host arrays, also inside named tuples, to any device; everything else as it is."""
    if isinstance(value, np.ndarray):
        return device.xp.asarray(value)
    if isinstance(value, tuple):
        return type(value)(*(to_device(device, v) for v in value))
    return value


def to_host(value):
    """Device arrays, also inside tuples, to the host; looking at an emulated one is no waiting."""
    if isinstance(value, DeviceArray):
        return value.host.copy()
    if hasattr(value, "__cuda_array_interface__"):
        return value.get()
    if isinstance(value, tuple):
        return tuple(to_host(v) for v in value)
    return value
