"""Whole rows as the list-major scan multiplies them: float16, scaled by their list."""

from typing import Any, NamedTuple

from gpuann.backends.cuda_ops._sizes import DEPTH, ROWS, STEP, TILE
from gpuann.backends.seam import Array, FlatPayload, Lists

PADDING = 16  # components: those of one product of the tensor cores
LONGEST, MOST_SCALED = 15, 74  # as in fragments.cuh
_ROWS_AT_ONCE = 1 << 16


def half_words(dim: int) -> int:
    """Words of a row, two components each."""
    return -(-dim // PADDING) * PADDING // 2


class TileShape(NamedTuple):
    """Rows in shared memory: see fragments.cuh."""

    depth: int
    """Components at a time."""
    bytes: int


def tile_shape(components: int, rows: int = TILE) -> TileShape:
    """Of rows of so many components, of which at most DEPTH are there at a time."""
    depth = min(DEPTH, -(-components // STEP) * STEP)
    pitch = depth // 2 + (0 if depth % 64 else 16)  # words, as tile_pitch
    return TileShape(depth, rows * pitch * 4)


def with_halves(xp: Any, payload: FlatPayload, lists: Lists) -> FlatPayload:
    """The payload with its `halves`."""
    return payload._replace(halves=halves(xp, payload, lists))


def halves(xp: Any, payload: FlatPayload, lists: Lists) -> Array:
    """`FlatPayload.halves` of a payload in these lists.

    A component is rounded once, to 11 bits, or to 2^-39 of the list's radius where it is smaller
    than that allows. Cost: one pass over the rows; half their memory for float32.
    """
    n, dim = payload.vectors.shape
    out = xp.zeros((n + ROWS - 1, half_words(dim)), xp.uint32)
    parts = out.view(xp.float16)
    above = (lists.radius.view(xp.int32) >> 23) - 126  # the radius is under 2^above
    factor = ((xp.minimum(LONGEST - above, MOST_SCALED) + 127) << 23).view(xp.float32)
    for at in range(0, n, _ROWS_AT_ONCE):
        part = slice(at, min(at + _ROWS_AT_ONCE, n))
        list_of = xp.searchsorted(lists.offsets[1:], xp.arange(at, part.stop), side="right")
        x = payload.vectors[part].astype(xp.float32)
        if payload.scale is not None:
            x *= payload.scale[part][:, None]
        if payload.shift is not None:
            x -= payload.shift
        parts[part, :dim] = (x * factor[list_of][:, None]).astype(xp.float16)
    return out
