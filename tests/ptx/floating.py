"""Float arithmetic. Subnormals are kept; a NaN result of 16 or 32 bits is the canonical one."""

import operator

import numpy as np

from . import integer
from .decode import TYPES, Instruction, Type, opcode
from .exact import exactly, fma64, odd_sum
from .integer import elementwise

F16, F32, F64 = TYPES["f16"], TYPES["f32"], TYPES["f64"]


def canonical(values: np.ndarray) -> np.ndarray:
    """Every NaN of 16 or 32 bits as 0x7fff or 0x7fffffff; those of 64 bits as they are."""
    if values.dtype == np.float64:
        return values
    raw = np.dtype(f"u{values.dtype.itemsize}")
    nan = np.array(np.iinfo(raw).max >> 1, raw).view(values.dtype)
    return np.where(np.isnan(values), nan, values)


def saturated(values: np.ndarray) -> np.ndarray:
    """Clamped to 0 and 1; NaN becomes 0."""
    one, zero = values.dtype.type(1), values.dtype.type(0)
    return np.where(values > 0, np.minimum(values, one), zero)


def is_float(ins: Instruction) -> bool:
    return bool(ins.modifiers) and ins.modifiers[-1].startswith("f")


def _float_arithmetic(ins: Instruction, names: str, plain, count: int):
    """add, sub, mul and fma: `plain` computes on NumPy arrays as well as on rationals."""
    mode = ins.maybe("rn", "rz")
    saturates = ins.maybe("sat") is not None
    type = ins.type("f", "f16x2")
    if (mode == "rz" or saturates) and type not in (F32, F64):
        ins.refuse("only float32 and float64 are rounded this way")
    dtype = type.dtype.type

    def function(*operands):
        if mode == "rz":
            result = exactly(plain, dtype, mode, *operands)
        elif names != "fma":
            result = plain(*operands)
        elif type is F64:
            result = fma64(*operands)
        else:  # the product of two float32 is exact in float64
            x, y, z = (operand.astype(np.float64) for operand in operands)
            result = odd_sum(x * y, z).astype(dtype)
        return canonical(saturated(result) if saturates else result)

    return elementwise(ins, function, type, *[type] * count)


@opcode("add", "sub")
def _add_subtract(ins: Instruction):
    if not is_float(ins):
        return integer.add_subtract(ins)
    function = operator.add if ins.name == "add" else operator.sub
    return _float_arithmetic(ins, ins.name, function, 2)


@opcode("mul")
def _multiply(ins: Instruction):
    if not is_float(ins):
        return integer.multiply(ins)
    return _float_arithmetic(ins, "mul", operator.mul, 2)


@opcode("fma")
def _fused(ins: Instruction):
    if not ins.modifiers or ins.modifiers[0] not in ("rn", "rz"):
        ins.refuse("a rounding is expected")
    return _float_arithmetic(ins, "fma", lambda x, y, z: x * y + z, 3)


@opcode("div")
def _divide(ins: Instruction):
    if not is_float(ins):
        return integer.divide(ins)
    ins.take("rn")
    type = ins.type("f32", "f64")
    return elementwise(ins, lambda x, y: canonical(x / y), type, type, type)


@opcode("sqrt")
def _square_root(ins: Instruction):
    ins.take("rn")
    type = ins.type("f32", "f64")
    return elementwise(ins, lambda x: canonical(np.sqrt(x)), type, type)


@opcode("rcp")
def _reciprocal(ins: Instruction):
    ins.take("rn")
    type = ins.type("f32", "f64")
    return elementwise(ins, lambda x: canonical(type.dtype.type(1) / x), type, type)


def _least(x, y, propagates: bool, sign: int):
    """min (sign 1) or max (-1): -0 is less than +0, a NaN is left out unless propagated."""
    first = (x < y) if sign > 0 else (x > y)
    tie_negative = np.signbit(x) | np.signbit(y) if sign > 0 else np.signbit(x) & np.signbit(y)
    zero = np.copysign(x.dtype.type(0), np.where(tie_negative, -1, 1).astype(x.dtype))
    result = np.where(first, x, np.where((x == 0) & (y == 0), zero, y))
    if propagates:
        return canonical(np.where(np.isnan(x), x, np.where(np.isnan(y), y, result)))
    return canonical(np.where(np.isnan(x), y, np.where(np.isnan(y), x, result)))


@opcode("min", "max")
def _minimum_maximum(ins: Instruction):
    if not is_float(ins):
        return integer.minimum_maximum(ins)
    propagates, sign = ins.maybe("NaN") is not None, 1 if ins.name == "min" else -1
    type = ins.type("f", "f16x2")
    if propagates and type is F64:
        ins.refuse("min and max of float64 do not propagate NaN")
    return elementwise(ins, lambda x, y: _least(x, y, propagates, sign), type, type, type)


@opcode("neg", "abs")
def _sign(ins: Instruction):
    if not is_float(ins):
        return integer.negate_absolute(ins)
    type = ins.type("f", "f16x2")
    raw = np.dtype(f"u{type.dtype.itemsize}")
    sign = raw.type(1 << (8 * raw.itemsize - 1))
    if ins.name == "neg":
        return elementwise(ins, lambda x: (x.view(raw) ^ sign).view(type.dtype), type, type)
    return elementwise(ins, lambda x: (x.view(raw) & ~sign).view(type.dtype), type, type)


@opcode("copysign")
def _copy_sign(ins: Instruction):
    type = ins.type("f32", "f64")
    return elementwise(ins, lambda sign, size: np.copysign(size, sign), type, type, type)


@opcode("testp")
def _test(ins: Instruction):
    what = ins.take("finite", "infinite", "number", "notanumber", "normal", "subnormal")
    type = ins.type("f32", "f64")
    tiny = np.finfo(type.dtype).tiny
    function = {
        "finite": np.isfinite,
        "infinite": np.isinf,
        "number": lambda x: ~np.isnan(x),
        "notanumber": np.isnan,
        "normal": lambda x: np.isfinite(x) & (np.abs(x) >= tiny),
        "subnormal": lambda x: (x != 0) & (np.abs(x) < tiny),
    }[what]
    return elementwise(ins, function, TYPES["pred"], type)


# conversions

_TO_INTEGRAL = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
_INTEGERS = [f"{letter}{bits}" for letter in "us" for bits in (8, 16, 32, 64)]


def _to_integer(values: np.ndarray, source: Type, target: Type, mode: str) -> np.ndarray:
    """Rounded to an integer and clamped to the target's range."""
    values = _TO_INTEGRAL[mode](values.astype(np.float64))
    limits = np.iinfo(target.dtype)
    above, below = values >= float(limits.max) + (target.bits < 64), values < limits.min
    inside = np.where(above | below | np.isnan(values), 0.0, values)
    if target.name == "u64":  # in two steps, as a float64 of 2^63 and more has no int64
        large = inside >= 2.0**63
        part = np.where(large, inside - 2.0**63, inside).astype(np.int64).view(np.uint64)
        result = part + np.where(large, np.uint64(2**63), np.uint64(0))
    else:
        result = inside.astype(np.int64).astype(target.dtype)
    result = np.where(above, target.dtype.type(limits.max), result)
    result = np.where(below, target.dtype.type(limits.min), result)
    # the PTX manual: a NaN is 0 between 32-bit types and narrower ones, else only the top bit
    small = source.bits < 64 and target.bits < 64
    nan = np.array(0 if small else 1 << (target.bits - 1), target.raw).view(target.dtype)
    return np.where(np.isnan(values), nan, result)


def _resize(values: np.ndarray, target: Type, saturates: bool) -> np.ndarray:
    if saturates:
        source, limits = np.iinfo(values.dtype), np.iinfo(target.dtype)
        least, most = max(source.min, limits.min), min(source.max, limits.max)
        values = np.clip(values, values.dtype.type(least), values.dtype.type(most))
    return values.astype(target.dtype)


def _to_float(values: np.ndarray, target: Type, mode: str) -> np.ndarray:
    if mode != "rn":
        return exactly(lambda value: value, target.dtype.type, mode, values)
    if target is F16 and values.dtype.kind != "f":
        values = values.astype(np.float64)  # NumPy would go through float32 and round twice
    return values.astype(target.dtype)


@opcode("cvt")
def _convert(ins: Instruction):
    mode = ins.maybe("rn", "rz", "rm", "rp", *_TO_INTEGRAL)
    saturates = ins.maybe("sat") is not None
    if ins.maybe("f16x2"):
        return _convert_pair(ins, mode, saturates)
    target, source = ins.type(*_INTEGERS, "f"), ins.type(*_INTEGERS, "f")
    to_float, from_float = target.letter == "f", source.letter == "f"
    if not to_float and from_float:
        wanted, function = _TO_INTEGRAL, lambda x: _to_integer(x, source, target, mode)
    elif not to_float:
        wanted, function = (None,), lambda x: _resize(x, target, saturates)
    elif not from_float or target.bits < source.bits:
        wanted, function = ("rn", "rz", "rm", "rp"), lambda x: _to_float(x, target, mode)
    elif target.bits > source.bits:
        wanted, function = (None,), lambda x: x.astype(target.dtype)
    else:
        wanted = (None, *_TO_INTEGRAL)
        function = _TO_INTEGRAL.get(mode, np.copy)
    if mode not in wanted:
        ins.refuse(f"the rounding .{mode} does not fit")
    finish = (lambda x: canonical(saturated(x) if saturates else x)) if to_float else lambda x: x
    ins.expect(2)
    write, read = ins.write(0, target, wider=True), ins.read(1, source, wider=True)
    return lambda machine, lanes: write(machine, lanes, finish(function(read(machine, lanes))))


def _convert_pair(ins: Instruction, mode: str | None, saturates: bool):
    """cvt.rn.f16x2.f32 d, high, low."""
    if mode not in ("rn", "rz") or saturates:
        ins.refuse("a pair is rounded by rn or rz")
    ins.take("f32")

    def convert(high, low):
        halves = [canonical(_to_float(value, F16, mode)) for value in (low, high)]
        return np.stack(np.broadcast_arrays(*halves), axis=1)

    return elementwise(ins, convert, TYPES["f16x2"], F32, F32)
