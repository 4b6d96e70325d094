"""Where the seconds of a build go, as far as a library lets one see it."""

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_taken: dict[str, float] = {}


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Seconds spent inside count for a stage."""
    start = time.perf_counter()
    try:
        yield
    finally:
        _taken[name] = _taken.get(name, 0.0) + time.perf_counter() - start


def staged(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose calls count for a stage."""

    @functools.wraps(function)
    def timed(*arguments: Any, **more: Any) -> Any:
        with stage(name):
            return function(*arguments, **more)

    return timed


def take() -> dict[str, float]:
    """The stages since the last call."""
    found = dict(_taken)
    _taken.clear()
    return found
