"""Inverted lists: where each row is stored."""

from typing import NamedTuple

from gpuann.backends import Backend
from gpuann.backends.seam import Array, Lists


class Layout(NamedTuple):
    """The place of every row of a data set in its inverted lists."""

    offsets: Array
    """(n_lists + 1,) int64, first storage row of each list."""
    ids: Array
    """(n_rows,) int64, which row lies in each place: ascending within a list."""
    position: Array
    """(n_rows,) int64, the place of each row: the inverse of `ids`."""


def lay_out(backend: Backend, labels: Array, n_lists: int) -> Layout:
    """Sort rows into lists: labels (n_rows,) int32."""
    order, offsets = backend.ops.group(labels, n_lists)
    position = backend.xp.empty_like(order)
    position[order] = backend.xp.arange(len(order))
    return Layout(offsets, order, position)


def one_list(backend: Backend, norms: Array, radius: float, ids: Array | None = None) -> Lists:
    """All rows in one list, in their own order: norms (n_rows,) float32; ids (n_rows,) int64, None
    for row numbers.
    """
    xp = backend.xp
    return Lists(
        xp.asarray([0, len(norms)], dtype=xp.int64),
        xp.arange(len(norms), dtype=xp.int64) if ids is None else ids,
        norms,
        xp.asarray([radius], dtype=xp.float32),
    )
