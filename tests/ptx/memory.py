"""The memory of a launch: global buffers where they really lie; shared, local and parameter space.

Addresses of the .shared, .local and .param space count from BASES, so that 0 is never valid and an
address of one space never lies in another. As generic addresses they stand in windows far above
anything that a host hands out. Every access is
checked: wholly inside one buffer or space, and aligned to its whole width.
"""

import ctypes
from collections.abc import Iterator, Sequence

import numpy as np

from .decode import Lanes
from .parse import Entry, PtxError

BASES = {"shared": 1 << 10, "local": 1 << 24, "param": 1 << 28}
WINDOWS = {"shared": 1 << 60, "local": 1 << 61, "param": 1 << 62}
_WINDOW_SIZE = 1 << 40
_SPAN = 16  # private areas are padded to whole multiples of this, the widest element of a view


def layout(entry: Entry) -> tuple[dict[str, int], int, int]:
    """Where the variables of a kernel lie; the sizes of static shared and of local memory."""
    symbols, ends = {entry.param_name: BASES["param"]}, {"shared": 0, "local": 0}
    # dynamic arrays all start behind the static ones, where the driver puts them
    for variable in sorted(entry.variables, key=lambda variable: variable.size is None):
        if variable.align > min(BASES.values()):
            raise PtxError(f"PTX: {variable.name} is aligned to {variable.align}")
        start = -(-ends[variable.space] // variable.align) * variable.align
        if variable.name in symbols:
            raise PtxError(f"PTX: {variable.name} is declared twice")
        symbols[variable.name] = BASES[variable.space] + start
        if variable.size is not None:
            ends[variable.space] = start + variable.size
    dynamic = [symbols[v.name] - BASES["shared"] for v in entry.variables if v.size is None]
    return symbols, max(ends["shared"], *dynamic, 0), ends["local"]


class _Buffer:
    """One device buffer, seen as elements of 1, 2, 4 or 8 bytes."""

    def __init__(self, address: int, nbytes: int, label: str):
        self.address, self.end, self.label = address, address + nbytes, label
        self._views: dict[int, tuple[np.ndarray, int]] = {}

    def elements(self, width: int) -> tuple[np.ndarray, int]:
        """The buffer as unsigned integers of this width, and the address of the first."""
        if width not in self._views:
            start = -(-self.address // width) * width
            count = max(0, self.end - start) // width
            memory = (ctypes.c_uint8 * (count * width)).from_address(start)
            self._views[width] = np.frombuffer(memory, f"u{width}"), start
        return self._views[width]


class Memory:
    """What the threads of one launch can reach."""

    def __init__(self, machine, buffers: Sequence, argument: bytes, sizes: dict[str, int]):
        self._machine = machine
        unique = {(b.address, b.nbytes): b.label for b in buffers if b.nbytes}
        self._buffers = [_Buffer(*place, label) for place, label in sorted(unique.items())]
        for left, right in zip(self._buffers, self._buffers[1:], strict=False):
            if left.end > right.address:
                raise PtxError(f"PTX: the buffers {left.label} and {right.label} overlap")
        self._starts = np.array([b.address for b in self._buffers], np.uint64)
        self._sizes = {**sizes, "param": len(argument)}  # bytes a block, a thread, a launch
        self._strides = {space: -(-n // _SPAN) * _SPAN for space, n in self._sizes.items()}
        self._areas: dict[str, np.ndarray] = {}
        param = np.zeros(self._strides["param"], np.uint8)
        param[: len(argument)] = np.frombuffer(argument, np.uint8)
        self._areas["param"] = param

    def start_chunk(self, blocks: int, threads: int) -> None:
        """New private areas, poisoned: an unwritten float is a NaN, an unwritten integer -1."""
        for space, owners in (("shared", blocks), ("local", threads)):
            self._areas[space] = np.full(owners * self._strides[space], 0xFF, np.uint8)

    def places(
        self, space: str, addresses: np.ndarray, lanes: Lanes, width: int, count: int = 1
    ) -> Iterator[tuple[slice | np.ndarray, np.ndarray, np.ndarray]]:
        """Where `count` elements of `width` bytes at every lane's address lie.

        Yields (which of the lanes, an array of elements, the index of the first element).
        """
        if addresses.shape != (lanes.count,):
            addresses = np.broadcast_to(addresses, lanes.count)
        if lanes.count == 0:
            return
        total = width * count
        if (misaligned := addresses % np.uint64(total) != 0).any():
            self._fail(addresses, lanes, misaligned, f"misaligned access of {total} bytes")
        if space == "generic":
            yield from self._generic(addresses, lanes, width, count)
        elif space == "global":
            yield from self._global(addresses, lanes, width, total)
        else:
            yield slice(None), *self._private(space, addresses, lanes, width, total)

    def _generic(self, addresses, lanes, width, count):
        rest = np.ones(lanes.count, bool)
        for space, window in WINDOWS.items():
            offsets = addresses - np.uint64(window)
            inside = (addresses >= np.uint64(window)) & (offsets < np.uint64(_WINDOW_SIZE))
            if inside.any():
                where, rest = np.flatnonzero(inside), rest & ~inside
                part = Lanes(lanes.ids[where], lanes.ids[where])
                for _, array, index in self.places(space, offsets[where], part, width, count):
                    yield where, array, index
        where = np.flatnonzero(rest)
        part = Lanes(lanes.ids[where], lanes.ids[where])
        for inner, array, index in self.places("global", addresses[where], part, width, count):
            yield where[inner], array, index

    def _global(self, addresses, lanes, width, total):
        number = np.searchsorted(self._starts, addresses, side="right").astype(np.int64) - 1
        for buffer_number in np.unique(number):
            same = number == buffer_number
            where = slice(None) if same.all() else np.flatnonzero(same)
            buffer = self._buffers[buffer_number] if buffer_number >= 0 else None
            end = np.uint64(buffer.end if buffer else 0)
            outside = (addresses > end) | (end - np.minimum(addresses, end) < np.uint64(total))
            if (outside & same).any():
                message = f"out-of-bounds access of {total} bytes"
                self._fail(addresses, lanes, outside & same, message, self._nearest)
            elements, start = buffer.elements(width)
            offsets = addresses[where] - np.uint64(start)
            yield where, elements, (offsets // np.uint64(width)).astype(np.int64)

    def _private(self, space, addresses, lanes, width, total):
        size, stride = self._sizes[space], self._strides[space]
        offsets = addresses - np.uint64(BASES[space])  # wraps to something huge below it
        outside = (offsets > np.uint64(size)) | (offsets + np.uint64(total) > np.uint64(size))
        if outside.any():
            message = f"out-of-bounds access of {total} bytes, .{space} memory has {size}"
            self._fail(addresses, lanes, outside, message)
        owner = {"shared": self._machine.block_of, "local": self._machine.thread_numbers}.get(space)
        index = offsets.astype(np.int64) // width
        if owner is not None:
            index += owner[lanes.select].astype(np.int64) * (stride // width)
        return self._areas[space].view(f"u{width}"), index

    def load(self, space, addresses, lanes, width, count=1) -> list[np.ndarray]:
        """`count` arrays of one unsigned element a lane."""
        loaded = [np.zeros(lanes.count, f"u{width}") for _ in range(count)]
        for where, array, index in self.places(space, addresses, lanes, width, count):
            for number, values in enumerate(loaded):
                values[where] = array[index + number]
        return loaded

    def store(self, space, addresses, lanes, values: list[np.ndarray]) -> None:
        """Stores the unsigned elements; of two lanes at one address the later one stays."""
        width = values[0].dtype.itemsize
        if space in ("param", "const"):
            raise PtxError("PTX: a store into the parameters")
        for where, array, index in self.places(space, addresses, lanes, width, len(values)):
            for number, column in enumerate(values):
                array[index + number] = np.broadcast_to(column, lanes.count)[where]

    def _nearest(self, address: int) -> str:
        if not self._buffers:
            return "there is no buffer"

        def distance(buffer: _Buffer) -> int:
            return max(buffer.address - address, address - buffer.end, 0)

        near = min(self._buffers, key=distance)
        place = f"{address - near.address:+d} bytes from the start of"
        return f"{place} {near.label} ({near.end - near.address} bytes)"

    def _fail(self, addresses, lanes, wrong, message, explain=None):
        first = int(np.flatnonzero(wrong)[0])
        address = int(addresses[first])
        more = f", {explain(address)}" if explain else ""
        self._machine.fail(int(lanes.ids[first]), f"{message} at {address:#x}{more}")
