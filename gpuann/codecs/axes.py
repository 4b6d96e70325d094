"""The coordinates that quantisers work in: rows moved to the origin, turned, or widened by zeros.

A turn is the model's: lengths and distances are the same in the new axes, to rounding. Turned rows
are exact sums, rounded once, so their bits do not depend on the batch or the machine: rows count in
units of 2^-24 of their largest component and the rotation in units of 2^-21, so that no sum of
products exceeds 2^53 units and float64 holds it, whatever the order. At most 2^14 components.

Sources: Ge, He, Ke, Sun, "Optimized product quantization", PAMI 2014 (both of its solutions).
"""

from typing import Any, NamedTuple

import numpy as np

from gpuann.arrays import HostArray
from gpuann.backends import Backend
from gpuann.backends.seam import Array
from gpuann.codecs import vectors

MOST_COMPONENTS = 1 << 14
_ROTATION_BITS = 21  # behind the point
_ROW_BITS = 24  # of the largest component, so that nothing of it is lost


class Axes(NamedTuple):
    """Of an index; arrays on its device."""

    shift: Array | None
    """(dim,) float32 or None, taken off first."""
    rotation: Array | None
    """(width, dim) float32 with orthonormal columns, or None: no turn."""
    width: int
    """Components in these axes, at least dim."""

    def of(self, backend: Backend, x: Array) -> Array:
        """Rows (n, dim) float32, of length 1 under cosine, in these axes -> (n, width) float32."""
        moved = vectors.moved(x, self.shift)
        if self.rotation is None:
            return pad(backend.xp, moved, self.width)
        return turned(backend, moved, self.rotation)


def pad(xp: Any, x: Array, width: int) -> Array:
    """Rows (n, dim) with zeros up to `width` columns; x itself where it is that wide already."""
    if x.shape[1] == width:
        return x
    out = xp.zeros((len(x), width), x.dtype)
    out[:, : x.shape[1]] = x
    return out


def turned(backend: Backend, x: Array, rotation: Array) -> Array:
    """Rows (n, dim) times rotation (width, dim), of `in_units` -> (n, width) float32."""
    if len(x) == 0:
        return backend.xp.zeros((0, len(rotation)), backend.xp.float32)
    return 0 - backend.ops.pairwise(_rows_in_units(backend.xp, x), rotation, "inner_product")


def _rows_in_units(xp: Any, x: Array) -> Array:
    """Rows rounded to multiples of 2^-24 of the power of two above their largest component."""
    largest = xp.maximum(x.max(axis=1), 0 - x.min(axis=1))
    exponent = (largest.view(xp.int32) >> 23) - 126  # the largest is under 2^exponent
    unit = _power_of_two(xp, xp.maximum(exponent - _ROW_BITS, -149))[:, None]
    return (xp.rint(x.astype(xp.float64) / unit) * unit).astype(xp.float32)


def _power_of_two(xp: Any, exponent: Array) -> Array:
    """2^exponent (n,) float64."""
    return ((exponent.astype(xp.int64) + 1023) << 52).view(xp.float64)


def in_units(rotation: HostArray) -> HostArray:
    """A rotation rounded to multiples of 2^-21, (width, dim) float32."""
    unit = 2.0**-_ROTATION_BITS
    return (np.rint(rotation.astype(np.float64) / unit) * unit).astype(np.float32)


def random(width: int, dim: int, seed: int) -> HostArray:
    """A rotation drawn evenly -> (width, dim) float32."""
    drawn = np.random.default_rng(seed).standard_normal((width, width))
    q, r = np.linalg.qr(drawn)
    return in_units((q * np.sign(np.diag(r)))[:, :dim])


def back(x: HostArray, rotation: HostArray | None, dim: int) -> HostArray:
    """Host rows (n, width) in the axes from before the turn -> (n, dim) float32."""
    if rotation is None:
        return x[:, :dim]
    return (x.astype(np.float64) @ rotation).astype(np.float32)
