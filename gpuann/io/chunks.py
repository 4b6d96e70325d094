"""Rows that are read piece by piece, as often as needed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gpuann import arrays
from gpuann.arrays import HostArray
from gpuann.errors import bad_type, bad_value

BYTES_AT_ONCE = 1 << 25
_KNOWN = ("float64", "float32", "float16", "int8", "uint8", "int32", "int64", "uint32")


def damaged(where: str, path: Path, how: object) -> ValueError:
    """What is said of a file that is not what its name says."""
    return bad_value(where, str(path), "be a whole file of its format", f"a damaged one: {how}")


@contextmanager
def parsing(where: str, path: Path) -> Iterator[None]:
    """Another library's parser at work: damaged files make it raise whatever it likes."""
    try:
        yield
    except Exception as error:
        if str(error).startswith(where):
            raise
        raise damaged(where, path, f"{type(error).__name__}: {error}") from None


class Chunks:
    """Rows (n, dim): called, it gives a fresh iterator over pieces, as builds and searches want."""

    def __init__(
        self,
        shape: tuple[int, int],
        dtype: Any,
        read: Callable[[], Iterator[HostArray]],
        about: str,
    ) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._read, self._about = read, about

    def __call__(self) -> Iterator[HostArray]:
        return self._read()

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"io.Chunks({self._about}, {self.shape[0]:,} x {self.shape[1]} {self.dtype})"

    def whole(self) -> HostArray:
        """All rows in memory."""
        out = np.empty(self.shape, self.dtype)
        at = 0
        for piece in self():
            out[at : at + len(piece)] = piece
            at += len(piece)
        return out

    @staticmethod
    def of(where: str, rows: Any) -> "Chunks":
        """Rows as a caller has them."""
        if isinstance(rows, Chunks):
            return rows
        if arrays.is_chunked(rows):
            return _of_chunks(where, rows)
        array = arrays.as_host(where, "rows", rows)
        if array.ndim != 2:
            raise bad_value(where, "rows", "have shape (n, dim)", array.shape)
        _known(where, array.dtype)
        step = rows_at_once(array.shape[1] * array.dtype.itemsize)

        def read() -> Iterator[HostArray]:
            for at in range(0, len(array), step):
                yield np.ascontiguousarray(array[at : at + step])

        n, dim = array.shape
        return Chunks((n, dim), array.dtype, read, "an array")


def rows_at_once(row_bytes: int) -> int:
    """Rows of a piece."""
    return max(1, BYTES_AT_ONCE // max(1, row_bytes))


def _of_chunks(where: str, rows: Any) -> Chunks:
    if arrays.is_one_shot(rows):
        rows = list(rows)
    open_again = rows if callable(rows) else lambda: iter(rows)
    n, dim, dtype = 0, None, None
    for piece in open_again():
        array = arrays.as_host(where, "every chunk of rows", piece)
        if array.ndim != 2 or (dim is not None and array.shape[1] != dim):
            rule = f"have shape (n, {'dim' if dim is None else dim})"
            raise bad_value(where, "every chunk of rows", rule, array.shape)
        if dtype is not None and array.dtype != dtype:
            raise bad_type(where, "every chunk of rows", f"be {dtype}", array.dtype)
        _known(where, array.dtype)
        n, dim, dtype = n + len(array), array.shape[1], array.dtype
    if dim is None:
        raise bad_value(where, "rows", "have at least one chunk", "none")

    def read() -> Iterator[HostArray]:
        for piece in open_again():
            yield np.ascontiguousarray(arrays.as_host(where, "every chunk of rows", piece))

    return Chunks((n, dim), dtype, read, "chunks")


def _known(where: str, dtype: Any) -> None:
    if str(dtype) not in _KNOWN:
        raise bad_type(where, "rows", f"be one of {', '.join(_KNOWN)}", dtype)
