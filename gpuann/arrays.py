"""Data from outside: arrays, memory-maps and chunks of rows, as builds and searches want them."""

import mmap
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from gpuann import validate
from gpuann.cuda import device
from gpuann.errors import bad_type, bad_value

HostArray = npt.NDArray[Any]

_DLPACK_CUDA = 2  # kDLCUDA of dlpack.h

CHUNK_FLOATS = 1 << 23  # of one chunk as float32: 32 MiB
_CHECKED_FLOATS = 1 << 18  # that are looked at twice: a CPU's cache holds them meanwhile


def as_host(where: str, name: str, data: Any, way_out: str | None = None) -> HostArray:
    """Anything array-like -> a NumPy array, without a copy where it is one already; of anything
    else the error has the way out.
    """
    if isinstance(data, np.ma.MaskedArray):
        raise bad_type(where, name, "be an array without a mask", "a masked array")
    if on_cuda(data):
        return np.asarray(data.get() if hasattr(data, "get") else device.to_host(data))
    if isinstance(data, list | tuple | range):
        try:
            return np.asarray(data)
        except ValueError:
            raise bad_value(where, name, "have rows of one length", "a ragged list") from None
    if hasattr(data, "__array__"):
        return np.asarray(data)
    if hasattr(data, "__dlpack__"):
        return np.from_dlpack(data)
    raise bad_type(where, name, "be an array", type(data).__name__, way_out)


def queries(where: str, data: Any, dim: int) -> HostArray:
    """Query rows (n, dim) of any accepted dtype and layout, checked."""
    array = as_host(where, "queries", data)
    if str(array.dtype) == "bfloat16":
        array = array.astype(np.float32)
    validate.matrix(where, "queries", array, dim)
    validate.finite(where, "queries", array)
    return array


def is_mapped(rows: HostArray) -> bool:
    """Whether rows lie in a file that is mapped into memory, as np.memmap or as views of it do."""
    at: Any = rows
    while isinstance(at, np.ndarray):
        if isinstance(at, np.memmap):
            return True
        at = at.base
    return isinstance(getattr(at, "obj", at), mmap.mmap)


def check_output(
    where: str,
    name: str,
    given: Any,
    shape: tuple[int, int],
    dtype: npt.DTypeLike,
    *,
    on_device: bool = False,
) -> None:
    """Raise unless `given` is None or an array that a result can be written into: a device array
    for a result on the device, else a NumPy array.
    """
    if given is None:
        return
    if on_device and not on_cuda(given):
        raise bad_type(where, name, "be a device array, as the queries", type(given).__name__)
    if not on_device and not isinstance(given, np.ndarray):
        raise bad_type(where, name, "be a NumPy array", type(given).__name__)
    if given.shape != shape:
        raise bad_value(where, name, f"have shape {shape}", given.shape)
    if given.dtype != dtype:
        raise bad_type(where, name, f"be {np.dtype(dtype)}", given.dtype)
    if not on_device and not given.flags.writeable:
        raise bad_value(where, name, "be writeable", "a read-only array")


def output(given: HostArray | None, result: HostArray) -> HostArray:
    """`result`, or the checked `given` filled with it."""
    if given is None:
        return result
    given[...] = result
    return given


def on_cuda(data: Any) -> bool:
    """Whether `data` is an array on a CUDA device: CuPy's, or anything that says so by
    `__cuda_array_interface__` or DLPack.
    """
    if hasattr(data, "__cuda_array_interface__"):
        return True
    return hasattr(data, "__dlpack_device__") and int(data.__dlpack_device__()[0]) == _DLPACK_CUDA


class Rows:
    """A data set (n_rows, dim) read in chunks, as often as needed.

    From an array or memory-map it reads slices. From chunks it reads one after another: a list of
    arrays, any object that can be iterated again, or a function that returns a fresh iterator are
    never held whole; a one-shot iterator (a generator) can be read only once, so its chunks are
    kept in memory. `chunk_floats` is how many components a chunk has at most.
    """

    def __init__(self, where: str, name: str, data: Any) -> None:
        self._where, self._name = where, name
        self.chunk_floats = CHUNK_FLOATS
        self.array: HostArray | None = None
        if str(getattr(data, "dtype", "")) == "bfloat16":
            data = _wider(as_host(where, name, data))
        if is_chunked(data):
            self._open = _reopen(data)
            self.n_rows, self.dim, self.dtype = self._measure()
        else:
            self.array = as_host(where, name, data)
            validate.matrix(where, name, self.array)
            self.n_rows, self.dim = self.array.shape
            self.dtype = self.array.dtype
        if self.n_rows == 0:
            raise bad_value(where, name, "have at least one row", (0, self.dim))

    def chunks(self, most_floats: int | None = None) -> Iterator[tuple[int, HostArray]]:
        """(first row, rows (n, dim) C-contiguous of the data's own dtype), in order; of at most so
        many components, chunk_floats if nothing is said.
        """
        step = max(1, (most_floats or self.chunk_floats) // self.dim)
        start = 0
        for piece in (self.array,) if self.array is not None else self._pieces():
            self._same_again(start + len(piece) <= self.n_rows, "more rows")
            self._same_again(piece.shape[1:] == (self.dim,), f"rows of shape {piece.shape[1:]}")
            self._same_again(piece.dtype == self.dtype, piece.dtype)
            for at in range(0, len(piece), step):
                rows = np.ascontiguousarray(piece[at : at + step])
                yield start + at, rows
            start += len(piece)
        self._same_again(start == self.n_rows, f"{start} rows")

    def _same_again(self, same: bool, got: object) -> None:
        if not same:
            rule = f"give the same {self.n_rows} rows each time it is read"
            way_out = "a function must return a fresh iterator"
            raise bad_value(self._where, self._name, rule, got, way_out)

    def part(self, start: int, stop: int) -> "Rows":
        """Rows [start, stop) as a data set of their own, read from this one."""
        made = object.__new__(Rows)
        made._where, made._name = self._where, self._name
        made.chunk_floats = self.chunk_floats
        made.n_rows, made.dim, made.dtype = stop - start, self.dim, self.dtype
        made.array = None if self.array is None else self.array[start:stop]
        if self.array is None:
            made._open = lambda: self._between(start, stop)
        return made

    def _between(self, start: int, stop: int) -> Iterator[HostArray]:
        for at, chunk in self.chunks():
            low, high = max(start - at, 0), min(stop - at, len(chunk))
            if low < high:
                yield chunk[low:high]
            if at + len(chunk) >= stop:
                return

    def take(self, rows: HostArray) -> HostArray:
        """Rows numbered `rows` (n,) int64, ascending -> (n, dim) of the data's own dtype."""
        if self.array is not None:
            return np.ascontiguousarray(self.array[rows])
        out = np.empty((len(rows), self.dim), self.dtype)
        for start, chunk in self.chunks():
            low, high = np.searchsorted(rows, [start, start + len(chunk)])
            out[low:high] = chunk[rows[low:high] - start]
        return out

    def whole(self) -> HostArray:
        """All rows, C-contiguous; the caller's own memory where that is possible."""
        if self.array is not None:
            return np.ascontiguousarray(self.array)
        out = np.empty((self.n_rows, self.dim), self.dtype)
        for start, rows in self.chunks():
            out[start : start + len(rows)] = rows
        return out

    def check(self, first: int = 0) -> None:
        """Raise at the first row that is not finite; the error counts rows from `first`."""
        for start, rows in self.chunks(_CHECKED_FLOATS):
            validate.finite(self._where, self._name, rows, first + start)

    def _pieces(self) -> Iterator[HostArray]:
        for piece in self._open():
            yield as_host(self._where, self._name, piece)

    def _measure(self) -> tuple[int, int, np.dtype[Any]]:
        n_rows, dim, dtype = 0, None, None
        for piece in self._pieces():
            validate.matrix(self._where, f"every chunk of {self._name}", piece, dim)
            if dtype is not None and piece.dtype != dtype:
                raise bad_type(
                    self._where, f"every chunk of {self._name}", f"be {dtype}", piece.dtype
                )
            n_rows, dim, dtype = n_rows + len(piece), piece.shape[1], piece.dtype
        if dim is None or dtype is None:
            raise bad_value(self._where, self._name, "have at least one chunk", "none")
        return n_rows, dim, dtype


def _wider(rows: HostArray) -> Callable[[], Iterator[HostArray]]:
    """Rows (n, dim) of bfloat16 as chunks of float32, which holds them exactly."""
    step = max(1, CHUNK_FLOATS // max(1, rows.shape[-1]))
    return lambda: (
        rows[at : at + step].astype(np.float32) for at in range(0, max(1, len(rows)), step)
    )


def is_chunked(data: Any) -> bool:
    """Whether data are chunks of rows."""
    if isinstance(data, list | tuple):
        return len(data) > 0 and all(getattr(part, "ndim", 0) == 2 for part in data)
    if hasattr(data, "__array__") or hasattr(data, "__dlpack__"):
        return False
    return callable(data) or isinstance(data, Iterable)


def is_one_shot(data: Any) -> bool:
    """Whether data are chunks that can be read only once."""
    return is_chunked(data) and not callable(data) and iter(data) is data


def _reopen(data: Any) -> Callable[[], Iterable[Any]]:
    if callable(data):
        return lambda: iter(data())
    if iter(data) is data:
        held = list(data)
        return lambda: held
    return lambda: iter(data)


def query_chunks(data: Any) -> Iterable[Any] | None:
    """The chunks of a query set given in chunks, or None for a plain array."""
    if not is_chunked(data):
        return None
    return data() if callable(data) else iter(data)
