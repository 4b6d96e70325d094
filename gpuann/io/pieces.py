"""A file in pieces, each of which can be opened by itself, on another machine too."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpuann import validate
from gpuann.arrays import HostArray
from gpuann.errors import bad_value
from gpuann.io import columns
from gpuann.io.chunks import Chunks
from gpuann.io.formats import given_path, open_vectors

_TABLES = (".parquet", ".arrow", ".feather", ".lance")  # read by fragments, not by rows
_FEWEST_ROWS, _MOST_PIECES, _MOST_BYTES = 1 << 13, 64, 1 << 26


@dataclass(frozen=True)
class Piece:
    """Some rows of a file: plain values, that travel in a pickle."""

    path: str
    column: str | None
    first: int
    """Its first row, of the file's."""
    n_rows: int
    dim: int
    dtype: str
    fragment: int | None = None
    """Of a Parquet file or a Lance data set, which is read by these."""

    def open(self) -> HostArray | Chunks:
        """Its rows (n_rows, dim), unread: a memory-map, or chunks."""
        where, path = "io.Piece", Path(self.path)
        rows = slice(self.first, self.first + self.n_rows)
        if self.fragment is not None:
            suffix = path.suffix.lower()
            found: Any = columns.open_table(where, path, suffix, self.column, self.fragment)
        elif path.suffix.lower() in (".hdf5", ".h5"):
            found = columns.open_hdf5(where, path, self.column or "train", rows)
        else:
            mapped: Any = open_vectors(path, column=self.column)
            found = mapped[rows]
        want = (self.n_rows, self.dim), self.dtype
        if (found.shape, str(found.dtype)) != want:
            rule = "be as it was when it was cut, {} {}".format(*want)
            raise bad_value(where, f"{path} row {self.first}", rule, f"{found.shape} {found.dtype}")
        return found


def pieces(path: Any, *, column: str | None = None, most_bytes: int = _MOST_BYTES) -> list[Piece]:
    """The vectors of a file in pieces, in order.

    Parameters
    ----------
    path : path, whose end says the format; see `gpuann.io`
    column : str, optional, as in `open_vectors`
    most_bytes : int, default 67108864
        Of a piece. There are 64 at least, unless those would be of fewer than 8192 rows: where a
        file is cut depends on the file alone. Parquet is cut by row groups and Lance by fragments,
        whatever their size.
    """
    where = "io.pieces"
    place, suffix = given_path(where, path)
    most_bytes = validate.integer(where, "most_bytes", most_bytes, 1)
    found = open_vectors(place, column=column)
    (n, dim), dtype = found.shape, np.dtype(found.dtype)
    about = dim, str(dtype)
    if suffix in _TABLES:
        sizes = columns.fragment_rows(where, place, suffix)
        starts = np.cumsum([0, *sizes])[:-1].tolist()
        cut = zip(starts, sizes, range(len(sizes)), strict=True)
        return [Piece(str(place), column, at, m, *about, number) for at, m, number in cut if m]
    step = max(
        1, min(most_bytes // (dim * dtype.itemsize), max(_FEWEST_ROWS, -(-n // _MOST_PIECES)))
    )
    firsts = range(0, n, step)
    return [Piece(str(place), column, at, min(step, n - at), *about) for at in firsts]
