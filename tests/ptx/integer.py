"""Integer instructions, logic and shifts. NumPy integers wrap as the hardware's do."""

import numpy as np

from .decode import TYPES, Instruction, Type, opcode

U32, B32, PRED = TYPES["u32"], TYPES["b32"], TYPES["pred"]


def elementwise(ins: Instruction, function, target: Type, *sources: Type, first: int = 0):
    """A step that applies `function` to operands of the given types."""
    ins.expect(len(sources) + 1 + first)
    write = ins.write(0, target)
    reads = [ins.read(1 + number, type) for number, type in enumerate(sources)]
    return lambda m, lanes: write(m, lanes, function(*(read(m, lanes) for read in reads)))


def high_product(x: np.ndarray, y: np.ndarray, type: Type) -> np.ndarray:
    """The upper half of the double-width product, by halves of each factor."""
    half = type.bits // 2
    low = type.raw.type(2**half - 1)
    x, y = np.broadcast_arrays(x, y)
    a, b = x.view(type.raw), y.view(type.raw)
    shift = type.raw.type(half)
    a1, a0, b1, b0 = a >> shift, a & low, b >> shift, b & low
    middle = a1 * b0 + (a0 * b0 >> shift)  # cannot overflow: (w-1)^2 + w - 1 < w^2
    other = a0 * b1 + (middle & low)
    high = a1 * b1 + (middle >> shift) + (other >> shift)
    if type.letter == "s":  # the unsigned product counts a negative factor 2^bits too high
        zero = type.raw.type(0)
        high = high - np.where(x < 0, b, zero) - np.where(y < 0, a, zero)
    return high.view(type.dtype)


def _double(type: Type) -> Type:
    return TYPES[f"{type.letter}{2 * type.bits}"]


def _product(ins: Instruction):
    """The type of the factors, of the result, and the function of mul and mad."""
    part = ins.take("lo", "hi", "wide")
    carry = part != "wide" and ins.maybe("cc") is not None
    type = ins.type(*(("u16", "s16", "u32", "s32") if part == "wide" else ("u", "s")))
    if part == "wide":
        wide = _double(type)
        return type, wide, carry, lambda x, y: x.astype(wide.dtype) * y.astype(wide.dtype)
    return type, type, carry, (lambda x, y: x * y) if part == "lo" else _high_of(type)


def _high_of(type: Type):
    return lambda x, y: high_product(x, y, type)


def multiply(ins: Instruction):
    type, result, carry, product = _product(ins)
    if carry:
        ins.refuse("mul sets no carry")
    return elementwise(ins, product, result, type, type)


@opcode("mad", "madc")
def _multiply_add(ins: Instruction):
    type, result, sets_carry, product = _product(ins)
    if sets_carry or ins.name == "madc":
        return _with_carry(ins, type, [type, type, type], sets_carry, product)
    return elementwise(ins, lambda x, y, z: product(x, y) + z, result, type, type, type)


def add_subtract(ins: Instruction):
    sets_carry = ins.maybe("cc") is not None
    type = ins.type(*(("u32", "s32", "u64", "s64") if sets_carry else ("u", "s")))
    if sets_carry:
        return _with_carry(ins, type, [type, type], True, None)
    function = np.add if ins.name == "add" else np.subtract
    return elementwise(ins, function, type, type, type)


@opcode("addc", "subc")
def _add_subtract_carry(ins: Instruction):
    sets_carry = ins.maybe("cc") is not None
    type = ins.type("u32", "s32", "u64", "s64")
    return _with_carry(ins, type, [type, type], sets_carry, None)


def _with_carry(ins: Instruction, type: Type, sources: list[Type], sets: bool, product):
    """add, sub and mad with the carry flag, which every thread has one of."""
    ins.expect(1 + len(sources))
    uses, subtracts = ins.name.endswith("c"), ins.name.startswith("sub")
    write = ins.write(0, type)
    reads = [ins.read(1 + number, source) for number, source in enumerate(sources)]

    def step(m, lanes):
        *factors, last = (read(m, lanes) for read in reads)
        x = (product(*factors) if product else factors[0]).view(type.raw)
        y = last.view(type.raw)
        carry = m.carry[lanes.select].astype(type.raw) if uses else type.raw.type(0)
        if subtracts:
            partial = x - y
            result, out = partial - carry, (x < y) | (partial < carry)
        else:
            partial = x + y
            result = partial + carry
            out = (partial < x) | (result < partial)
        write(m, lanes, result.view(type.dtype))
        if sets:
            m.carry[lanes.select] = out

    return step


def _divide(x, y):
    """Truncation toward zero; the remainder has the sign of the dividend, as in C."""
    return (x - np.fmod(x, y)) // y


def divide(ins: Instruction):
    type = ins.type("u", "s")
    ins.expect(3)
    function = _divide if ins.name == "div" else np.fmod
    write, first, second = ins.write(0, type), ins.read(1, type), ins.read(2, type)

    def step(machine, lanes):
        x, y = first(machine, lanes), second(machine, lanes)
        if (y == 0).any():
            lane = np.flatnonzero(np.broadcast_to(y == 0, lanes.count))[0]
            machine.fail(int(lanes.ids[lane]), "an integer division by 0 has no defined result")
        write(machine, lanes, function(x, y))

    return step


opcode("rem")(divide)


def minimum_maximum(ins: Instruction):
    type = ins.type("u", "s")
    return elementwise(ins, np.minimum if ins.name == "min" else np.maximum, type, type, type)


def negate_absolute(ins: Instruction):
    type = ins.type("s")
    return elementwise(ins, np.negative if ins.name == "neg" else np.abs, type, type)


@opcode("and", "or", "xor")
def _logic(ins: Instruction):
    type = ins.type("pred", "b")
    function = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}[ins.name]
    return elementwise(ins, function, type, type, type)


@opcode("not")
def _not(ins: Instruction):
    type = ins.type("pred", "b")
    return elementwise(ins, np.invert, type, type)


def shift(value: np.ndarray, amount: np.ndarray, left: bool) -> np.ndarray:
    """Shifts by the whole width and more give 0, or the sign."""
    bits = value.dtype.itemsize * 8
    inside = np.minimum(amount, bits - 1).astype(value.dtype)
    shifted = value << inside if left else value >> inside
    far = shifted if not left and value.dtype.kind == "i" else value.dtype.type(0)
    return np.where(amount >= bits, far, shifted)


@opcode("shl", "shr")
def _shift(ins: Instruction):
    left = ins.name == "shl"
    type = ins.type(*(("b",) if left else ("b", "u", "s")))
    return elementwise(ins, lambda x, n: shift(x, n, left), type, type, U32)


@opcode("shf")
def _funnel_shift(ins: Instruction):
    left, wraps = ins.take("l", "r") == "l", ins.take("wrap", "clamp") == "wrap"
    ins.take("b32")

    def funnel(low, high, amount):
        n = amount & np.uint32(31) if wraps else np.minimum(amount, np.uint32(32))
        both = low.astype(np.uint64) | high.astype(np.uint64) << np.uint64(32)
        if left:  # the upper word of both << n
            upper = high.astype(np.uint64) << n.astype(np.uint64)
            return (upper | shift(low, np.uint32(32) - n, False)).astype(np.uint32)
        return (both >> n.astype(np.uint64)).astype(np.uint32)

    return elementwise(ins, funnel, B32, B32, B32, U32)


@opcode("sad")
def _sum_of_differences(ins: Instruction):
    type = ins.type("u", "s")
    function = lambda x, y, z: np.maximum(x, y) - np.minimum(x, y) + z  # noqa: E731
    return elementwise(ins, function, type, type, type, type)


@opcode("dp4a")
def _dot_product(ins: Instruction):
    first, second = ins.type("u32", "s32"), ins.type("u32", "s32")
    result = TYPES["s32" if "s" in first.letter + second.letter else "u32"]

    def dot(x, y, z):
        a, b = (np.ascontiguousarray(v).view(f"{v.dtype.kind}1").reshape(-1, 4) for v in (x, y))
        products = a.astype(np.int64) * b.astype(np.int64)
        return products.sum(1).astype(np.int32).view(result.dtype) + z

    return elementwise(ins, dot, result, first, second, result)
