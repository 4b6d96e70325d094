"""CUDA graphs: a sequence of launches that was recorded once and is made again by one call.

A search of a few queries is a dozen small launches, and Python between them takes longer than the
device. A graph has the addresses of its arrays in it: rows to work on are copied to where the
recorded work reads them, and results from where it leaves them.
"""

import threading
from collections.abc import Callable
from typing import Any, Protocol

from gpuann.cuda.launch import Device


class Recording(Protocol):
    """Launches of work(x) that a device has recorded, with the memory that they use."""

    given: Any
    """x, to be filled before a replay."""
    found: tuple[Any, ...]
    """What the work returned: arrays that every replay fills anew."""
    n_bytes: int
    """Of memory that is held as long as this is."""

    def wait(self) -> None:
        """Let the current stream wait for the last replay, wherever that was."""
        ...

    def launch(self) -> None:
        """Put a replay on the current stream."""
        ...

    def done(self) -> None:
        """What the current stream has now is what the next `wait` waits for."""
        ...


class Graph:
    """work(x) -> arrays of as many rows as x (n, width), recorded for n rows and replayed for as
    many or less. The device computes all n: what is left over are rows of earlier calls.
    """

    def __init__(
        self,
        device: Device,
        shape: tuple[int, int],
        dtype: Any,
        work: Callable[[Any], tuple[Any, ...]],
    ) -> None:
        self._recorded: Recording = device.record(work, shape, dtype)
        self._replaying = threading.Lock()

    @property
    def n_bytes(self) -> int:
        """Of device memory that it holds."""
        return self._recorded.n_bytes

    def replay(self, x: Any) -> tuple[Any, ...]:
        """work(x) on the current stream, x on the device -> fresh arrays; nothing waits.

        Streams and threads take turns: there is one place for the rows and one for the results.
        """
        recorded, n = self._recorded, len(x)
        with self._replaying:
            recorded.wait()
            recorded.given[:n] = x
            recorded.launch()
            found = tuple(part[:n].copy() for part in recorded.found)
            recorded.done()
        return found
