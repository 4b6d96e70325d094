"""Lists that do not fit: read block by block from files or host memory, one ahead of the search.

A block holds whole lists, or a piece of a long one. The lists of all shards are put together while
they are read, so that a list is one run of rows, however many shards it lies in.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from gpuann.arrays import HostArray
from gpuann.backends.seam import Lists
from gpuann.distributed.shard import Shard
from gpuann.distributed.shard_file import arrays_of
from gpuann.storage import StoredFile

T = TypeVar("T")


class Source(Protocol):
    """The rows of one shard, wherever they lie."""

    offsets: HostArray
    """(n_lists + 1,) int64, first storage row of each list."""

    def row(self, name: str) -> tuple[np.dtype[Any], tuple[int, ...]] | None:
        """Dtype and shape of a row's entry in an array, None if there is no such array."""
        ...

    def read(self, name: str, first: int, out: HostArray) -> None:
        """Rows first ... first + len(out) - 1 of an array, into out."""
        ...


class FileSource:
    """A shard's file."""

    def __init__(self, file: StoredFile, lists: Lists | None = None) -> None:
        self._file = file
        self.offsets = file.read("offsets") if lists is None else lists.offsets

    def row(self, name: str) -> tuple[np.dtype[Any], tuple[int, ...]] | None:
        """See `Source`."""
        entry = self._file.entries.get(name)
        return None if entry is None else (entry.dtype, entry.shape[1:])

    def read(self, name: str, first: int, out: HostArray) -> None:
        """See `Source`."""
        self._file.read_rows(name, first, out)


class ShardSource:
    """A shard in host memory."""

    def __init__(self, shard: Shard) -> None:
        self._arrays, self.offsets = arrays_of(shard), shard.lists.offsets

    def row(self, name: str) -> tuple[np.dtype[Any], tuple[int, ...]] | None:
        """See `Source`."""
        array = self._arrays.get(name)
        return None if array is None else (array.dtype, array.shape[1:])

    def read(self, name: str, first: int, out: HostArray) -> None:
        """See `Source`."""
        out[...] = self._arrays[name][first : first + len(out)]


def row_bytes(source: Source, names: Iterable[str]) -> int:
    """Of a row in those of the arrays that a source has."""
    entries = [source.row(name) for name in names]
    return sum(e[0].itemsize * int(np.prod(e[1])) for e in entries if e is not None)


class Piece(NamedTuple):
    """Rows start ... stop - 1 of a list, counted over all sources."""

    list: int
    start: int
    stop: int


class OnlyList:
    """A source of brute force as list `number` of n: its rows have an origin of their own."""

    def __init__(self, source: Source, number: int, n: int) -> None:
        self._source, self.row, self.read = source, source.row, source.read
        self.offsets = np.where(np.arange(n + 1) > number, source.offsets[-1], 0)


def cut(sizes: HostArray, wanted: Sequence[int], most_rows: int) -> Iterator[list[Piece]]:
    """The wanted lists in blocks of at most most_rows rows; sizes (n_lists,) int64."""
    block: list[Piece] = []
    room = most_rows
    for l in wanted:
        start, size = 0, int(sizes[l])
        while start < size:
            if room == 0 or (block and size - start > room and size <= most_rows):
                yield block  # full, or a list that fits into a block of its own is kept whole
                block, room = [], most_rows
            stop = min(size, start + room)
            block.append(Piece(l, start, stop))
            start, room = stop, room - (stop - start)
    if block:
        yield block


def read_block(sources: Sequence[Source], name: str, block: list[Piece], out: HostArray) -> None:
    """An array's rows of a block, in the block's order, into out (n_rows, ...)."""
    read_runs(sources, name, runs(sources, block), out)


class Run(NamedTuple):
    """Rows of a block that lie together in one source."""

    source: int
    there: int
    """The first of them in the source ..."""
    here: int
    """... and in the block."""
    n_rows: int


def runs(sources: Sequence[Source], block: Sequence[Piece]) -> list[Run]:
    """Where the rows of a block lie, in the block's order."""
    lists, start, stop = np.array(block, np.int64).reshape(-1, 3).T
    first = np.stack([source.offsets[lists] for source in sources], axis=1)
    sizes = np.stack([source.offsets[lists + 1] for source in sources], axis=1) - first
    before = np.cumsum(sizes, axis=1) - sizes  # rows of the list in the sources before
    low = np.clip(start[:, None] - before, 0, sizes)
    n = np.clip(stop[:, None] - before, 0, sizes) - low
    number = np.broadcast_to(np.arange(len(sources)), n.shape)
    number, there, n = number[n > 0], (first + low)[n > 0], n[n > 0]
    if not len(n):
        return []
    here = np.cumsum(n) - n
    goes_on = (number[1:] == number[:-1]) & (there[1:] == there[:-1] + n[:-1])
    begins = np.flatnonzero(np.concatenate([[True], ~goes_on]))
    total = np.add.reduceat(n, begins)
    found = zip(number[begins], there[begins], here[begins], total, strict=True)
    return [Run(*(int(value) for value in run)) for run in found]


def read_runs(sources: Sequence[Source], name: str, some: list[Run], out: HostArray) -> None:
    """`read_block` of a block whose `runs` are known."""
    for run in some:
        sources[run.source].read(name, run.there, out[run.here : run.here + run.n_rows])


def ahead(items: Sequence[Any], load: Callable[[Any], T]) -> Iterator[T]:
    """load(item) of each, the next one loaded while the last is worked on.

    Two are held at once if the caller lets go of one before it asks for the next.
    """
    if not items:
        return
    with ThreadPoolExecutor(1, "gpuann-blocks") as pool:
        pending = pool.submit(load, items[0])
        for item in items[1:]:
            loaded = pending.result()
            pending = pool.submit(load, item)
            yield loaded
            del loaded  # before the next but one is begun
        yield pending.result()
