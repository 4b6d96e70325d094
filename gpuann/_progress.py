"""Progress bars: on a terminal when asked for, never in a pipe."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def bar(items: Iterable[T], name: str, *, show: bool, total: int | None = None) -> Iterator[T]:
    """`items`, with a bar on standard error if `show` and if that is a terminal."""
    # disable=None is tqdm's "only on a terminal"
    return iter(tqdm(items, name, total, leave=False, disable=None if show else True))
