"""The engine: launches of kernels, each checked against the limits of a GPU first."""

import ctypes
import functools
import math
import threading
from collections.abc import Sequence

from .faults import Buffer, KernelFault
from .library import EntryRow, LaunchRequest, Library
from .toolchain import build

Size = tuple[int, int, int]

SCHEDULES = ("in order", "reverse", "random")
MAX_THREADS = 1024
MAX_BLOCK = (1024, 1024, 64)
MAX_GRID = (2**31 - 1, 65535, 65535)
MAX_SHARED = 227 * 1024

_libraries: dict[tuple[str, bool], Library] = {}
_loading = threading.Lock()
_launching = threading.Lock()  # signals and stacks belong to the process: one launch at a time


class Fibers:
    """Runs each CUDA thread as a fiber on one CPU thread.

    A checked engine also reports races, accesses out of bounds and the like, with file and line.
    The schedule is the order of blocks and of threads; seed concerns the random one. time_limit is
    in seconds of CPU time for one launch.
    """

    def __init__(
        self, checked: bool, schedule: str = "in order", seed: int = 1, time_limit: int = 60
    ):
        if schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {SCHEDULES}, not {schedule!r}")
        self.checked = checked
        self.schedule = schedule
        self.seed = seed
        self.time_limit = time_limit

    def __repr__(self) -> str:
        mode = "checked" if self.checked else "fast"
        return f"Fibers({mode}, {self.schedule}, seed {self.seed})"

    def launch(
        self,
        text: str,
        entry: str,
        grid: Size,
        block: Size,
        argument: bytes,
        shared: int,
        buffers: Sequence[Buffer],
    ) -> None:
        """Builds the text if need be and runs one of its entries."""
        library = load(text, self.checked)
        if entry not in library.entries:
            raise KernelFault(f"no entry {entry} among {sorted(library.entries)}")
        row = library.entries[entry]
        try:
            check_limits(row, grid, block, argument, shared)
            self._run(library, row, grid, block, argument, shared, buffers)
        except KernelFault as fault:
            raise KernelFault(f"{entry}: {fault}") from None

    def _run(
        self,
        library: Library,
        row: EntryRow,
        grid: Size,
        block: Size,
        argument: bytes,
        shared: int,
        buffers: Sequence[Buffer],
    ) -> None:
        spans = (ctypes.c_long * (2 * len(buffers)))()
        spans[0::2] = [buffer.address for buffer in buffers]
        spans[1::2] = [buffer.nbytes for buffer in buffers]
        request = LaunchRequest(
            call=row.call,
            argument=argument,
            grid=grid,
            block=block,
            shared_bytes=shared,
            schedule=SCHEDULES.index(self.schedule),
            seed=self.seed,
            time_limit=self.time_limit,
            buffers=ctypes.addressof(spans),
            buffer_count=len(buffers),
        )
        with _launching:
            request.stacks = _stacks()
            library.run(request, buffers)


def load(text: str, checked: bool) -> Library:
    """The library of a text, built and loaded once."""
    key = (text, checked)
    if key not in _libraries:
        path = build(text, checked)
        with _loading:
            if key not in _libraries:
                _libraries[key] = Library(path)
    return _libraries[key]


def check_limits(row: EntryRow, grid: Size, block: Size, argument: bytes, shared: int) -> None:
    """Refuses what a GPU refuses."""
    if any(not 1 <= n <= limit for n, limit in zip(grid, MAX_GRID, strict=True)):
        raise KernelFault(f"grid {grid} is not between 1 and {MAX_GRID}")
    if any(not 1 <= n <= limit for n, limit in zip(block, MAX_BLOCK, strict=True)):
        raise KernelFault(f"block {block} is not between 1 and {MAX_BLOCK}")
    threads = math.prod(block)
    if threads > MAX_THREADS:
        raise KernelFault(f"block {block} has {threads} threads, more than {MAX_THREADS}")
    if threads > row.max_threads:
        raise KernelFault(f"block {block} is larger than __launch_bounds__({row.max_threads})")
    if not 0 <= shared <= MAX_SHARED:
        raise KernelFault(f"{shared} bytes of shared memory are not between 0 and {MAX_SHARED}")
    if len(argument) != row.argument_bytes:
        raise KernelFault(
            f"the argument has {len(argument)} bytes, the kernel takes {row.argument_bytes}"
        )


@functools.cache
def _stacks() -> int:
    """The stacks of a block's threads, made once: they serve every library."""
    return next(iter(_libraries.values())).make_stacks()
