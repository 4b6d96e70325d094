"""Data that lie where they were made, on this machine or others, and functions sent to them."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from gpuann.arrays import HostArray

Run = Callable[..., Iterable[Any]]
"""run(function, parts, *more) -> function(part, ...) of every part, as the built-in `map` does."""
Fetch = Callable[[list[Any]], Sequence[Any]]
"""What `run` gave -> the results themselves, here."""
Reduce = Callable[[Callable[[list[Any]], Any], list[Any]], Any]
"""reduce(join, those) -> what stands for join of all of them; join takes neighbours, in order."""


class Parts:
    """Data that lie where they were made, in the order of the parts, and how to work on them."""

    def __init__(
        self, handles: list[Any], run: Run, fetch: Fetch, reduce: Reduce | None = None
    ) -> None:
        self.handles, self._run, self._fetch, self._reduce = handles, run, fetch, reduce
        self.sizes: list[int] = []

    def of_sizes(self, sizes: list[int]) -> "Parts":
        """The same, told how many rows each part has; those without any are left out."""
        some = [(part, n) for part, n in zip(self.handles, sizes, strict=True) if n]
        made = Parts([part for part, _ in some], self._run, self._fetch, self._reduce)
        made.sizes = [n for _, n in some]
        return made

    @property
    def n_rows(self) -> int:
        """Of all parts."""
        return sum(self.sizes)

    @property
    def before(self) -> list[int]:
        """Rows before each part."""
        return [0, *itertools.accumulate(self.sizes)][:-1]

    def keep(self, function: Any, *more: Any, each: list[Any] | None = None) -> "Parts":
        """function(part, *more) of every part, left where it is; `each` differs from part to part
        and comes first.
        """
        columns = [[value] * len(self.handles) for value in more]
        own = [] if each is None else [each]
        handles = list(self._run(function, self.handles, *own, *columns))
        return Parts(handles, self._run, self._fetch, self._reduce)

    def ask(self, function: Any, *more: Any, each: list[Any] | None = None) -> list[Any]:
        """function(part, *more) of every part, brought here."""
        return list(self._fetch(self.keep(function, *more, each=each).handles))

    def total(self, function: Any, join: Callable[[list[Any]], Any], *more: Any) -> Any:
        """join([function(part, *more) of every part]), on the way here if the engine can."""
        if self._reduce is None:
            return join(self.ask(function, *more))
        one = self._reduce(join, self.keep(function, *more).handles)
        return next(iter(self._fetch([one])))

    def rows(self, numbers: HostArray) -> HostArray:
        """Rows by their numbers (n,) over all parts -> (n, dim), or (B, n, dim) of B problems."""
        ends = np.cumsum(self.sizes)
        part_of = np.searchsorted(ends, numbers, side="right")
        wanted = [numbers[part_of == p] - before for p, before in enumerate(self.before)]
        found = np.concatenate(self.ask(_pick, each=wanted), axis=-2)
        place = np.argsort(part_of, kind="stable")
        out = np.empty_like(found)
        out[..., place, :] = found
        return out


def _pick(part: HostArray, rows: HostArray) -> HostArray:
    """Where the part is: a function that can be pickled."""
    return part[..., rows, :]
