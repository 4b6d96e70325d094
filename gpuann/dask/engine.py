"""Tasks of a build on a cluster: started, waited for, brought here."""

import asyncio
import os
import queue
import re
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import dask
from dask.delayed import Delayed
from dask.sizeof import sizeof
from distributed import Client, Future
from tqdm import tqdm

from gpuann.dask.serving import workers_of
from gpuann.dask.settling import give_back_memory, settle
from gpuann.errors import BackendError, message

Progress = bool | Callable[[str, int, int | None], object]
"""Bars, or a function that is told the stage, how many of its steps are done, and of how many
(None: nobody knows).
"""

_LOOK = 1.0  # seconds between looking whether a worker is left
_NO_WORKER = 60.0  # seconds without any: one may come in place of a lost one
_GATHER_WITHIN = 600.0  # seconds for finished results to come here
_LARGE = 1 << 16  # bytes of an argument that is sent once, not with every task
_FAN_IN = 8  # partial results that are joined at once
_PAUSE = 0.5  # seconds before a file is tried again
_PLACE = re.compile(r"^(distributed|io|dask)\.[\w.]+: ")  # that an error of a part names

_alone = threading.Lock()  # one task of ours at a time in a process: each uses all its threads


class Setup(NamedTuple):
    """What every task is told."""

    client_pid: int
    retries: int


class Engine:
    """A client as a build uses it, from the thread that builds. The tasks of a worker that is lost
    are done by others: that is Dask's work.
    """

    def __init__(self, where: str, client: Client, retries: int, progress: Progress) -> None:
        self.where, self.client = where, client
        self._setup, self._progress = Setup(os.getpid(), retries), progress
        self._sent: dict[int, tuple[Any, Future]] = {}
        self._started: weakref.WeakSet[Future] = weakref.WeakSet()
        self._bar: tuple[str, Any] | None = None
        self._done = 0

    def start(
        self, function: Callable[..., Any], part: Any, *more: Any, name: str = "", first: int = 0
    ) -> Future:
        """function(part, *more) on some worker; errors say `name`, `first` is its priority."""
        key = f"gpuann {function.__name__.strip('_')}-{uuid.uuid4().hex}"
        some = self._setup, name, function, part, *more
        if isinstance(part, Delayed):  # computed again where it is wanted again, never held
            task: Any = dask.delayed(_work, pure=False)
            one = task(*some, dask_key_name=key)
            made: Future = self.client.compute(one, priority=first)
        else:
            made = self.client.submit(_work, *some, key=key, pure=False, priority=first)
        self._started.add(made)
        return made

    def run(
        self, function: Callable[..., Any], parts: Sequence[Any], *columns: Any
    ) -> list[Future]:
        """As the built-in `map`; what all parts are given is sent to the workers once."""
        told = [self._sent_once(list(column)) for column in columns]
        return [self.start(function, *row) for row in zip(parts, *told, strict=True)]

    def _sent_once(self, column: list[Any]) -> list[Any]:
        value = column[0] if column else None
        if len(column) < 2 or any(other is not value for other in column):
            return column
        return [self.send(value)] * len(column)

    def send(self, value: Any) -> Any:
        """What stands for a large value on every worker; the value itself if it is small."""
        if sizeof(value) < _LARGE:
            return value
        known = self._sent.get(id(value))  # with the value itself, so that no other has this id
        if known is None:
            self._sent = {}  # centres of one round are not those of the next
            there = self.client.scatter(value, broadcast=True, hash=False)
            known = self._sent[id(value)] = value, there
        return known[1]

    def reduce(self, join: Callable[[list[Any]], Any], futures: list[Future]) -> Future:
        """join of all, where they are: neighbours first, then the results."""
        while len(futures) > 1:
            groups = [futures[at : at + _FAN_IN] for at in range(0, len(futures), _FAN_IN)]
            futures = [self.start(join, group) if group[1:] else group[0] for group in groups]
        return futures[0]

    def fetch(self, futures: Sequence[Future]) -> list[Any]:
        """The results of a round of the training, here."""
        some = list(futures)
        self.wait(some)
        self._tell("training", None)
        return self._gather(some)

    def ask(self, stage: str, futures: Sequence[Future]) -> list[Any]:
        """The results of a stage, here."""
        some = list(futures)
        self.wait(some, stage)
        return self._gather(some)

    def wait(self, futures: Sequence[Future], stage: str | None = None) -> None:
        """Until all have ended well; raise what the first that did not raised."""
        ended: queue.SimpleQueue[int] = queue.SimpleQueue()
        for i, future in enumerate(futures):
            future.add_done_callback(lambda _, i=i: ended.put(i))
        left, seen = len(futures), time.monotonic()
        while left:
            try:
                number = ended.get(timeout=_LOOK)
            except queue.Empty:
                if self.client.sync(workers_of, self.client):
                    seen = time.monotonic()
                elif time.monotonic() - seen > _NO_WORKER:
                    raise self._nobody() from None
                continue
            left, seen = left - 1, time.monotonic()
            if futures[number].status != "finished":
                raise self._failed(futures[number])
            if stage:
                self._tell(stage, len(futures))

    def _gather(self, futures: list[Future]) -> list[Any]:
        async def gather() -> list[Any]:
            found: list[Any] = await asyncio.wait_for(
                self.client.gather(futures, asynchronous=True), _GATHER_WITHIN
            )
            return found

        return list(self.client.sync(gather))

    def _failed(self, future: Future) -> Exception:
        """What a task raised, with the place that the user called."""
        error = future.exception() if future.status == "error" else None
        if isinstance(error, ValueError | TypeError | BackendError):
            return type(error)(f"{self.where}: {error}")
        got = f"{type(error).__name__}: {error}" if error else f"one that is {future.status}"
        way_out = "see the workers' logs; a worker that dies may have too little memory"
        return BackendError(message(self.where, "every task", "end", got, way_out))

    def _nobody(self) -> BackendError:
        got = f"none for {_NO_WORKER:g} s"
        return BackendError(message(self.where, "the cluster", "have a worker", got))

    def _tell(self, stage: str, total: int | None) -> None:
        if self._progress is False:
            return
        if self._bar is None or self._bar[0] != stage:
            self._end_bar()
            quiet = None if self._progress is True else True  # None: unless on a terminal
            self._bar = stage, tqdm(desc=stage, total=total, leave=False, disable=quiet)
            self._done = 0
        self._done += 1
        self._bar[1].update()
        if callable(self._progress):
            self._progress(stage, self._done, total)

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar[1].close()
        self._bar = None

    def finish(self) -> None:
        """The bar goes, and so do tasks that nobody waits for any more, after an error."""
        self._end_bar()
        left = [future for future in self._started if not future.done()]
        if left:
            self.client.cancel(left)


def _work(setup: Setup, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """On a worker: with the threads that Dask gave it, once more where a file could not be read."""
    settle(setup.client_pid)
    with _alone:
        try:
            return _tried(setup.retries, name, function, *arguments)
        finally:
            give_back_memory()


def _tried(retries: int, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    for left in reversed(range(retries + 1)):
        try:
            return function(*arguments)
        except OSError:
            if not left:
                raise
            time.sleep(_PAUSE)
        except (ValueError, TypeError, BackendError) as error:
            text = _PLACE.sub("", str(error))
            raise type(error)(f"{name}: {text}" if name else text) from error
    raise RuntimeError("never reached: the last try returns or raises")
