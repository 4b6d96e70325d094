"""Bytes of an index that is not built: of the arrays that `nbytes` counts, from their shapes."""

from dataclasses import dataclass

import numpy as np

from gpuann import backends, kinds
from gpuann.backends import packing
from gpuann.factory import Factory
from gpuann.training import CodeShape, ScalarShape

_ID, _FLOAT, _OFFSET = 8, 4, 8  # bytes of an entry, see `backends.seam.Lists`


@dataclass(frozen=True)
class Sizes:
    """Bytes of one index on its device."""

    codes: int
    """What rows are stored as: codes, or the rows themselves."""
    beside: int
    """Ids, norms and, of whole rows under cosine, scales."""
    halves: int
    """The float16 copy that CUDA keeps of float32 and float16 rows stored whole, centres among
    them."""
    models: int
    """Centres, what goes with each list, codebooks, rotation, and the shift. The data decide
    whether there is a shift, 4 dim bytes: it is counted."""
    kept: int
    """Rows kept for RFlat, on the host unless the index is there too."""

    @property
    def on_device(self) -> int:
        """Bytes of the index without the rows kept."""
        return self.codes + self.beside + self.halves + self.models

    def held(self, *, cuda: bool) -> int:
        """Bytes that count against the memory of a device: rows kept are there on the host only."""
        return self.on_device + (0 if cuda else self.kept)


@dataclass(frozen=True)
class RowShape:
    """What a row is stored as and scanned as."""

    code_bytes: int
    beside_bytes: int
    """Stored with each row beside its id: its norm, and its scale if there is one."""
    scan_bytes: int
    """Read of each row while it is scanned."""
    center_bytes: int
    """Read of each centre while lists are chosen."""
    width: int
    """Components of a centre and of a decoded row."""
    pq_dim: int
    """Codes of a row, 0 without PQ."""
    is_whole: bool


def row_shape(where: str, made: Factory, dtype: str, *, cuda: bool) -> RowShape:
    """Of the rows of an index that the factory would make of this dtype."""
    dim, whole = made.dim, made.dim * np.dtype(dtype).itemsize
    params = made.index_params
    shape = None if params is None else kinds.code_shape(where, params, dim)
    if isinstance(shape, CodeShape):
        bits = packing.bits_of(shape.pq_book_size)
        code, width = packing.row_bytes(shape.pq_dim, bits), shape.pq_dim * shape.pq_len
        read = code + _FLOAT, _scanned(width, _FLOAT * width, cuda=cuda)
        return RowShape(code, _FLOAT, *read, width, shape.pq_dim, is_whole=False)
    centers = _scanned(dim, _FLOAT * dim, cuda=cuda)
    if isinstance(shape, ScalarShape):
        return RowShape(dim, _FLOAT, dim + _FLOAT, centers, dim, 0, is_whole=False)
    beside = _FLOAT * (2 if made.metric == "cosine" else 1)
    read_bytes = whole + beside
    if np.dtype(dtype).kind == "f":
        read_bytes = _scanned(dim, whole + beside - _FLOAT, cuda=cuda)
    return RowShape(whole, beside, read_bytes, centers, dim, 0, is_whole=True)


def _scanned(width: int, n_bytes: int, *, cuda: bool) -> int:
    """Bytes read of a row of so many, or of its float16 copy, and its norm."""
    if cuda:
        n_bytes = backends.halves_bytes(1, width) - backends.halves_bytes(0, width)
    return n_bytes + _FLOAT


def n_lists_of(made: Factory) -> int:
    """Inverted lists, 1 for brute force."""
    return 1 if made.index_params is None else made.index_params.n_lists


def sizes(where: str, made: Factory, n_rows: int, dtype: str, *, cuda: bool) -> Sizes:
    """Of an index of n_rows rows of `dtype`, on a CUDA device or on the host."""
    row, params, dim = row_shape(where, made, dtype, cuda=cuda), made.index_params, made.dim
    copied = cuda and row.is_whole and np.dtype(dtype).kind == "f"
    halves = backends.halves_bytes(n_rows, dim) if copied else 0
    n_lists = n_lists_of(made)
    models = _OFFSET * (n_lists + 1) + _FLOAT * n_lists + _FLOAT * dim  # the last: a shift
    if params is not None:
        models += _FLOAT * n_lists * row.width
        models += 2 * _OFFSET + (_ID + _FLOAT) * n_lists + _FLOAT  # the one list that centres are
        if cuda:
            halves += backends.halves_bytes(n_lists, row.width)
        shape = kinds.code_shape(where, params, dim)
        if isinstance(shape, CodeShape):
            models += _FLOAT * shape.pq_book_size * row.width
            models += _FLOAT * row.width * dim if shape.rotation != "none" else 0
        elif isinstance(shape, ScalarShape):
            models += 2 * _FLOAT * dim
    kept = n_rows * dim * np.dtype(dtype).itemsize if made.refined else 0
    beside = n_rows * (_ID + row.beside_bytes)
    return Sizes(n_rows * row.code_bytes, beside, halves, models, kept)


def most_rows(where: str, made: Factory, dtype: str, room: int, *, cuda: bool) -> int:
    """Rows of an index that fits `room` bytes: bytes grow by the same amount with every row."""
    empty, one = (sizes(where, made, n, dtype, cuda=cuda).held(cuda=cuda) for n in (0, 1))
    return max(0, (room - empty) // (one - empty))
