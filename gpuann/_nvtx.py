"""NVTX ranges around the public calls and the operations: a profile reads like the code.

nvtx has no wheels for some platforms; there the ranges are nothing, and cost nothing.
"""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

try:
    import nvtx
except ImportError:
    nvtx = None

P = ParamSpec("P")
R = TypeVar("R")


def annotate(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Mark every call of the decorated function as range `name` of domain `gpuann`."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if nvtx is None:
            return function

        @functools.wraps(function)
        def ranged(*args: P.args, **kwargs: P.kwargs) -> R:
            with nvtx.annotate(name, domain="gpuann"):
                return function(*args, **kwargs)

        return ranged

    return decorate
