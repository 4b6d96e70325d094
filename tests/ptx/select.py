"""Comparisons, selections and moves."""

import numpy as np

from .decode import TYPES, Instruction, opcode
from .integer import elementwise

PRED = TYPES["pred"]
_COMPARE = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
_UNSIGNED = {"lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal}
_COMBINE = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}


def _comparison(ins: Instruction):
    """Takes the comparison, the combination and the type; returns a function and the last two."""
    unordered = {f"{name}u": name for name in _COMPARE}
    name = ins.take(*_COMPARE, *_UNSIGNED, *unordered, "num", "nan")
    combine = ins.maybe(*_COMBINE)
    return name, unordered, combine


def _comparing(ins: Instruction, name: str, unordered: dict, type):
    if type.letter == "f":
        if name in ("num", "nan"):
            return lambda x, y: (np.isnan(x) | np.isnan(y)) == (name == "nan")
        if name in unordered:
            function = _COMPARE[unordered[name]]
            return lambda x, y: function(x, y) | np.isnan(x) | np.isnan(y)
        if name == "ne":  # NumPy's not_equal holds for NaN, the ordered one does not
            return lambda x, y: (x != y) & ~np.isnan(x) & ~np.isnan(y)
    allowed = {"b": ("eq", "ne"), "u": (*_COMPARE, *_UNSIGNED)}.get(type.letter, tuple(_COMPARE))
    if name not in allowed:
        ins.refuse(f"the comparison .{name} does not fit .{type.name}")
    return _COMPARE.get(name) or _UNSIGNED[name]


@opcode("setp")
def _set_predicate(ins: Instruction):
    name, unordered, combine = _comparison(ins)
    type = ins.type("b", "u", "s", "f")
    compare = _comparing(ins, name, unordered, type)
    ins.expect(3 + (combine is not None))
    targets = [target.strip() for target in ins.operands[0].split("|")]
    if len(targets) > 2:
        ins.refuse("two destinations at most")
    writes = [ins.write(target, PRED) for target in targets]
    first, second = ins.read(1, type), ins.read(2, type)
    third = ins.read(3, PRED) if combine else None

    def step(machine, lanes):
        holds = compare(first(machine, lanes), second(machine, lanes))
        results = [holds, ~holds]
        if third:
            other = third(machine, lanes)
            results = [_COMBINE[combine](result, other) for result in results]
        for write, result in zip(writes, results, strict=False):
            write(machine, lanes, result)

    return step


@opcode("set")
def _set(ins: Instruction):
    name, unordered, combine = _comparison(ins)
    if combine:
        ins.refuse("a combined set is not supported")
    target, type = ins.type("u32", "s32", "f32"), ins.type("b", "u", "s", "f")
    compare = _comparing(ins, name, unordered, type)
    true = target.dtype.type(1.0) if target.letter == "f" else np.array(-1).astype(target.dtype)
    zero = target.dtype.type(0)
    return elementwise(
        ins,
        lambda x, y: np.where(compare(x, y), true, zero).astype(target.dtype),
        target,
        type,
        type,
    )


@opcode("selp")
def _select(ins: Instruction):
    type = ins.type("b", "u", "s", "f32", "f64")
    return elementwise(ins, lambda x, y, holds: np.where(holds, x, y), type, type, type, PRED)


@opcode("slct")
def _select_by_sign(ins: Instruction):
    type, sign = ins.type("b", "u", "s", "f32", "f64"), ins.type("s32", "f32")
    return elementwise(ins, lambda x, y, c: np.where(c >= 0, x, y), type, type, type, sign)


@opcode("mov")
def _move(ins: Instruction):
    type = ins.type("pred", "b", "u", "s", "f32", "f64")
    ins.expect(2)
    target, source = ins.operands
    if target.startswith("{") == source.startswith("{"):
        return elementwise(ins, np.copy, type, type)
    if type.letter != "b":
        ins.refuse("a vector is moved as bits")
    parts = ins.vector(source if source.startswith("{") else target)
    if f"b{type.bits // len(parts)}" not in TYPES or len(parts) not in (2, 4):
        ins.refuse("a vector of this length does not exist")
    part = TYPES[f"b{type.bits // len(parts)}"]
    shifts = [type.raw.type(part.bits * number) for number in range(len(parts))]
    if source.startswith("{"):
        reads, write = [ins.read(name, part) for name in parts], ins.write(0, type)

        def pack(machine, lanes):
            result = type.raw.type(0)
            for read, shift in zip(reads, shifts, strict=True):
                result = result | read(machine, lanes).astype(type.raw) << shift
            write(machine, lanes, result)

        return pack
    read, writes = ins.read(1, type), [ins.write(name, part) for name in parts]

    def unpack(machine, lanes):
        whole = read(machine, lanes).copy()  # a part may be written where the whole lies
        for write, shift in zip(writes, shifts, strict=True):
            write(machine, lanes, (whole >> shift).astype(part.raw))

    return unpack
