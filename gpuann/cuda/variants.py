"""Every kernel of ours that is shipped: operation and constants. Launchers take from here and
nowhere else, so what the compile gate, the emulator and the interpreter prove is what a GPU gets.
"""

from enum import IntEnum
from typing import Any

import numpy as np

from gpuann.cuda.source import Source, source

_BLOCK = ("BLOCK", "256")
_ROWS = {np.float32: "float", np.float16: "__half", np.int8: "i8", np.uint8: "u8"}
ROW_TYPES = {np.dtype(t): name for t, name in _ROWS.items()}
SPLIT_DIM = 10  # components: three times as many fit the 32 of one step
PQ_LENGTHS = (1, 2, 4, 8)  # components of an entry whose codes become fragments by one load each
TILES = (64, 128)  # rows in shared memory, fragments.cuh: queries of the filter
TABLE_TYPES = {np.dtype(np.float32): "float", np.dtype(np.float16): "__half"}


class Codec(IntEnum):
    """How rows are stored."""

    WHOLE = 0
    PQ = 1
    SQ = 2


class RowsAs(IntEnum):
    """What the list-major scan multiplies of rows stored whole."""

    CONVERTED = 0
    """Rounded to fp16 at every use."""
    HALVES = 1
    """Their fp16 beside them."""
    BYTES = 2
    """Bytes, which are fp16 numbers."""


def plain(op: str) -> Source:
    """The one variant of group, accumulate and select_k."""
    return source(op, (_BLOCK,))


def assign(*, split: bool) -> Source:
    """split: rows of up to SPLIT_DIM components, packed as hi + lo halves."""
    return source("assign", (_BLOCK, ("SPLIT", str(int(split))), ("TILE", str(TILES[0]))))


def pairwise(metric: str) -> Source:
    """By metric."""
    combine = "Multiply" if metric == "inner_product" else "SquareDifference"
    return source("pairwise", (_BLOCK, ("COMBINE", combine)))


def build_lut(dtype: Any) -> Source:
    """By the table's dtype."""
    return source("build_lut", (_BLOCK, ("TABLE", TABLE_TYPES[np.dtype(dtype)])))


def scan_lut(dtype: Any) -> Source:
    """By the table's dtype."""
    table = ("TABLE", TABLE_TYPES[np.dtype(dtype)])
    return source("scan_lut", (_BLOCK, table, ("ROW", "u8"), ("CODEC", str(int(Codec.PQ)))))


def scan_lists(
    codec: Codec,
    dtype: Any,
    *,
    pq_len: int = 0,
    packed: bool = False,
    rows_as: RowsAs = RowsAs.CONVERTED,
    tile: int = TILES[0],
) -> Source:
    """By the dtype of rows or codes, and how they are multiplied. pq_len: one of PQ_LENGTHS if the
    codebooks are to be in shared memory, 0 for any length; packed: those have less than 8 bits;
    tile: one of TILES, the larger where `has_wide_tile`.
    """
    row = ("ROW", ROW_TYPES[np.dtype(dtype)])
    which = {"CODEC": codec, "PQ_LEN": pq_len, "PACKED": packed, "ROWS_AS": rows_as, "TILE": tile}
    numbers = ((name, str(int(value))) for name, value in which.items())
    return source("scan_lists", (_BLOCK, ("TABLE", "float"), row, *numbers))


def has_wide_tile(pq_len: int, packed: bool, rows_as: RowsAs) -> bool:
    """Where twice the queries share what bounds the product by the model: decoding 8-bit codes, or
    reading halves. Bytes and short codes leave tensor cores the bound with 64 already; a code for
    each component is as long as bytes, which need no codebook.
    """
    return rows_as == RowsAs.HALVES or (pq_len > 1 and not packed)


def refine(dtype: Any) -> Source:
    """By the stored dtype."""
    return source("refine", (_BLOCK, ("ROW", ROW_TYPES[np.dtype(dtype)]), ("CODEC", "0")))


def table() -> list[Source]:
    """All of them."""
    return [
        *(plain(op) for op in ("group", "accumulate", "select_k")),
        *(assign(split=split) for split in (True, False)),
        *(pairwise(metric) for metric in ("sqeuclidean", "inner_product")),
        *(build_lut(dtype) for dtype in TABLE_TYPES),
        *(scan_lut(dtype) for dtype in TABLE_TYPES),
        *(scan_lists(Codec.WHOLE, dtype) for dtype in ROW_TYPES),
        *(
            scan_lists(Codec.WHOLE, dtype, rows_as=RowsAs.HALVES, tile=tile)
            for dtype in (np.float32, np.float16)
            for tile in TILES
        ),
        *(scan_lists(Codec.WHOLE, t, rows_as=RowsAs.BYTES) for t in (np.int8, np.uint8)),
        *(scan_lists(Codec.PQ, np.uint8, pq_len=length) for length in (0, *PQ_LENGTHS)),
        *(scan_lists(Codec.PQ, np.uint8, pq_len=length, tile=TILES[1]) for length in (2, 4, 8)),
        *(scan_lists(Codec.PQ, np.uint8, pq_len=length, packed=True) for length in PQ_LENGTHS),
        scan_lists(Codec.SQ, np.int8, rows_as=RowsAs.BYTES),
        *(refine(dtype) for dtype in ROW_TYPES),
    ]
