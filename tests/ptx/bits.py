"""Instructions on the bits of a register: fields, counts, permutations, tables."""

from functools import reduce

import numpy as np

from .decode import TYPES, Instruction, Type, opcode
from .integer import elementwise, shift

U32, B32 = TYPES["u32"], TYPES["b32"]


def _low_mask(length: np.ndarray, type: Type) -> np.ndarray:
    """The lowest `length` bits set."""
    return shift(np.full(1, 1, type.raw), length, True) - type.raw.type(1)


@opcode("bfe")
def _extract(ins: Instruction):
    type = ins.type("u32", "s32", "u64", "s64")

    def extract(value, position, length):
        position, length = position & np.uint32(255), length & np.uint32(255)
        mask = _low_mask(length, type)
        if type.letter == "u":
            return shift(value, position, False) & mask
        end = np.minimum(position + length - np.uint32(1), np.uint32(type.bits - 1))
        negative = (shift(value.view(type.raw), end, False) & type.raw.type(1)) * (length > 0)
        field = shift(value, position, False).view(type.raw) & mask
        return np.where(negative != 0, field | ~mask, field).astype(type.raw).view(type.dtype)

    return elementwise(ins, extract, type, type, U32, U32)


@opcode("bfi")
def _insert(ins: Instruction):
    type = ins.type("b32", "b64")

    def insert(field, background, position, length):
        position, length = position & np.uint32(255), length & np.uint32(255)
        mask = shift(_low_mask(length, type), position, True)
        return (background & ~mask) | (shift(field, position, True) & mask)

    return elementwise(ins, insert, type, type, type, U32, U32)


@opcode("popc")
def _population(ins: Instruction):
    type = ins.type("b32", "b64")
    return elementwise(ins, lambda x: np.bitwise_count(x).astype(np.uint32), U32, type)


def _top_bit(value: np.ndarray) -> np.ndarray:
    """The number of the highest set bit, -1 for 0."""
    for step in (1, 2, 4, 8, 16, 32):
        if step < value.dtype.itemsize * 8:
            value = value | value >> value.dtype.type(step)
    return np.bitwise_count(value).astype(np.int32) - np.int32(1)


@opcode("clz")
def _leading_zeros(ins: Instruction):
    type = ins.type("b32", "b64")
    count = np.int32(type.bits - 1)
    return elementwise(ins, lambda x: (count - _top_bit(x)).view(np.uint32), U32, type)


@opcode("bfind")
def _find_leading(ins: Instruction):
    as_shift = ins.maybe("shiftamt") is not None
    type = ins.type("u32", "s32", "u64", "s64")

    def find(x):
        top = _top_bit(np.where(x < 0, ~x, x).astype(type.dtype).view(type.raw))
        return np.where(as_shift & (top >= 0), np.int32(type.bits - 1) - top, top).view(np.uint32)

    return elementwise(ins, find, U32, type)


@opcode("brev")
def _reverse(ins: Instruction):
    type = ins.type("b32", "b64")

    def reverse(x):
        one = type.raw.type(1)
        bits = [
            (x >> type.raw.type(bit) & one) << type.raw.type(type.bits - 1 - bit)
            for bit in range(type.bits)
        ]
        return reduce(np.bitwise_or, bits)

    return elementwise(ins, reverse, type, type)


@opcode("prmt")
def _permute(ins: Instruction):
    ins.take("b32")

    def permute(low, high, selector):
        both = low.astype(np.uint64) | high.astype(np.uint64) << np.uint64(32)
        result = np.uint64(0)
        for byte in range(4):
            choice = selector.astype(np.uint64) >> np.uint64(4 * byte)
            chosen = both >> (choice & np.uint64(7)) * np.uint64(8) & np.uint64(255)
            sign = (chosen >> np.uint64(7)) * np.uint64(255)  # bit 3 replicates the sign bit
            chosen = np.where(choice & np.uint64(8), sign, chosen)
            result = result | chosen << np.uint64(8 * byte)
        return result.astype(np.uint32)

    return elementwise(ins, permute, B32, B32, B32, B32)


@opcode("lop3")
def _three_way_logic(ins: Instruction):
    ins.take("b32")
    ins.expect(5)
    table = int(ins.operands.pop(), 0)
    if not 0 <= table < 256:
        ins.refuse("the table has 8 bits")

    def logic(a, b, c):
        terms = [
            (a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c)
            for row in range(8)
            if table >> row & 1
        ]
        return reduce(np.bitwise_or, terms, (a & b & c) * np.uint32(0))

    return elementwise(ins, logic, B32, B32, B32, B32)
