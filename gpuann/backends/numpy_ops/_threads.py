"""Worker threads of the NumPy backend, and BLAS held to one thread while they work.

NumPy lets go of the interpreter lock inside products, takes and comparisons, so plain threads
over tiles scale. BLAS' own threads would cut each of these small tiles once more and wait for one
another, hence the limit. It is process-wide, so it is counted: the first call in sets it, the last
one out restores what it found. Other BLAS calls of the process made meanwhile run on one thread
too.
"""

import itertools
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import threadpoolctl

from gpuann import validate
from gpuann.errors import bad_value

Item = TypeVar("Item")
Result = TypeVar("Result")


_LARGEST_KEPT = 1 << 21  # items of a scratch buffer, at most 16 MiB


def _default_threads() -> int:
    text = os.environ.get("GPUANN_NUM_THREADS")
    if not text:
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1
    if not text.isdecimal() or int(text) < 1:
        raise bad_value("gpuann", "GPUANN_NUM_THREADS", "be a positive integer", repr(text))
    return int(text)


class _Blas:
    """The BLAS libraries of the process, and their numbers of threads.

    Most keep one number for the process; OpenBLAS built on OpenMP keeps one for each thread.
    """

    def __init__(self) -> None:
        found = threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers
        self._shared = [lib for lib in found if getattr(lib, "threading_layer", None) != "openmp"]
        self._per_thread = [lib for lib in found if lib not in self._shared]
        self._before: list[int] = []

    def hold(self) -> None:
        """Set the process to one thread."""
        self._before = [lib.num_threads for lib in self._shared]
        self._set([1] * len(self._shared))

    def give_back(self) -> None:
        """Set the process to what `hold` found."""
        self._set(self._before)

    @contextmanager
    def hold_this_thread(self) -> Iterator[None]:
        """One thread for calls from the current thread, where BLAS counts by thread."""
        before = [lib.num_threads for lib in self._per_thread]
        for lib in self._per_thread:
            lib.set_num_threads(1)
        try:
            yield
        finally:
            for lib, n in zip(self._per_thread, before, strict=True):
                lib.set_num_threads(n)

    def _set(self, numbers: list[int]) -> None:
        for lib, n in zip(self._shared, numbers, strict=True):
            # threadpoolctl 3.8 lets only the first thread that sets a limit set another and
            # ignores the rest in silence; the count and its lock here are what makes it safe
            if hasattr(lib, "clear_controlling_thread"):
                lib.clear_controlling_thread(force=True)
            lib.set_num_threads(n)
            if hasattr(lib, "clear_controlling_thread"):
                lib.clear_controlling_thread(force=True)


class _State:
    """Everything that a forked child must make anew: locks, the pool, the BLAS count."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.n_threads: int | None = None
        self.pool: ThreadPoolExecutor | None = None
        self.blas: _Blas | None = None
        self.inside = 0


_state = _State()
_scratch = threading.local()


def _after_fork() -> None:
    global _state  # noqa: PLW0603 - the locks and threads of the parent do not exist here
    chosen = _state.n_threads
    held = _state.blas if _state.inside else None
    _state = _State()
    _state.n_threads = chosen
    if held is not None:  # the parent was searching: the child gets its BLAS back
        held.give_back()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def get_num_threads() -> int:
    """Threads that one call on the NumPy backend uses: all that the process may, by default."""
    return _state.n_threads or _default_threads()


def set_num_threads(n: int | None) -> None:
    """Use `n` threads from now on; None goes back to GPUANN_NUM_THREADS or every core."""
    if n is not None:
        n = validate.integer("gpuann.set_num_threads", "n", n, 1)
    with _state.lock:
        _state.n_threads = n
        if _state.pool is not None:
            _state.pool.shutdown(wait=False)
            _state.pool = None


@contextmanager
def single_thread_blas() -> Iterator[None]:
    """Hold BLAS to one thread inside; nested and overlapping uses are counted."""
    state = _state
    with state.lock:
        if state.blas is None:
            state.blas = _Blas()
        if state.inside == 0:
            state.blas.hold()
        state.inside += 1
    try:
        with state.blas.hold_this_thread():
            yield
    finally:
        with state.lock:
            state.inside -= 1
            if state.inside == 0:
                state.blas.give_back()


def run(
    work: Callable[[Item], Result], items: Sequence[Item], at_most: int | None = None
) -> list[Result]:
    """`[work(i) for i in items]` on the threads; the caller's thread takes part.

    Items are taken in order, one at a time, so put the longest first. The first exception stops
    the others at their next item and is raised here. `work` must not call `run`, unless with one
    thread. `at_most` limits the threads: array calls under some 20 us do not overlap, they wait for
    the interpreter lock.
    """
    helpers = min(get_num_threads(), len(items), at_most or len(items)) - 1
    if helpers < 1:
        with single_thread_blas():
            return [work(item) for item in items]
    results: list[Any] = [None] * len(items)
    ticket = itertools.count()
    stop = threading.Event()

    def drain() -> None:
        # next() on a count is atomic under the interpreter lock: each item is taken once
        while (i := next(ticket)) < len(items) and not stop.is_set():
            try:
                results[i] = work(items[i])
            except BaseException:
                stop.set()
                raise

    def help_out() -> None:
        with single_thread_blas():
            drain()

    futures: list[Future[None]] = []
    with single_thread_blas():
        try:
            for _ in range(helpers):
                if (future := _submit(help_out)) is not None:
                    futures.append(future)
            drain()
        except BaseException:
            stop.set()
            raise
        finally:
            # helpers that did not start have nothing left to do: do not wait for their turn
            started = [f for f in futures if not f.cancel()]
            failures = [f.exception() for f in started]
    for failure in failures:
        if failure is not None:
            raise failure
    return results


def share(n: int, most: int) -> int:
    """Size of the pieces when n are cut into pieces of at most `most`, about as many for each
    thread.
    """
    n_threads = get_num_threads()
    rounds = -(-n // (most * n_threads))
    return max(1, -(-n // max(1, rounds * n_threads)))


def _submit(work: Callable[[], None]) -> "Future[None] | None":
    """Hand work to the pool; None when the interpreter is shutting down and takes no more."""
    with _state.lock:
        if _state.pool is None:
            _state.pool = ThreadPoolExecutor(get_num_threads(), thread_name_prefix="gpuann")
        try:
            return _state.pool.submit(work)
        except RuntimeError:
            return None


def scratch(name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """An uninitialised buffer of this thread, reused by the next call with the same name.

    Fresh megabyte arrays cost a page fault per 4 KiB, as much as the product that fills them.
    """
    size = math.prod(shape)
    if size > _LARGEST_KEPT:  # a thread would hold it for as long as it lives
        return np.empty(shape, dtype)
    buffers: dict[str, npt.NDArray[Any]] = _scratch.__dict__
    have = buffers.get(name)
    if have is None or have.dtype != dtype or have.size < size:
        have = buffers[name] = np.empty(size, dtype)
    return have[:size].reshape(shape)
