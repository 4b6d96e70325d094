"""Correct rounding where one NumPy operation does not give it.

Two ways. `odd_sum` rounds a sum of two float64 to odd: a following rounding to float32 or float16
is then as if the exact sum had been rounded, as 53 bits are at least two more than twice what is
kept. `round_exact` rounds one rational number with Python integers: slow and plainly right, used
for directed roundings and for the rare operands of fma.f64 whose error terms leave the range.
"""

import math
from fractions import Fraction

import numpy as np

_FORMATS = {2: (11, -24), 4: (24, -149), 8: (53, -1074)}  # bytes: (precision, least exponent)


def two_sum(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x + y rounded, and the exact rest (Knuth)."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def odd_sum(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x + y in float64 rounded to odd: an inexact sum gets the neighbour with an odd last bit."""
    total, rest = two_sum(x, y)
    bits = total.view(np.int64)
    away = (rest > 0) == (total > 0)  # the exact sum lies beyond the rounded one
    adjusted = np.where(away, bits + 1, bits - 1).view(np.float64)
    inexact = np.isfinite(total) & np.isfinite(rest) & (rest != 0) & (bits & 1 == 0)
    return np.where(inexact, adjusted, total)


def _two_product(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x * y rounded, and the exact rest (Veltkamp, Dekker), away from over- and underflow."""
    x1, x0 = _split(x)
    y1, y0 = _split(y)
    product = x * y
    return product, ((x1 * y1 - product) + x1 * y0 + x0 * y1) + x0 * y0


def _split(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scaled = x * 134217729.0  # 2^27 + 1
    upper = scaled - (scaled - x)
    return upper, x - upper


def fma64(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """x * y + z rounded once (Boldo and Melquiond, 2008)."""
    x, y, z = (np.ascontiguousarray(v) for v in np.broadcast_arrays(x, y, z))
    upper, lower = _two_product(x, y)
    high, low = two_sum(z, lower)
    top, rest = two_sum(upper, high)
    result = top + odd_sum(low, rest)
    plain = x * y + z  # right where the product is exact anyway: infinities, NaN, zeros
    plain = np.where(np.isinf(z) & np.isfinite(x) & np.isfinite(y), z, plain)
    trivial = ~np.isfinite(plain) & ~(np.isfinite(x) & np.isfinite(y) & np.isfinite(z))
    trivial |= (x == 0) | (y == 0)
    result = np.where(trivial, plain, result)

    def in_range(v):
        return (np.abs(v) > 2.0**-400) & (np.abs(v) < 2.0**400)

    safe = trivial | (in_range(x) & in_range(y) & (in_range(z) | (z == 0)))
    for place in np.flatnonzero(~safe | ((result == 0) & ~trivial)):  # 0: a cancellation is +0
        exact = Fraction(float(x[place])) * Fraction(float(y[place])) + Fraction(float(z[place]))
        result[place] = round_exact(exact, np.float64, "rn")
    return result


def round_exact(value: Fraction, dtype, mode: str):
    """A rational number rounded to a float format: rn (to even), rz, rm (down), rp (up)."""
    dtype = np.dtype(dtype)
    precision, least = _FORMATS[dtype.itemsize]
    if value == 0:
        return dtype.type(0)
    magnitude, negative = abs(value), value < 0
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    exponent -= magnitude < Fraction(2) ** exponent  # 2^exponent <= magnitude
    unit = max(exponent - precision + 1, least)
    scaled = magnitude / Fraction(2) ** unit
    count = scaled.numerator // scaled.denominator
    rest = scaled - count
    outwards = {"rz": False, "rm": negative, "rp": not negative}
    if mode == "rn":
        up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and count % 2 == 1)
    else:
        up = rest > 0 and outwards[mode]
    count += up
    largest = (2**precision - 1) * Fraction(2) ** (_top_unit(precision))
    if count * Fraction(2) ** unit > largest:
        infinite = mode == "rn" or outwards[mode]
        size = math.inf if infinite else float(largest)
    else:
        size = math.ldexp(count, unit)
    return dtype.type(-size if negative else size)


def _top_unit(precision: int) -> int:
    """The exponent of the last bit of the largest finite number."""
    return {11: 15, 24: 127, 53: 1023}[precision] - precision + 1


def exactly(function, dtype, mode: str, *operands: np.ndarray) -> np.ndarray:
    """An operation on finite operands computed in rationals and rounded in a directed mode."""
    operands = np.broadcast_arrays(*operands)
    result = np.empty(operands[0].size, dtype)
    for place, values in enumerate(zip(*(v.tolist() for v in operands), strict=True)):
        if not all(math.isfinite(value) for value in values):
            result[place] = function(*(np.float64(value) for value in values))
            continue
        exact = function(*(Fraction(value) for value in values))
        result[place] = round_exact(exact, dtype, mode)
        if exact == 0:  # a product keeps its sign, a cancellation is +0 (rm, the exception, is
            # offered for conversions only)
            result[place] = function(*(np.float64(value) for value in values))
    return result
