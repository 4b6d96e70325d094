"""Rows before any codec: float32, normalised for cosine, moved to the origin."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpuann.backends.seam import Array
from gpuann.metric import Metric

# The expanded form |q|^2 + |v|^2 - 2 q.v loses log2(|mean|^2 / spread) bits; up to here that is
# less than it costs to move every row.
_FAR = 8.0
_FLOATS_AT_ONCE = 1 << 17  # in float64
_ROUND_UP = np.float32(1 + 2**-20)  # lengths are upper bounds also after rounding


def square_norms(xp: Any, x: Array) -> Array:
    """|x|^2 of rows (n, dim) float32, summed in float64 -> (n,) float64."""
    wide = x.astype(xp.float64)
    wide *= wide
    return wide.sum(axis=1)


def lengths(xp: Any, x: Array) -> Array:
    """Upper bound of |x| of rows (n, dim) -> (n,) float32."""
    return lengths_of(xp, square_norms(xp, x))


def lengths_of(xp: Any, squares: Array) -> Array:
    """`lengths` of rows whose `square_norms` (n,) are known."""
    return xp.sqrt(squares).astype(xp.float32) * _ROUND_UP


def cosine_scale(xp: Any, rows: Array) -> Array:
    """1 / |row|, 0 for a row without direction: rows (n, dim) any dtype -> (n,) float32.

    A length under 2^-126 has no float32 inverse: such a row counts as zero. The scale is part of
    the canonical distance, so its bits are the same on every backend.
    """
    norm = xp.sqrt(_halved_sum(xp, xp.square(rows.astype(xp.float64))))
    has = norm >= 2.0**-126
    return xp.where(has, 1 / xp.where(has, norm, 1), 0).astype(xp.float32)


def without_direction(rows: Array) -> Array:
    """Which host rows (n, dim) count as zero under cosine -> (n,) bool: see `cosine_scale`."""
    small = np.abs(rows.astype(np.float32, copy=False)).max(axis=1) < 2.0**-100
    small[small] = cosine_scale(np, rows[small]) == 0  # few, if any, are looked at twice
    return np.asarray(small)


def _halved_sum(xp: Any, x: Array) -> Array:
    """Sum of each row of x (n, dim) float64, by adding halves -> (n,) float64.

    Elementwise additions only: an array module's own sum has an order of its own.
    """
    width = 1 << (x.shape[1] - 1).bit_length()
    if x.shape[1] < width:
        wide = xp.zeros((len(x), width), xp.float64)
        wide[:, : x.shape[1]] = x
        x = wide
    while width > 1:
        width //= 2
        x = x[:, :width] + x[:, width:]
    return x[:, 0]


def as_float(xp: Any, rows: Array, metric: Metric) -> Array:
    """Rows (n, dim) of any stored dtype -> float32, of length 1 (or 0) under cosine."""
    x = rows.astype(xp.float32, copy=False)
    if metric == "cosine":
        x = x * cosine_scale(xp, rows)[:, None]
    return x


def joined(xp: Any, parts: Sequence[tuple[Array | None, ...]]) -> Iterator[Any]:
    """Arrays that were made part by part, one after the other; None where the first part has it."""
    for column in zip(*parts, strict=True):
        yield None if column[0] is None else xp.concatenate(column)


class Moments(NamedTuple):
    """Sums over rows, in float64: those of several parts add up."""

    n_rows: int
    total: Array
    """(dim,) of the rows."""
    square: float
    """Of their squared lengths."""


def moments(sample: Array) -> Moments:
    """Of a host sample (n, dim) float32."""
    step = max(1, _FLOATS_AT_ONCE // sample.shape[1])
    parts = (sample[at : at + step] for at in range(0, len(sample), step))
    square = sum(float(square_norms(np, part).sum()) for part in parts)
    return Moments(len(sample), sample.sum(axis=0, dtype=np.float64), square)


def shift_of(sums: Moments, metric: Metric) -> Array | None:
    """The mean if the data lie far from the origin, else None.

    Distances under L2 do not depend on it, their rounding errors do. inner_product has no shift.
    """
    if metric == "inner_product":
        return None
    mean = sums.total / sums.n_rows
    spread = sums.square / sums.n_rows - mean @ mean
    if mean @ mean <= _FAR * max(float(spread), 0.0):
        return None
    return mean.astype(np.float32)


def choose_shift(sample: Array, metric: Metric) -> Array | None:
    """`shift_of` a host sample (n, dim) float32."""
    return shift_of(moments(sample), metric)


def moved(x: Array, shift: Array | None) -> Array:
    """x - shift, or x itself where there is no shift."""
    return x if shift is None else x - shift
