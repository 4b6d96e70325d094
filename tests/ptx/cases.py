"""Integer expressions in C with what they must give, in Python's unbounded integers.

For the tests of this package: {C code: (function of x, y, z, are the operands signed?)}; the result
is taken modulo the width. Code with a semicolon sets r, the rest is an expression.
"""


def asm(opcode, *inputs, out="r"):
    """Inline PTX that sets r; an input is "r:x" or a constant."""
    operands = [f"%{i + 1}" for i in range(len(inputs))]
    constraints = ", ".join(f'"{i.split(":")[0]}"({i.split(":")[1]})' for i in inputs)
    return f'asm("{opcode} %0, {", ".join(operands)};" : "={out}"(r) : {constraints});'


def quotient(x, y):
    return abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)


def field(value, position, length, bits, signed):
    """bfe by the manual's own loop."""
    position, length = position % 256, length % 256
    top = min(position + length - 1, bits - 1)
    sign = value >> top & 1 if signed and length else 0
    result = 0
    for i in range(bits):
        inside = i < length and position + i < bits
        result |= (value >> (position + i) & 1 if inside else sign) << i
    return result


def inserted(x, y, position, length, bits):
    for i in range(min(length % 256, bits)):
        if position % 256 + i < bits:
            place = position % 256 + i
            y = y & ~(1 << place) | (x >> i & 1) << place
    return y


def permuted(x, y, selector):
    data, result = (x | y << 32).to_bytes(8, "little"), 0
    for i in range(4):
        choice = selector >> 4 * i & 15
        byte = data[choice & 7]
        result |= (255 * (byte >> 7) if choice & 8 else byte) << 8 * i
    return result


def two_conditions(p, q):
    return (p ^ q) + 2 * (p and not q) + 4 * (p or q)


def shifted_left(x, n, bits):
    return x << n if n < bits else 0


def lut(x, y, z, table):
    return sum(
        (table >> ((x >> i & 1) << 2 | (y >> i & 1) << 1 | z >> i & 1) & 1) << i for i in range(32)
    )


WORDS = {
    "x + y": (lambda x, y, z: x + y, False),
    "x - y": (lambda x, y, z: x - y, False),
    "x * y + z": (lambda x, y, z: x * y + z, False),
    "__umulhi(x, y)": (lambda x, y, z: x * y >> 32, False),
    "__mulhi((int)x, (int)y)": (lambda x, y, z: x * y >> 32, True),
    "(int)x / (int)(y | 1)": (lambda x, y, z: quotient(x, y | 1), True),
    "(int)x % (int)(y | 1)": (lambda x, y, z: x - (y | 1) * quotient(x, y | 1), True),
    "x / (y | 1)": (lambda x, y, z: x // (y | 1), False),
    "x % (y | 1)": (lambda x, y, z: x % (y | 1), False),
    "x % 10 + x / 7": (lambda x, y, z: x % 10 + x // 7, False),
    "min((int)x, (int)y)": (lambda x, y, z: min(x, y), True),
    "max(x, y) ^ min(x, z)": (lambda x, y, z: max(x, y) ^ min(x, z), False),
    "abs((int)x) + -(int)y": (lambda x, y, z: abs(x) - y, True),
    "(x & y) | (~x & z)": (lambda x, y, z: (x & y) | (~x & z), False),
    "(x ^ y) ^ ~z": (lambda x, y, z: x ^ y ^ ~z, False),
    "x << (y & 31)": (lambda x, y, z: x << (y & 31), False),
    "(int)x >> (y & 31)": (lambda x, y, z: x >> (y & 31), True),
    asm("shl.b32", "r:x", "r:y"): (lambda x, y, z: shifted_left(x, y, 32), False),
    asm("shr.u32", "r:x", "r:y"): (lambda x, y, z: x >> min(y, 32), False),
    asm("shr.s32", "r:x", "r:y"): (lambda x, y, z: x >> min(y % 2**32, 31), True),
    "__popc(x)": (lambda x, y, z: x.bit_count(), False),
    "__clz(x)": (lambda x, y, z: 32 - x.bit_length(), False),
    "__ffs(x)": (lambda x, y, z: (x & -x).bit_length(), False),
    "__brev(x)": (lambda x, y, z: int(f"{x:032b}"[::-1], 2), False),
    asm("bfind.u32", "r:x"): (lambda x, y, z: x.bit_length() - 1, False),
    asm("bfind.s32", "r:x"): (lambda x, y, z: (x if x >= 0 else ~x).bit_length() - 1, True),
    asm("bfind.shiftamt.u32", "r:x"): (
        lambda x, y, z: 32 - x.bit_length() if x else -1,
        False,
    ),
    asm("bfe.u32", "r:x", "r:y", "r:z"): (lambda x, y, z: field(x, y, z, 32, False), False),
    asm("bfe.s32", "r:x", "r:y", "r:z"): (lambda x, y, z: field(x, y, z, 32, True), False),
    asm("bfi.b32", "r:x", "r:z", "r:y", "r:z"): (lambda x, y, z: inserted(x, z, y, z, 32), False),
    asm("prmt.b32", "r:x", "r:y", "r:z"): (permuted, False),
    asm("lop3.b32", "r:x", "r:y", "r:z", "n:0xE8"): (
        lambda x, y, z: lut(x, y, z, 0xE8),
        False,
    ),
    asm("lop3.b32", "r:x", "r:y", "r:z", "n:0x1B"): (
        lambda x, y, z: lut(x, y, z, 0x1B),
        False,
    ),
    "__funnelshift_l(x, y, z)": (lambda x, y, z: (y << 32 | x) << z % 32 >> 32, False),
    "__funnelshift_r(x, y, z)": (lambda x, y, z: (y << 32 | x) >> z % 32, False),
    "__funnelshift_lc(x, y, z)": (lambda x, y, z: (y << 32 | x) << min(z, 32) >> 32, False),
    "__funnelshift_rc(x, y, z)": (lambda x, y, z: (y << 32 | x) >> min(z, 32), False),
    "__sad((int)x, (int)y, z)": (lambda x, y, z: abs(x - y) + z, True),
    "__dp4a((int)x, (int)y, (int)z)": (
        lambda x, y, z: (
            z
            + sum(
                p * q
                for p, q in zip(
                    *(memoryview(v.to_bytes(4, "little", signed=True)).cast("b") for v in (x, y)),
                    strict=True,
                )
            )
        ),
        True,
    ),
    asm("slct.b32.s32", "r:x", "r:y", "r:z"): (lambda x, y, z: x if z >= 0 else y, True),
    asm("set.lt.u32.s32", "r:x", "r:y"): (lambda x, y, z: -(x < y), True),
    "(short)x * (short)y + (unsigned char)z": (
        lambda x, y, z: ((x + 2**15) % 2**16 - 2**15) * ((y + 2**15) % 2**16 - 2**15) + z % 256,
        False,
    ),
    "(signed char)x - (unsigned short)y": (
        lambda x, y, z: (x + 128) % 256 - 128 - y % 65536,
        False,
    ),
    "((int)x < 5 && y > 7u || z == 2) + (x <= y) * 2": (
        lambda x, y, z: (((x < 5 or x >= 2**31) and y > 7) or z == 2) + (x <= y) * 2,
        False,
    ),
    asm("cvt.sat.s8.s32", "r:x"): (lambda x, y, z: min(max(x, -128), 127), True),
    asm("cvt.sat.u16.s32", "r:x"): (lambda x, y, z: min(max(x, 0), 65535), True),
    asm("cvt.s16.u32", "r:x"): (lambda x, y, z: (x + 2**15) % 2**16 - 2**15, False),
    asm("and.b32", "r:x", "n:-4"): (lambda x, y, z: x & -4, False),
    'asm("mad.hi.s32 %0, %1, %2, %3;" : "=r"(r) : "r"(x), "r"(y), "r"(z));': (
        lambda x, y, z: (x * y >> 32) + z,
        True,
    ),
    "bool p = (int)x < 3, q = y > z; r = (p ^ q) + 2 * (p & !q) + 4 * (p | q);": (
        lambda x, y, z: two_conditions((x + 2**31) % 2**32 - 2**31 < 3, y > z),
        False,
    ),
    # both destinations of a setp, combined with a third predicate
    'asm("{.reg .pred p, q, s; setp.ne.u32 s, %3, 0; setp.lt.and.u32 p|q, %1, %2, !s; '
    'selp.u32 %0, 1, 0, p; @q add.u32 %0, %0, 2;}" : "=r"(r) : "r"(x), "r"(y), "r"(z));': (
        lambda x, y, z: 0 if z else 1 if x < y else 2,
        False,
    ),
    'asm("{.reg .pred p; isspacep.shared p, %1; selp.u32 %0, 1, 0, p; isspacep.global p, %1; '
    '@p add.u32 %0, %0, 2;}" : "=r"(r) : "l"(a.x));': (lambda x, y, z: 2, False),
    "(u32)((u64)x * y + z >> 7)": (lambda x, y, z: x * y + z >> 7, False),
}

LONGS = {
    "x * y + z": (lambda x, y, z: x * y + z, False),
    "x - y ^ ~z": (lambda x, y, z: (x - y) ^ ~z, False),
    "__umul64hi(x, y)": (lambda x, y, z: x * y >> 64, False),
    "__mul64hi((s64)x, (s64)y)": (lambda x, y, z: x * y >> 64, True),
    "(s64)x / (s64)(y | 1)": (lambda x, y, z: quotient(x, y | 1), True),
    "x % (y | 1)": (lambda x, y, z: x % (y | 1), False),
    "min((s64)x, (s64)y)": (lambda x, y, z: min(x, y), True),
    "max(x, y)": (lambda x, y, z: max(x, y), False),
    "llabs((s64)x)": (lambda x, y, z: abs(x), True),
    asm("shl.b64", "l:x", "r:(u32)y", out="l"): (
        lambda x, y, z: shifted_left(x, y % 2**32, 64),
        False,
    ),
    asm("shr.s64", "l:x", "r:(u32)y", out="l"): (
        lambda x, y, z: x >> min(y % 2**32, 63),
        True,
    ),
    "__popcll(x)": (lambda x, y, z: x.bit_count(), False),
    "__clzll(x)": (lambda x, y, z: 64 - x.bit_length(), False),
    "__brevll(x)": (lambda x, y, z: int(f"{x:064b}"[::-1], 2), False),
    asm("bfe.s64", "l:x", "r:(u32)y", "r:(u32)z", out="l"): (
        lambda x, y, z: field(x, y, z, 64, True),
        False,
    ),
    asm("bfi.b64", "l:x", "l:z", "r:(u32)y", "r:(u32)z", out="l"): (
        lambda x, y, z: inserted(x, z, y, z, 64),
        False,
    ),
    "(s64)(int)x * (int)y": (
        lambda x, y, z: ((x + 2**31) % 2**32 - 2**31) * ((y + 2**31) % 2**32 - 2**31),
        False,
    ),
    "(u64)(u32)x << 32 | (u32)y": (lambda x, y, z: x % 2**32 << 32 | y % 2**32, False),
    "((s64)x < (s64)y) + (x < y) * 2 + (x == z) * 4": (
        lambda x, y, z: (x < y) + (x % 2**64 < y % 2**64) * 2 + (x == z) * 4,
        True,
    ),
    # 128 bits by the carry flag: the upper halves of a sum, a difference, a product
    'u64 s; asm("{add.cc.u64 %0, %2, %3; addc.u64 %1, %2, 0;}" : "=l"(s), "=l"(r) : "l"(x), '
    '"l"(y));': (lambda x, y, z: x + (x + y >> 64), False),
    'u64 s; asm("{sub.cc.u64 %0, %2, %3; subc.u64 %1, %3, %4;}" : "=&l"(s), "=l"(r) : "l"(x), '
    '"l"(y), "l"(z));': (lambda x, y, z: y - z - (x < y), False),
    'u64 s; asm("{mad.lo.cc.u64 %0, %2, %3, %4; madc.hi.u64 %1, %2, %3, 0;}" : "=&l"(s), '
    '"=l"(r) : "l"(x), "l"(y), "l"(z));': (lambda x, y, z: x * y + z >> 64, False),
}
