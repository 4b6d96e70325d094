"""What a CuPy device lends to operations, and how it records them: graphs own what they borrow."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from gpuann.cuda.launch import Workspace


class Recorder:
    """The part of `CupyDevice` that has to do with it."""

    def __init__(self, number: int, cupy: ModuleType) -> None:
        self.number, self.xp = number, cupy
        self._device = cupy.cuda.Device(number)
        self._workspace = Workspace(
            lambda n_bytes: cupy.empty(n_bytes, cupy.uint8),
            lambda: int(cupy.cuda.get_current_stream().ptr),
        )

    def scratch(self, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
        """See `launch.Device`."""
        return self._workspace.take(name, shape, np.dtype(dtype))

    def is_captured(self) -> bool:
        """See `launch.Device`."""
        return bool(self.xp.cuda.get_current_stream().is_capturing())

    def record(
        self, work: Callable[[Any], tuple[Any, ...]], shape: tuple[int, ...], dtype: Any
    ) -> "CupyRecording":
        """See `launch.Device`.

        On a stream of its own, since the default one cannot be captured; it starts behind the
        current one. Its memory pool is its own too, and given back, as a whole, by cudaFree, which
        waits for the device: the common pool would lend to others what the graph goes on writing.
        """
        cuda = self.xp.cuda
        with self._device:
            before = cuda.get_current_stream().record()
            pool, stream = cuda.MemoryPool(), cuda.Stream(non_blocking=True)
            with cuda.using_allocator(pool.malloc), stream, self._workspace.apart() as scratch:
                stream.wait_event(before)
                given = self.xp.zeros(shape, dtype)
                work(given)  # loads the kernels and fills the pool
                stream.begin_capture()
                try:
                    found = work(given)
                finally:
                    graph = stream.end_capture()
                done = stream.record()
        return CupyRecording(cuda, given, found, graph, done, pool, scratch)


class CupyRecording:
    """See `graph.Recording`; the device is current."""

    def __init__(
        self,
        cuda: Any,
        given: Any,
        found: tuple[Any, ...],
        graph: Any,
        done: Any,
        pool: Any,
        scratch: Any,
    ) -> None:
        self.given, self.found, self.n_bytes = given, found, int(pool.total_bytes())
        self._cuda, self._graph, self._done = cuda, graph, done
        self._held = pool, scratch

    def wait(self) -> None:
        """See `graph.Recording`."""
        self._cuda.get_current_stream().wait_event(self._done)

    def launch(self) -> None:
        """See `graph.Recording`."""
        self._graph.launch(self._cuda.get_current_stream())

    def done(self) -> None:
        """See `graph.Recording`."""
        self._cuda.get_current_stream().record(self._done)
