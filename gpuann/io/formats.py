"""Which format a file has, by the end of its name."""

from pathlib import Path
from typing import Any

import numpy as np

from gpuann.arrays import HostArray
from gpuann.errors import bad_type, bad_value
from gpuann.io import columns, raw
from gpuann.io.chunks import Chunks

_RAW = (".npy", *raw.TEXMEX, *raw.BINARY)
SUFFIXES = (*_RAW, ".hdf5", ".h5", ".parquet", ".arrow", ".feather", ".lance")


def open_vectors(path: Any, *, column: str | None = None) -> "HostArray | Chunks":
    """The vectors of a file, unread: a build or a search reads them in pieces.

    Parameters
    ----------
    path : path, whose end says the format; see `gpuann.io`
    column : str, optional
        Of .hdf5 the data set ("train" by default), of .parquet, .arrow and .lance the column (by
        default the only one of lists).

    Returns
    -------
    array (n, dim), a read-only memory-map; or Chunks, of formats that cannot be mapped

    Raises
    ------
    ValueError
        If the file is cut short or is not what its name says; nothing larger than it is allocated.
    """
    where = "io.open_vectors"
    place, suffix = given_path(where, path)
    if not place.exists():
        raise bad_value(where, str(place), "be there", "no such file")
    if suffix == ".lance":
        return columns.open_table(where, place, suffix, column)
    if place.is_dir():
        raise bad_value(where, str(place), "be a file", "a folder")
    if suffix in _RAW:
        if column is not None:
            raise bad_type(where, "column", f"be None for {suffix}", repr(column))
        return raw.open_file(where, place, suffix)
    if suffix in (".hdf5", ".h5"):
        return columns.open_hdf5(where, place, column or "train")
    return columns.open_table(where, place, suffix, column)


def write_vectors(
    path: Any, rows: Any, *, column: str | None = None, header_bits: int = 32
) -> tuple[int, int]:
    """Write rows to a file, in place of one that is there; it has its name once it is whole.

    Parameters
    ----------
    path : path, whose end says the format; see `gpuann.io`
    rows : array (n, dim), host or device; a memory-map; or chunks of rows. Their dtype must be the
        format's: .fbin and .fvecs float32, .f16bin float16, .u8bin and .bvecs uint8, .i8bin int8,
        .ibin and .ivecs int32; the others take any.
    column : str, optional; "train" for .hdf5, "vector" for the others with columns
    header_bits : {32, 64}, default 32; of each number in the header of .fbin and the like

    Returns
    -------
    (n, dim)
    """
    where = "io.write_vectors"
    place, suffix = given_path(where, path)
    if header_bits not in (32, 64):
        raise bad_value(where, "header_bits", "be 32 or 64", header_bits)
    parts = Chunks.of(where, rows)
    if 0 in parts.shape:
        raise bad_value(where, "rows", "be one at least, of one component at least", parts.shape)
    check_target(where, place, parts.dtype)
    if suffix in _RAW:
        raw.write_file(where, place, suffix, parts, header_bits)
    elif suffix in (".hdf5", ".h5"):
        columns.write_hdf5(where, place, parts, column or "train")
    elif suffix == ".lance":
        columns.write_lance(where, place, parts, column or "vector")
    else:
        columns.write_arrow(where, place, suffix, parts, column or "vector")
    return parts.shape


def check_target(where: str, path: Path, dtype: np.dtype[Any]) -> None:
    """Raise unless a file of that name can be written and hold rows of a dtype."""
    place, suffix = given_path(where, path)
    if not place.parent.is_dir():
        raise bad_value(where, str(place.parent), "be a folder", "none of that name")
    if place.is_dir() and suffix != ".lance":
        raise bad_value(where, str(place), "be the name of a file", "a folder")
    raw.check_dtype(where, suffix, dtype)


def given_path(where: str, path: Any) -> tuple[Path, str]:
    """A path as a user gives it, and the end of its name."""
    try:
        place = Path(path)
    except TypeError:
        raise bad_type(where, "path", "be a path", type(path).__name__) from None
    suffix = place.suffix.lower()
    if suffix not in SUFFIXES:
        rule = f"end with one of {' '.join(SUFFIXES)}"
        raise bad_value(where, str(place), rule, repr(place.suffix))
    return place, suffix
