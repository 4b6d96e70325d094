"""What the primitives give, by their definitions."""

import re
import struct
from fractions import Fraction

import numpy as np


def mask_of(condition):
    """For each thread of two warps: the ballot of its warp."""
    bits = condition.reshape(2, 32).astype(np.uint64) << np.arange(32, dtype=np.uint64)
    return np.repeat(bits.sum(axis=1), 32).astype(np.uint32).view(np.int32)


def permuted(low, high, selector):
    """__byte_perm by its definition."""
    both = low | high << 32
    result = 0
    for i in range(4):
        nibble = selector >> 4 * i & 15
        byte = both >> 8 * (nibble & 7) & 255
        result |= (255 * (byte >> 7) if nibble & 8 else byte) << 8 * i
    return result


def bits_expected(v):
    """The column of one thread in `bits`, in Python's integers and NumPy's floats."""
    u = v & 0xFFFFFFFF
    lowest = (u & -u).bit_length()
    unsigned = struct.pack("i", v), struct.pack("I", v * 77 & 0xFFFFFFFF)
    signed = [np.frombuffer(x, np.int8).tolist() for x in unsigned]
    dot = sum(a * b for a, b in zip(*signed, strict=True))
    unsigned_dot = sum(a * b for a, b in zip(*unsigned, strict=True))
    f32, f64 = np.float32, np.float64
    return [
        101 * u.bit_count(),
        (32 - u.bit_length()) + 100 * (64 - u.bit_length()),
        lowest + 100 * (lowest + 20 if u else 0),
        int(f"{u:032b}"[::-1], 2),
        permuted(u, ~u & 0xFFFFFFFF, 0x5140),
        permuted(u, ~u & 0xFFFFFFFF, 0x89AB),
        dot + 3,
        unsigned_dot + 3,
        u * 0x9E3779B9 >> 32,
        min(u, 5) + max(-1, v) + min(3, v),
        int(f32(f64(v) * f64(f32(1.1)) + f64(f32(0.3))).view(np.int32)),
        int(np.rint(v * 0.5)),
        int(f32(v * 0.1).view(np.int32)),
        fused_double(v) >> 7,
        int(f32(2).view(np.int32)),
        3,
        int(np.nextafter(f32(v), f32(1e30)).view(np.int32)),
    ]


def fused_double(v):
    """The bits of v * 0.1 + 0.3 rounded once."""
    exact = v * Fraction(0.1) + Fraction(0.3)
    return int(np.float64(exact.numerator / exact.denominator).view(np.int64))


def floats_around_every_half():
    """Every half, every middle between two, its neighbours on both sides, and what overflows."""
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    halves = np.append(halves, np.float32(65536))
    middle = (halves[:-1] + halves[1:]) / 2
    x = np.concatenate([halves, middle, np.nextafter(middle, 0), np.nextafter(middle, np.inf)])
    x = np.concatenate([x, -x, np.float32([np.inf, -np.inf, np.nan, 1e-30, 3e38])])
    return x.astype(np.float32)


class Mistake:
    """A kernel of mistakes.cu and the reports that are right, as (words, line)."""

    def __init__(self):
        self.reports = []
        self.is_fatal = False

    def is_reported_by(self, text):
        """Is it one of the right reports, with the right line?"""
        return any(
            words in text and re.search(rf"\bmistakes\.cu:{line}\b", text)
            for words, line in self.reports
        )


def mistakes(text):
    """All kernels of mistakes.cu, by name; one without a report is a control."""
    kernels = {}
    for number, line in enumerate(text.splitlines()):  # the first line is the #line
        if entry := re.match(r'extern "C" __global__ .* (\w+)\(', line):
            last = kernels[entry[1]] = Mistake()
        if comment := re.search(r"// (MISTAKE|FATAL)(?: either)?: (.*)", line):
            last.reports.append((comment[2], number))
            last.is_fatal = comment[1] == "FATAL"
    return kernels
