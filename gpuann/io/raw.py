"""Formats that are rows side by side: they are mapped, not read."""

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gpuann import atomic
from gpuann.arrays import HostArray
from gpuann.errors import bad_type, bad_value
from gpuann.io.chunks import Chunks, damaged, parsing

TEXMEX = {".fvecs": "<f4", ".bvecs": "u1", ".ivecs": "<i4"}
BINARY = {".fbin": "<f4", ".f16bin": "<f2", ".u8bin": "u1", ".i8bin": "i1", ".ibin": "<i4"}
_LOOKED_AT = 1000  # rows of a texmex file whose length is compared with the first


def open_file(where: str, path: Path, suffix: str) -> HostArray:
    """Vectors (n, dim) of a file, a read-only map."""
    if suffix == ".npy":
        return _open_npy(where, path)
    size = path.stat().st_size
    if suffix in TEXMEX:
        return _open_texmex(where, path, np.dtype(TEXMEX[suffix]), size)
    return _open_binary(where, path, np.dtype(BINARY[suffix]), size)


def _map(path: Path, dtype: Any, offset: int, shape: tuple[int, ...]) -> HostArray:
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", offset, shape)


def _open_npy(where: str, path: Path) -> HostArray:
    with path.open("rb") as file:
        head = file.read(12)
    # versions 2 and later have four bytes for the header's length: NumPy would make room for 4 GiB
    length = int.from_bytes(head[8:12] if head[6:7] > b"\1" else head[8:10], "little")
    if length > path.stat().st_size:
        raise damaged(where, path, f"a header of {length} bytes")
    with parsing(where, path):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.ndim != 2:
        rule = "hold one array (n, dim)"
        raise bad_value(where, str(path), rule, getattr(array, "shape", type(array).__name__))
    if array.dtype.hasobject or array.dtype.kind not in "fiu":
        raise bad_type(where, str(path), "hold numbers", array.dtype)
    return array


def _open_texmex(where: str, path: Path, dtype: np.dtype[Any], size: int) -> HostArray:
    with path.open("rb") as file:
        head = file.read(4)
    if size == 0:
        raise damaged(where, path, "it is empty")
    dim = int.from_bytes(head, "little", signed=True)
    row = 4 + dim * dtype.itemsize
    if len(head) < 4 or dim < 1 or size % row:
        raise damaged(where, path, f"{size} bytes are no rows of {dim} components")
    n = size // row
    every = _map(path, np.uint8, 0, (n, row))
    some = np.unique(np.linspace(0, n - 1, min(n, _LOOKED_AT)).astype(np.int64))
    lengths = np.ascontiguousarray(every[some, :4]).view("<i4")[:, 0]
    if (lengths != dim).any():
        at = int(np.flatnonzero(lengths != dim)[0])
        raise damaged(where, path, f"row {some[at]} has {lengths[at]} components, not {dim}")
    return every[:, 4:] if dtype.itemsize == 1 else every.view(dtype)[:, 1:]


def _open_binary(where: str, path: Path, dtype: np.dtype[Any], size: int) -> HostArray:
    """The width of the header is that which fits the size of the file."""
    with path.open("rb") as file:
        head = file.read(16)
    for width in (4, 8):
        if len(head) < 2 * width:
            continue
        n, dim = (int.from_bytes(head[i * width : (i + 1) * width], "little") for i in range(2))
        if dim >= 1 and 2 * width + n * dim * dtype.itemsize == size:
            return _map(path, dtype, 2 * width, (n, dim))
    raise damaged(where, path, f"its header does not tell of {size} bytes")


def check_dtype(where: str, suffix: str, dtype: np.dtype[Any]) -> None:
    """Raise unless a format can hold rows of a dtype."""
    wanted = (TEXMEX | BINARY).get(suffix)
    if wanted is not None and dtype != np.dtype(wanted):
        name = np.dtype(wanted).name
        way_out = f"convert it with rows.astype(numpy.{name})"
        raise bad_type(where, "rows", f"be {name} for {suffix}", dtype, way_out)


def write_file(where: str, path: Path, suffix: str, rows: Chunks, header_bits: int) -> None:
    """Write rows, whose dtype has been checked; the file has its name once it is whole."""
    dtype = rows.dtype if suffix == ".npy" else np.dtype((TEXMEX | BINARY)[suffix])
    n, dim = rows.shape
    if header_bits == 32 and suffix in BINARY and max(n, dim) >= 1 << 32:
        raise bad_value(where, "header_bits", "be 64 for so many rows", header_bits)
    with atomic.unseen(path) as file:
        if suffix == ".npy":
            header = {"descr": dtype.str, "fortran_order": False, "shape": (n, dim)}
            np.lib.format.write_array_header_2_0(file, header)
        elif suffix in BINARY:
            file.write(b"".join(x.to_bytes(header_bits // 8, "little") for x in (n, dim)))
        for piece in rows():
            _write_piece(file, piece.astype(dtype, copy=False), suffix in TEXMEX)


def _write_piece(file: BinaryIO, piece: HostArray, with_length: bool) -> None:
    if not with_length:
        file.write(np.ascontiguousarray(piece).data)
        return
    n, dim = piece.shape
    out = np.empty((n, 4 + dim * piece.dtype.itemsize), np.uint8)
    out[:, :4] = np.frombuffer(dim.to_bytes(4, "little"), np.uint8)
    out[:, 4:] = np.ascontiguousarray(piece).view(np.uint8).reshape(n, -1)
    file.write(out.data)
