"""The interpreter of PTX: every result bit against plain Python and NumPy, every refusal."""

import functools
import math
import re
import struct
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import ptx
import pytest
from ptx.cases import LONGS, WORDS

missing = ptx.why_not()
pytestmark = pytest.mark.skipif(missing is not None, reason=missing or "")
ARCHS = ["compute_80", "compute_100"]  # NVRTC has two back ends, these are one of each
N = 256  # threads of the tests of single expressions


class Buffer(NamedTuple):
    """A host array in the place of a device buffer."""

    address: int
    nbytes: int
    label: str


@functools.cache
def compiled(text, arch="compute_90"):
    from gpuann.cuda.compile import ptx as compile_ptx

    return compile_ptx(text, arch)


def kernel(body, members="const u32* x; u32* out; int n;", before=""):
    """The text of a kernel `k`; its arguments are the members of `a`, t is the thread."""
    return f"""
    #include <cuda_fp16.h>
    typedef unsigned u32; typedef unsigned long long u64; typedef long long s64;
    struct Args {{ {members} }};
    {before}
    extern "C" __global__ void __launch_bounds__(1024) k(const Args a) {{
        const int t = blockIdx.x * blockDim.x + threadIdx.x;
        {body}
    }}"""


def run_ptx(text, values, grid=1, block=N, shared=0):
    """Runs the kernel k; arrays are passed by address, integers as int."""
    arrays = [value for value in values if isinstance(value, np.ndarray)]
    argument = b""
    for value in values:
        if isinstance(value, np.ndarray):
            argument += struct.pack("Q", value.ctypes.data)
        else:
            argument += struct.pack("i", value)
    argument += bytes(-len(argument) % 8)
    buffers = [Buffer(a.ctypes.data, a.nbytes, f"array {i}") for i, a in enumerate(arrays)]
    program = ptx.Program(text, "k")
    program.run((grid, 1, 1), (block, 1, 1), argument, shared, buffers)
    return program


def run(text, values, arch="compute_90", **shape):
    return run_ptx(compiled(text, arch), values, **shape)


def evaluate(types, expressions, columns, arch):
    """{name: result} of C expressions of x, y, z; types: their C type, the results' C type."""
    source, result, dtype = types
    lines = "\n".join(
        f"{{ {result} r; {code if ';' in code else f'r = ({code});'} a.out[{i * N} + t] = r; }}"
        for i, code in enumerate(expressions)
    )
    members = f"const {source} *x, *y, *z; {result}* out;"
    body = f"{source} x = a.x[t], y = a.y[t], z = a.z[t]; (void)x; (void)y; (void)z; {lines}"
    out = np.zeros((len(expressions), N), dtype)
    run(kernel(body, members), [*columns, out], arch)
    return dict(zip(expressions, out, strict=True))


def columns(rng, bits):
    """x, y, z: the edges of the type against each other, then random bits, some small."""
    top = 1 << (bits - 1)
    edges = [0, 1, 2, 31, 32, 33, 63, 64, 255, top - 1, top, top + 1, 2 * top - 1, 2 * top - 2]
    random = np.frombuffer(rng.bytes(3 * N * bits // 8), f"u{bits // 8}").copy()
    x, y, z = random.reshape(3, N)
    pairs = [(p, q) for p in edges for q in edges][: N - 40]
    x[: len(pairs)], y[: len(pairs)] = np.array(pairs, x.dtype).T
    z[:20], z[20:30] = np.arange(20), 2 * top - 1
    return x, y, z


def check_integers(table, types, rng, arch, bits):
    """table: {C code: (function of Python integers, signed operands?)}; modulo the width."""
    x, y, z = columns(rng, bits)
    dtype = np.dtype(types[2])
    got = evaluate(types, list(table), (x, y, z), arch)
    for code, (function, signed) in table.items():
        as_type = np.dtype(f"i{bits // 8}") if signed else x.dtype
        rows = zip(*(v.view(as_type).tolist() for v in (x, y, z)), strict=True)
        want = [function(*row) % 2 ** (8 * dtype.itemsize) for row in rows]
        np.testing.assert_array_equal(got[code], np.array(want, dtype), err_msg=code)


@pytest.mark.parametrize("arch", ARCHS)
def test_words(rng, arch):
    check_integers(WORDS, ("u32", "u32", np.uint32), rng, arch, 32)


@pytest.mark.parametrize("arch", ARCHS)
def test_longs(rng, arch):
    check_integers(LONGS, ("u64", "u64", np.uint64), rng, arch, 64)


SPECIAL = [0.0, 1.0, 0.5, 1.5, 2.5, 1e-45, 1.1754944e-38, 3.4028235e38, np.inf, np.nan, 65504.0]
SPECIAL += [65519.9, 65520.0, 6e-8, 2.9802322e-08, 16777217.0, 2147483648.0, 4294967296.0, 127.5]
SPECIAL += [9.2233720368547758e18, 1.8446744073709552e19, 255.5, 0.49999997, 8388607.5, 1e300]


def float_columns(rng, dtype):
    """Special values against each other, then random bits, then numbers of like size."""
    with np.errstate(over="ignore"):
        special = np.array([*SPECIAL, *(-v for v in SPECIAL)], dtype)
    x, y, z = np.frombuffer(rng.bytes(3 * N * dtype().itemsize), dtype).copy().reshape(3, N)
    x[:200] = rng.choice(special, 200)
    y[:100], z[:50] = rng.choice(special, 100), rng.choice(special, 50)
    near = rng.standard_normal((3, 56)).astype(dtype)
    x[200:], y[200:], z[200:] = near
    z[228:] = -(x[228:] * y[228:])  # what is left is the rounding error of the product
    return x, y, z


def same_floats(got, want, name):
    assert got.dtype == want.dtype, name
    nan = np.isnan(want)
    np.testing.assert_array_equal(np.isnan(got), nan, err_msg=name)
    bits = np.dtype(f"u{got.dtype.itemsize}")
    np.testing.assert_array_equal(got.view(bits)[~nan], want.view(bits)[~nan], err_msg=name)
    if bits.itemsize < 8 and "abs" not in name and "-x" not in name:
        assert (got.view(bits)[nan] == np.iinfo(bits).max >> 1).all(), name


def nearest(exact, dtype):
    """A rational number rounded to the nearest, a tie to even."""
    try:
        with np.errstate(over="ignore"):
            guess = dtype(float(exact))
    except OverflowError:
        guess = dtype(np.inf if exact > 0 else -np.inf)
    if not np.isfinite(guess):
        return guess
    around = [np.nextafter(guess, dtype(-np.inf)), guess, np.nextafter(guess, dtype(np.inf))]
    bits = np.dtype(f"u{dtype().itemsize}")
    finite = [value for value in around if np.isfinite(value)]
    return min(finite, key=lambda v: (abs(Fraction(float(v)) - exact), int(v.view(bits)) & 1))


def fused(x, y, z):
    if not np.isfinite(x) or not np.isfinite(y) or np.isnan(z):
        return x * y + z
    if np.isinf(z):
        return z
    exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
    return nearest(exact, type(x)) if exact else type(x)(x * y + z if 0 in (x, y) else 0)


def least(x, y):
    return np.where(
        np.isnan(x), y, np.where((x < y) | np.isnan(y) | np.signbit(x) & (x == y), x, y)
    )


def most(x, y):
    return -least(-x, -y)


FLOATS = {
    "x + y": lambda x, y, z: x + y,
    "x - y": lambda x, y, z: x - y,
    "x * y": lambda x, y, z: x * y,
    "x / y": lambda x, y, z: x / y,
    "1 / x": lambda x, y, z: 1 / x,
    "sqrt(x)": lambda x, y, z: np.sqrt(x),
    "fma(x, y, z)": lambda x, y, z: np.array([fused(*row) for row in zip(x, y, z, strict=True)]),
    "-x": lambda x, y, z: -x,
    "fabs(x)": lambda x, y, z: np.abs(x),
    "fmin(x, y)": lambda x, y, z: least(x, y),
    "fmax(x, y)": lambda x, y, z: most(x, y),
    "floor(x)": lambda x, y, z: np.floor(x),
    "ceil(x)": lambda x, y, z: np.ceil(x),
    "trunc(x)": lambda x, y, z: np.trunc(x),
    "rint(x)": lambda x, y, z: np.rint(x),
    "round(x)": lambda x, y, z: np.where(
        np.abs(x) < 2**52, np.copysign(np.floor(np.abs(x.astype("f8")) + 0.5), x), x
    ).astype(x.dtype),
    "x < y ? x : y": lambda x, y, z: np.where(x < y, x, y),
    "!(x < y) ? x : z": lambda x, y, z: np.where(x < y, z, x),
    "x != y ? x : z": lambda x, y, z: np.where(x != y, x, z),
    "x == y ? 1 : x <= y ? 2 : 3": lambda x, y, z: np.where(
        x == y, 1, np.where(x <= y, 2, 3)
    ).astype(x.dtype),
    "isnan(x) ? 1 : isinf(x) ? 2 : isfinite(x) ? 3 : 4": lambda x, y, z: np.where(
        np.isnan(x), 1, np.where(np.isinf(x), 2, 3)
    ).astype(x.dtype),
    "copysign(x, y)": lambda x, y, z: np.copysign(x, y),
}


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(("name", "dtype"), [("float", np.float32), ("double", np.float64)])
def test_floats(rng, arch, name, dtype):
    values = float_columns(rng, dtype)
    got = evaluate((name, name, dtype), list(FLOATS), values, arch)
    with np.errstate(all="ignore"):
        for code, function in FLOATS.items():
            result = function(*values)
            if "round" in code and dtype == np.float64:  # 0.49999999999999994 + 0.5 is 1
                result = np.where(np.abs(values[0]) < 0.5, np.copysign(0.0, values[0]), result)
            if "?" in code or "copysign" in code:  # selections, not arithmetic: any NaN
                np.testing.assert_array_equal(got[code], result, err_msg=code)
            else:
                same_floats(got[code], result.astype(dtype), code)


@pytest.mark.parametrize("arch", ARCHS)
def test_rounding_toward_zero(rng, arch):
    x, y, z = float_columns(rng, np.float32)
    exact = {
        "__fadd_rz(x, y)": lambda x, y, z: x + y,
        "__fmul_rz(x, y)": lambda x, y, z: x * y,
        "__fmaf_rz(x, y, z)": lambda x, y, z: x * y + z,
    }
    got = evaluate(("float", "float", np.float32), [*exact, "__saturatef(x)"], (x, y, z), arch)
    with np.errstate(all="ignore"):
        clamped = np.where(x > 0, np.minimum(x, np.float32(1)), np.float32(0))
        same_floats(got["__saturatef(x)"], clamped, "saturate")
        for code, function in exact.items():
            for result, *row in zip(got[code], x, y, z, strict=True):
                if not all(map(np.isfinite, row)):
                    continue
                true = function(*(Fraction(float(value)) for value in row))
                beyond = np.nextafter(result, np.float32(math.copysign(np.inf, true)))
                limit = Fraction(float(beyond)) if np.isfinite(beyond) else np.inf
                assert abs(Fraction(float(result))) <= abs(true) < abs(limit), (code, row)
                assert true == 0 or np.signbit(result) == (true < 0), (code, row)


def test_fused_float64_leaves_no_range(rng):
    """fma.f64 where the error terms of its fast way would over- or underflow."""
    scale = np.ldexp(1.0, rng.integers(-1074, 1000, (3, N)))
    x, y, z = rng.standard_normal((3, N)) * scale
    with np.errstate(all="ignore"):
        z[::3] = -(x[::3] * y[::3])
        y[5::7] = 1 / x[5::7]
        x[4:6], y[4:6], z[4:6] = 321, 28059810762433, [2**-60, -(2**-60)]  # 2^53 + 1: a tie, but
        x[:4], y[:4], z[:4] = 1e300, 1e300, [np.inf, -np.inf, -1e300, np.nan]
        got = evaluate(("double", "double", np.float64), ["fma(x, y, z)"], (x, y, z), ARCHS[0])
        want = np.array([fused(*row) for row in zip(x, y, z, strict=True)])
    same_floats(got["fma(x, y, z)"], want, "fma")


def test_fused_float32_is_rounded_once():
    """A float64 between: 1 + 2^-24 + 2^-60 would become the tie 1 + 2^-24, and that 1."""
    x = np.full(N, 1 + 2**-12, np.float32)
    y, z = x * np.float32(2**-30), np.full(N, 1 + 2**-23, np.float32)
    x[1], y[1], z[1] = 2**-30, 2**-30, 1 + 2**-23
    x[2], y[2], z[2] = 1 + 2**-23, 2**-24, 1
    got = evaluate(("float", "float", np.float32), ["fmaf(x, y, z)"], (x, y, z), ARCHS[0])
    want = np.array([fused(*row) for row in zip(x, y, z, strict=True)], np.float32)
    same_floats(got["fmaf(x, y, z)"], want, "fma")
    assert want[2] == 1 + np.float32(2**-23)


def to_integer(values, mode, low, high, nan):
    """Rounds with Python's own functions, then clamps."""
    rounding = {"n": round, "z": math.trunc, "d": math.floor, "u": math.ceil}[mode]
    result = []
    for value in values.tolist():
        if math.isnan(value):
            result.append(nan)
        elif math.isinf(value):
            result.append(high if value > 0 else low)
        else:
            result.append(min(max(rounding(value), low), high))
    return np.array(result, object)


@pytest.mark.parametrize(("source", "dtype"), [("float", np.float32), ("double", np.float64)])
@pytest.mark.parametrize("mode", "nzdu")
def test_floats_to_integers(rng, source, dtype, mode):
    x, y, z = float_columns(rng, dtype)
    for result, target in (("int", "i4"), ("u32", "u4"), ("s64", "i8"), ("u64", "u8")):
        name = {"int": "int", "u32": "uint", "s64": "ll", "u64": "ull"}[result]
        code = f"__{source}2{name}_r{mode}(x)"
        got = evaluate((source, result, np.dtype(target)), [code], (x, y, z), ARCHS[1])[code]
        limits = np.iinfo(target)
        nan = 0
        if source == "double" or target[1] == "8":
            nan = limits.min if target[0] == "i" else 1 << (limits.bits - 1)
        want = to_integer(x, mode, int(limits.min), int(limits.max), nan)
        np.testing.assert_array_equal(got.astype(object), want, err_msg=code)


@pytest.mark.parametrize(("source", "dtype"), [("int", "i4"), ("u64", "u8"), ("s64", "i8")])
def test_integers_to_floats(rng, source, dtype):
    bits = 8 * np.dtype(dtype).itemsize
    x, y, z = (column.view(dtype) for column in columns(rng, bits))
    x[100:150] = (
        x[100:150].view(f"u{bits // 8}") >> rng.integers(0, bits, 50).astype(f"u{bits // 8}")
    ).view(dtype)
    for result, target in (("float", np.float32), ("double", np.float64)):
        code = f"({result})x"
        got = evaluate((source, result, target), [code], (x, y, z), ARCHS[0])[code]
        same_floats(got, np.array([nearest(Fraction(v), target) for v in x.tolist()]), code)
    down = evaluate(
        ("int", "float", np.float32), ["__int2float_rz(x)"], (x.view("i4")[:N],) * 3, ARCHS[0]
    )
    for value, result in zip(x.view("i4")[:N].tolist(), down["__int2float_rz(x)"], strict=True):
        step = np.nextafter(result, np.float32(np.copysign(np.inf, value)))
        assert abs(int(result)) <= abs(value) < abs(Fraction(float(step))) or value == 0


@pytest.mark.parametrize("arch", ARCHS)
def test_halves(rng, arch):
    """All float16 there and back, float32 and integers to float16, arithmetic and pairs."""
    body = """
        const __half h = __ushort_as_half((unsigned short)t);
        a.wide[t] = __half2float(h);
        a.back[t] = __half_as_ushort(__float2half_rn(__half2float(h)));
        a.narrow[t] = __half_as_ushort(__float2half_rn(a.x[t]));
        a.zero[t] = __half_as_ushort(__float2half_rz(a.x[t]));
        a.whole[t] = __half_as_ushort(__int2half_rn((int)a.x[t]));
        const __half o = __ushort_as_half(a.other[t]);
        a.sum[t] = __half_as_ushort(__hadd_rn(h, o));
        a.product[t] = __half_as_ushort(__hmul_rn(h, o));
        a.less[t] = __hlt(h, o);
        a.least[t] = __half_as_ushort(__hmin(h, o));
        a.fused[t] = __half_as_ushort(__hfma(h, o, __float2half_rn(a.x[t])));
        a.sign[t] = __half_as_ushort(__hneg(__habs(h)));
        const __half2 pair = __hadd2_rn(__halves2half2(h, o), __floats2half2_rn(1.0f, -2.0f));
        a.pair[t] = __half2float(__low2half(pair)) + __half2float(__high2half(pair));
    """
    names = ["back", "narrow", "zero", "whole", "sum", "product", "less", "least", "fused", "sign"]
    members = "const float* x; const unsigned short* other; float *wide, *pair;"
    members += f"unsigned short {', '.join('*' + name for name in names)};"
    n = 1 << 16
    x = np.frombuffer(rng.bytes(4 * n), np.float32).copy()
    x[n // 2 :] = rng.standard_normal(n // 2) * 2.0 ** rng.integers(-28, 17, n // 2)
    halves, other = np.arange(n, dtype=np.uint16), rng.permutation(n).astype(np.uint16)
    wide, pair = np.zeros((2, n), np.float32)
    out = {name: np.zeros(n, np.uint16) for name in names}
    run(kernel(body, members), [x, other, wide, pair, *out.values()], arch, grid=n // 256)
    h, o = halves.view(np.float16), other.view(np.float16)
    with np.errstate(all="ignore"):
        same_floats(wide, h.astype(np.float32), "widen")
        same_floats(out["back"].view(np.float16), h, "back")
        same_floats(out["narrow"].view(np.float16), x.astype(np.float16), "narrow")
        same_floats(out["sum"].view(np.float16), h + o, "sum")
        same_floats(out["product"].view(np.float16), h * o, "product")
        np.testing.assert_array_equal(out["less"], h < o)
        same_floats(out["least"].view(np.float16), least(h, o), "least")
        same_floats(out["sign"].view(np.float16), -np.abs(h), "-x abs")
        some = rng.permutation(n)[:3000]  # all of them by rationals take long
        rows = zip(h[some], o[some], x[some].astype(np.float16), strict=True)
        want = np.array([fused(*row) for row in rows])
        same_floats(out["fused"].view(np.float16)[some], want, "fused")
        parts = [(h + np.float16(1)).astype("f4"), (o - np.float16(2)).astype("f4")]
        same_floats(pair, parts[0] + parts[1], "pair")
        integral = np.nan_to_num(np.clip(np.trunc(x.astype("f8")), -(2**31), 2**31 - 1)) + 0.0
        same_floats(out["whole"].view(np.float16), integral.astype(np.float16), "whole")
        cut = out["zero"].view(np.float16).astype("f8")
        finite = np.isfinite(x) & (np.abs(x) < 65504)
        assert (np.abs(cut[finite]) <= np.abs(x[finite])).all()
        rounded = x.astype(np.float16).astype("f8")
        toward = np.abs(rounded) <= np.abs(x)  # where rounding went inwards both agree
        np.testing.assert_array_equal(cut[finite & toward], rounded[finite & toward])


WARP = """
    const u32 lane = threadIdx.x & 31, v = a.x[t];
    u32* o = a.out + t * 20;
    o[0] = __shfl_sync(~0u, v, lane * 7);
    o[1] = __shfl_xor_sync(~0u, v, 5);
    o[2] = __shfl_up_sync(~0u, v, 3, 8);
    o[3] = __shfl_down_sync(~0u, v, 9, 16);
    o[4] = __shfl_sync(~0u, v, 13, 4);
    o[5] = __ballot_sync(~0u, v & 1);
    o[6] = __any_sync(~0u, v == 3) + 2 * __all_sync(~0u, v < 1000);
    o[7] = __match_any_sync(~0u, v % 5);
    int same;
    o[8] = __match_all_sync(~0u, v / 512, &same);
    o[9] = same;
    o[10] = __reduce_add_sync(~0u, v);
    o[11] = __reduce_min_sync(~0u, (int)v - 300);
    o[12] = __reduce_xor_sync(~0u, v) + __reduce_and_sync(~0u, v | 64) * 1024;
    o[13] = 77;
    if (lane % 3) {  // a part of the warp, by its own mask
        const u32 mask = lane % 3 == 1 ? 0x92492492u : 0x24924924u;
        o[13] = __reduce_max_sync(mask, v) ^ __ballot_sync(mask, v & 2)
              ^ __shfl_sync(mask, v, lane % 3 + 3);
    }
    o[14] = (u32)(__shfl_xor_sync(~0u, (u64)v << 32 | lane, 1) >> 16);
    bool valid;
    u32 moved;
    asm volatile("{.reg .pred p; shfl.sync.down.b32 %0|p, %2, 20, 31, -1; selp.u32 %1, 1, 0, p;}"
                 : "=r"(moved), "=r"(o[15]) : "r"(v));
    o[16] = moved;
    asm("mov.u32 %0, %%lanemask_lt;" : "=r"(o[17]));
    o[18] = __match_any_sync(~0u, (u64)(v % 3) << 40);
    o[19] = __activemask();
"""


def warp_results(v, lane):
    """What the WARP kernel gives a lane of a warp that holds v."""

    def mask(holds):
        return sum(1 << j for j in range(32) if holds(v[j]))

    def bits(lanes):
        return sum(1 << j for j in lanes)

    group = [j for j in range(32) if j % 3 == lane % 3]
    partial = max(v[j] for j in group) ^ bits(j for j in group if v[j] & 2) ^ v[lane % 3 + 3]
    alike = len({value // 512 for value in v}) == 1
    results = [
        v[lane * 7 % 32],
        v[lane ^ 5],
        v[lane - 3] if lane % 8 >= 3 else v[lane],
        v[lane + 9] if lane % 16 + 9 < 16 else v[lane],
        v[lane // 4 * 4 + 13 % 4],
        mask(lambda value: value & 1),
        (3 in v) + 2 * all(value < 1000 for value in v),
        mask(lambda value: value % 5 == v[lane] % 5),
        2**32 - 1 if alike else 0,
        alike,
        sum(v),
        (min(v) - 300) % 2**32,
        functools.reduce(int.__xor__, v)
        + functools.reduce(int.__and__, [value | 64 for value in v]) * 1024,
        partial if lane % 3 else 77,
        (v[lane ^ 1] << 16) % 2**32,
        lane + 20 < 32,
        v[lane + 20] if lane + 20 < 32 else v[lane],
        (1 << lane) - 1,
        mask(lambda value: value % 3 == v[lane] % 3),
        2**32 - 1,
    ]
    return [int(result) for result in results]


@pytest.mark.parametrize("arch", ARCHS)
def test_warps(rng, arch):
    x = rng.integers(0, 1000, 192).astype(np.uint32)
    x[64:96] = 5
    out = np.zeros((192, 20), np.uint32)
    run(kernel(WARP, "const u32* x; u32* out;"), [x, out], arch, grid=2, block=96)
    for t in range(192):
        warp = x[t // 32 * 32 :][:32].tolist()
        assert out[t].tolist() == warp_results(warp, t % 32), t


def test_the_rest_of_a_warp_is_no_part_of_it():
    """Threads that do not exist or have ended are not waited for; reading one is undefined."""
    body = "if (t == 3) return; a.out[t] = __ballot_sync(~0u, 1); a.x[t] = __shfl_sync(~0u, t, 3);"
    x, out = np.zeros((2, 40), np.uint32)
    run(kernel(body, "u32 *x, *out;"), [x, out], block=40)
    assert out[0] == 2**32 - 1 - 8 and out[3] == 0 and (out[32:] == 255).all()
    assert x[0] == 0xDEADBEEF and x[39] == 35


def test_lanes_come_to_a_warp_instruction_one_after_the_other():
    body = """
        u32 r = a.x[t];
        while (r % 7) r = r * 3 + 1;  // every lane leaves at its own time
        if (t % 2) r += __shfl_xor_sync(0xaaaaaaaau, r, 2);
        else { if (t % 4) r += 5; __syncwarp(0x55555555u); r += __ballot_sync(0x55555555u, t & 8); }
        a.out[t] = r + __reduce_add_sync(~0u, r);
    """
    x, out = np.arange(32, dtype=np.uint32), np.zeros(32, np.uint32)
    run(kernel(body), [x, out, 0], block=32)

    def alone(t):
        r = t
        while r % 7:
            r = (r * 3 + 1) % 2**32
        return r

    votes = sum(1 << t for t in range(0, 32, 2) if t & 8)
    r = [alone(t) + (alone(t ^ 2) if t % 2 else 5 * (t % 4 > 0) + votes) for t in range(32)]
    assert out.tolist() == [(value + sum(r)) % 2**32 for value in r]


def tensor_kernel():
    """A product of a warp by the wrapper of the kernels' own ptx.cuh."""
    wrappers = (Path(__file__).parents[1] / "kernels" / "ptx.cuh").read_text()
    body = """
        const int w = t / 32, group = t % 32 / 4, place = t % 4;
        u32 left[4], right[2];
        float d[4];
        for (int i = 0; i < 4; i++) {
            left[i] = a.x[w * 128 + (group + 8 * (i % 2)) * 8 + place + 4 * (i / 2)];
            d[i] = a.z[w * 128 + (group + 8 * (i / 2)) * 8 + 2 * place + i % 2];
        }
        for (int i = 0; i < 2; i++) right[i] = a.y[w * 64 + group * 8 + place + 4 * i];
        mma_f16(d, left, right, d);
        for (int i = 0; i < 4; i++) {
            a.out[w * 128 + (group + 8 * (i / 2)) * 8 + 2 * place + i % 2] = d[i];
        }
    """
    members = "const u32* x; const u32* y; const float* z; float* out; int n;"
    return kernel(body, members, wrappers.replace("#pragma once", ""))


@pytest.mark.parametrize("exact", [True, False])
def test_tensor_cores(rng, exact):
    draw = rng.integers(-9, 10, (2, 24, 16)) if exact else rng.standard_normal((2, 24, 16)) * 100
    draw = draw.astype(np.float16)
    draw[1, :, 3] = np.float16(6e-8)  # subnormal numbers count
    a, b = np.ascontiguousarray(draw[:, :16]), np.ascontiguousarray(draw[:, 16:])
    z = rng.integers(-9, 10, (2, 16, 8)).astype(np.float32)
    out = np.zeros((2, 16, 8), np.float32)
    run(tensor_kernel(), [a.view(np.uint32), b.view(np.uint32), z, out, 0], block=64)
    left, right = a.astype(np.float64), b.astype(np.float64).transpose(0, 2, 1)
    want = (z + left @ right).astype(np.float32)
    size = np.abs(z) + np.abs(left) @ np.abs(right)
    assert (np.abs(out - want) <= (0 if exact else 2.0**-23) * size).all()


def test_tensor_cores_need_the_whole_warp():
    words, floats = np.zeros(128, np.uint32), np.zeros(128, np.float32)
    text = tensor_kernel().replace("u32 left[4]", "if (t % 32 > 29) return; u32 left[4]")
    with pytest.raises(ptx.PtxError, match="needs all lanes of the warp"):
        run(text, [words, words, floats, floats, 0], block=32)


BLOCK = """
    __shared__ u32 s[64];
    extern __shared__ __align__(16) u32 dynamic[];
    s[threadIdx.x] = a.x[t];
    dynamic[threadIdx.x] = t;
    __syncthreads();
    u32 sum = 0;
    for (u32 i = 0; i <= threadIdx.x; i++) sum += s[i] * dynamic[63 - i];
    a.out[t] = sum;
    a.out[t + 128] = __syncthreads_count(sum & 1) * 4 + __syncthreads_or(sum == 5) * 2
                   + !__syncthreads_and(sum != 7);
    if (threadIdx.x < 32) {  // half of the block by a barrier of its own
        s[threadIdx.x] = sum;
        asm volatile("bar.sync 1, 32;" ::: "memory");
        a.out[t + 256] = s[31 - threadIdx.x];
    } else {
        s[threadIdx.x] = sum;
        asm volatile("bar.arrive 2, 64;" ::: "memory");
    }
    if (threadIdx.x < 32) {
        asm volatile("bar.sync 2, 64;" ::: "memory");
        a.out[t + 288] = s[threadIdx.x + 32];
    }
"""


@pytest.mark.parametrize("arch", ARCHS)
def test_blocks(rng, arch):
    x = rng.integers(0, 1 << 20, 128).astype(np.uint32)
    out = np.zeros(384, np.uint32)
    run(kernel(BLOCK, "const u32* x; u32* out;"), [x, out], arch, grid=2, block=64, shared=256)
    for block in range(2):
        t = np.arange(64, dtype=np.uint32) + np.uint32(64 * block)
        s = np.cumsum(x[t] * t[::-1], dtype=np.uint32)
        np.testing.assert_array_equal(out[t], s)
        assert (out[t + 128] == 4 * (s & 1).sum() + 2 * (s == 5).any() + (s == 7).any()).all()
        np.testing.assert_array_equal(out[t[:32] + 256], s[:32][::-1])
        np.testing.assert_array_equal(out[t[:32] + 288], s[32:])


ATOMICS = """
    __shared__ u32 s[2]; __shared__ u64 l[2];
    if (threadIdx.x < 2) { s[threadIdx.x] = 0; l[threadIdx.x] = ~0ull; }
    __syncthreads();
    const u32 v = a.x[t];
    a.old[t] = atomicAdd(a.out, 1);
    atomicMin((int*)a.out + 1, (int)v); atomicMax(a.out + 2, v); atomicAnd(a.out + 3, ~(v & 255));
    atomicOr(a.out + 4, v); atomicXor(a.out + 5, v); atomicInc(a.out + 6, 9);
    atomicDec(a.out + 7, 9); atomicSub(a.out + 8, v);
    u32 seen = a.out[9], expected;
    do { expected = seen; seen = atomicCAS(a.out + 9, expected, expected * 3 + 1); }
    while (seen != expected);
    a.swapped[t] = atomicExch(a.out + 10, t);
    atomicAdd(a.f, 0.1f);
    atomicAdd(a.wide, (u64)v << 30); atomicMax((s64*)a.wide + 1, (s64)v - 5);
    atomicCAS(a.wide + 2, 0ull, (u64)t + 1);
    atomicAdd(s + (v & 1), 1); atomicMin(l + (v & 1), (u64)v << 20 | t);
    while (atomicCAS(a.out + 11, 0, 1)) { }  // a lock
    a.out[12] = a.out[12] * 2 + 1; __threadfence();
    atomicExch(a.out + 11, 0);
    __syncthreads();
    if (threadIdx.x < 2) { atomicAdd(a.out + 13 + threadIdx.x, s[threadIdx.x]);
        atomicMin(a.wide + 3 + threadIdx.x, l[threadIdx.x]); }
"""


@pytest.mark.parametrize("arch", ARCHS)
def test_atomics(rng, arch):
    n = 96
    x = rng.integers(0, 2**32, n, np.uint32)
    out, wide = np.zeros(16, np.uint32), np.zeros(5, np.uint64)
    out[[1, 3, 9]], out[2], wide[3:] = 2**31 - 1, 5, 2**64 - 1
    wide[1] = 2**63
    f, old, swapped = np.zeros(1, np.float32), *np.zeros((2, n), np.uint32)
    members = "const u32* x; u32 *out, *old, *swapped; float* f; u64* wide;"
    run(kernel(ATOMICS, members), [x, out, old, swapped, f, wide], arch, grid=2, block=n // 2)
    v, start = [int(value) for value in x], 2**31 - 1
    assert sorted(old) == list(range(n)) and out[0] == n
    assert out[1].view("i4") == min(start, *x.view("i4")) and out[2] == max(v)
    assert out[3] == functools.reduce(lambda p, q: p & ~(q & 255), v, start)
    assert out[4] == functools.reduce(int.__or__, v)
    assert out[5] == functools.reduce(int.__xor__, v)
    assert out[6] == n % 10 and out[7] == -n % 10 and out[8] == -sum(v) % 2**32
    for _ in range(n):
        start = (start * 3 + 1) % 2**32
    assert out[9] == start and out[12] == 2**32 - 1 and out[11] == 0
    assert sorted([*swapped, out[10]]) == [0, *range(n)]
    assert f[0] == functools.reduce(lambda p, q: p + q, [np.float32(0.1)] * n, np.float32(0))
    assert wide[0] == (sum(v) << 30) % 2**64 and wide[1] == max(v) - 5 and 1 <= wide[2] <= n
    assert [out[13], out[14]] == [sum(value % 2 == odd for value in v) for odd in (0, 1)]
    for odd in (0, 1):
        assert wide[3 + odd] == min(q << 20 | i for i, q in enumerate(v) if q % 2 == odd)


PATHS = """
    __shared__ u32 s[32];
    u32 local[16];
    const u32 v = a.x[t];
    s[threadIdx.x] = v;
    for (int i = 0; i < 16; i++) local[i] = v * i;
    local[v % 16] += 1000;
    u32 r = local[(v >> 4) % 16];
    for (u32 i = 0, j = v % 50; i < j; i++) {
        if (i % 3 == 2) continue;
        if (r % 101 == 100) break;
        r = r * 5 + i;
    }
    __syncthreads();
    const u32* from = v & 1 ? s + (v >> 8) % 32 : a.x + (v >> 8) % 64;  // generic
    r += *from;
    switch (v >> 13 & 15) {
        case 0: r += a.x[1]; break; case 1: r ^= 77; break; case 2: r *= a.x[2]; break;
        case 3: r = __brev(r); break; case 4: r = r / 3; break; case 5: r -= a.x[3]; break;
        case 6: r = r << 3 | r >> 29; break; case 7: r = ~r; break; case 8: r |= a.x[4]; break;
        case 9: return; default: r = 9;
    }
    a.out[t] = r;
"""


def path(v, x, s):
    local = [v * i for i in range(16)]
    local[v % 16] += 1000
    r = local[(v >> 4) % 16] % 2**32
    for i in range(v % 50):
        if i % 3 == 2:
            continue
        if r % 101 == 100:
            break
        r = (r * 5 + i) % 2**32
    r = (r + (s[(v >> 8) % 32] if v & 1 else x[(v >> 8) % 64])) % 2**32
    ways = [r + x[1], r ^ 77, r * x[2], int(f"{r:032b}"[::-1], 2), r // 3, r - x[3]]
    ways += [r << 3 | r >> 29, ~r, r | x[4], 0, *[9] * 6]
    return ways[v >> 13 & 15] % 2**32


@pytest.mark.parametrize("arch", ARCHS)
def test_paths_part_and_meet(rng, arch):
    x, out = rng.integers(0, 2**31, 64, np.uint32), np.zeros(64, np.uint32)
    run(kernel(PATHS, "const u32* x; u32* out;"), [x, out], arch, grid=2, block=32)
    v = x.tolist()
    assert out.tolist() == [path(v[t], v, v[t // 32 * 32 :][:32]) for t in range(64)]


JUMP = """
.version 9.0 .target sm_90 .address_size 64
.visible .entry k(.param .align 8 .b8 k_param_0[16]) {
    .reg .b32 %r<4>; .reg .b64 %rd<5>;
    ld.param.u64 %rd1, [k_param_0]; ld.param.u64 %rd2, [k_param_0+8];
    mov.u32 %r1, %tid.x; mul.wide.u32 %rd3, %r1, 4;
    add.s64 %rd1, %rd1, %rd3; add.s64 %rd2, %rd2, %rd3;
    ld.global.u32 %r2, [%rd1]; mov.u32 %r3, 0;
    table: .branchtargets $A, $B, $C;
    brx.idx %r2, table;
    $A: add.s32 %r3, %r3, 1;
    $B: add.s32 %r3, %r3, 10;
    $C: st.global.u32 [%rd2], %r3; ret;
}"""


def test_jump_tables():
    """Written by hand: NVRTC prefers trees of branches."""
    x, out = np.array([2, 0, 1, 0, 2], np.uint32), np.zeros(5, np.uint32)
    run_ptx(JUMP, [x, out], block=5)
    assert out.tolist() == [0, 11, 10, 11, 0]
    x[3] = 3
    with pytest.raises(ptx.PtxError, match=r"beyond its list, by block \(0, 0, 0\) thread \(3,"):
        run_ptx(JUMP, [x, out], block=5)


TWO_BARRIERS = """
.version 9.0 .target sm_90 .address_size 64
.visible .entry k(.param .align 8 .b8 k_param_0[8]) {
    .reg .b32 %r<4>; .reg .b64 %rd<5>; .reg .pred %p<2>;
    ld.param.u64 %rd1, [k_param_0]; mov.u32 %r1, %tid.x; mul.wide.u32 %rd3, %r1, 4;
    add.s64 %rd1, %rd1, %rd3; setp.lt.u32 %p1, %r1, 32;
    mov.u32 %r2, 7;
    @!%p1 bra $B;
    bar.sync 0; bra $C;
    $B: mov.u32 %r2, 8; bar.sync 0;
    $C: st.global.u32 [%rd1], %r2; ret;
}"""


def test_two_barriers_meet_only_where_they_are_counted():
    out = np.zeros(64, np.uint32)
    run_ptx(TWO_BARRIERS.replace("sync 0", "sync 1, 64"), [out], block=64)
    assert out.tolist() == [7] * 32 + [8] * 32
    with pytest.raises(ptx.PtxError, match="a divergent barrier: different places"):
        run_ptx(TWO_BARRIERS, [out], block=64)
    inside_a_warp = TWO_BARRIERS.replace("sync 0", "sync 1, 64").replace("%r1, 32", "%r1, 16")
    with pytest.raises(ptx.PtxError, match="a divergent barrier: different places"):
        run_ptx(inside_a_warp, [out], block=64)


COPY = """
    __shared__ __align__(16) u32 s[32 * 4];
    const u32 at = (u32)__cvta_generic_to_shared(s + 4 * t);
    for (int i = 0; i < 4; i++) s[4 * t + i] = 7;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(at), "l"(a.x + 4 * t), "r"(a.n) : "memory");
    asm volatile("cp.async.commit_group;" ::: "memory");
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;"
                 :: "r"(at + 12), "l"(a.x + t) : "memory");
    asm volatile("cp.async.commit_group;" ::: "memory");
    a.out[t] = s[4 * t];
    asm volatile("cp.async.wait_group 1;" ::: "memory");
    a.out[32 + t] = s[4 * t]; a.out[64 + t] = s[4 * t + 1]; a.out[96 + t] = s[4 * t + 3];
    asm volatile("cp.async.wait_group 0;" ::: "memory");
    a.out[128 + t] = s[4 * t + 3];
"""


@pytest.mark.parametrize("valid", [16, 4, 0])
def test_copies_come_as_late_as_they_may(valid):
    x, out = np.arange(128, dtype=np.uint32) + 100, np.zeros((5, 32), np.uint32)
    run(kernel(COPY), [x, out, valid], block=32)
    rows = x.reshape(32, 4)
    np.testing.assert_array_equal(out[0], 7)
    np.testing.assert_array_equal(out[1], rows[:, 0] if valid else 0)
    np.testing.assert_array_equal(out[2], rows[:, 1] if valid == 16 else 0)
    np.testing.assert_array_equal(out[3], rows[:, 3] if valid == 16 else 0)
    np.testing.assert_array_equal(out[4], x[:32])


def test_widths_of_memory(rng):
    """Loads and stores of all widths, vectors, signs, volatile and cached ones."""
    body = """
        const uchar4 c = ((const uchar4*)a.x)[t];
        ((uchar4*)a.out)[t] = make_uchar4(c.w, c.z, c.y, c.x);
        const uint4 w = ((const uint4*)a.x)[t];
        ((uint4*)(a.out + 32))[t] = make_uint4(w.w, w.z, w.y, w.x);
        ((s64*)(a.out + 160))[t] = ((const signed char*)a.x)[t] + ((const short*)a.x)[t];
        a.out[224 + t] = ((const volatile u32*)a.x)[t] + __ldcg(a.x + t) + __ldg(a.x + t);
        ((double2*)(a.out + 256))[t] = ((const double2*)a.x)[t];
        ((unsigned short*)(a.out + 384))[t] = (unsigned short)a.x[t];
    """
    x, out = rng.integers(0, 2**32, 128, np.uint32), np.zeros(400, np.uint32)
    run(kernel(body), [x, out, 0], block=32)
    np.testing.assert_array_equal(
        out[:32].view("u1").reshape(-1, 4), x[:32].view("u1").reshape(-1, 4)[:, ::-1]
    )
    np.testing.assert_array_equal(out[32:160].reshape(-1, 4), x.reshape(-1, 4)[:, ::-1])
    want = x.view("i1")[:32].astype("i8") + x.view("i2")[:32]
    np.testing.assert_array_equal(out[160:224].view("i8"), want)
    np.testing.assert_array_equal(out[224:256], x[:32] * np.uint32(3))
    np.testing.assert_array_equal(out[256:384], x)
    np.testing.assert_array_equal(out[384:].view("u2"), x[:32].astype("u2"))


def test_grids_and_chunks():
    """Three dimensions, and more threads than are stepped at once."""
    body = """
        const u32 thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
        const u32 block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
        a.out[block * blockDim.x * blockDim.y * blockDim.z + thread] = block * 1000 + thread;
    """
    shape, grid = (5, 3, 2), (300, 2, 2)
    out = np.zeros((1200, 30), np.uint32)
    buffers = [Buffer(out.ctypes.data, out.nbytes, "out")]
    argument = struct.pack("QQii", 0, out.ctypes.data, 0, 0)
    engine = ptx.Interpreter("compute_90")
    engine.launch(kernel(body), "k", grid, shape, argument, 0, buffers)
    np.testing.assert_array_equal(out, np.arange(1200)[:, None] * 1000 + np.arange(30))
    assert engine.program(kernel(body), "k").count > 0


# what must not pass


PLAIN = """
    __shared__ float s[64];
    s[threadIdx.x] = a.x[t];
    __syncthreads();
    const float sum = s[threadIdx.x] - a.x[t + 1] * 2.0f;
    a.out[t] = __shfl_xor_sync(~0u, sum, 1) + (float)(t % a.n);
    if (t < 8) ((float4*)a.out)[t] = ((const float4*)(a.x + 64))[t];
"""


@functools.cache
def plain(arch="compute_90"):
    return compiled(kernel(PLAIN, "const float* x; float* out; int n;"), arch)


def plain_values():
    return [np.arange(512, dtype=np.float32) ** 2, np.zeros(256, np.float32), 3]


def test_unchanged_text_is_right():
    x, out, n = values = plain_values()
    run_ptx(plain(), values, block=64)
    want = (x[:64] - x[1:65] * 2)[np.arange(64) ^ 1] + np.arange(64) % n
    want[:32] = x[64:96]
    np.testing.assert_array_equal(out[: len(want)], want)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("sub.rn.f32", "sub.rn.ftz.f32"),  # unknown modifiers
        ("sub.rn.f32", "sub.rp.f32"),
        ("sub.rn.f32", "sub.f32.rn"),
        ("mul.wide.s32", "mul.wide.hi.s32"),
        ("shfl.sync.bfly.b32", "shfl.bfly.b32"),
        ("ld.shared.f32", "ld.const.f32"),
        ("ld.shared.f32", "ld.shared::cluster.f32"),
        ("ld.global.v4.u32", "ld.global.v3.u32"),
        ("bar.sync", "bar.sync.aligned.cta"),
        ("ld.param.u64", "ld.shared.u64"),  # wrong spaces
        ("ld.param.u64", "ld.local.u64"),
        ("ld.shared.f32", "ld.global.f32"),
        ("ld.shared.f32", "ld.f32"),
        ("ld.global.v4.u32", "ld.shared.v4.u32"),
        ("sub.rn.f32", "sub.rn.f64"),  # wrong types
        ("sub.rn.f32", "sub.s32"),
        ("sub.rn.f32", "sub.rn.bf16"),
        ("ld.shared.f32", "ld.shared.f64"),
        ("ld.global.v4.u32", "ld.global.v2.u32"),
        ("mul.wide.s32", "mul.wide.s16"),
        ("sub.rn.f32", "frob.rn.f32"),  # unknown words
        ("sub.rn.f32", "wmma.rn.f32"),
        ("sub.rn.f32", "call.uni"),
        ("%tid.x", "%clock"),
        ("%tid.x", "%tid.w"),
        ("bar.sync \t0;", "bar.sync \t0"),
        ("bar.sync \t0;", "bar.sync \t0, 32, 5;"),
        ("bar.sync \t0;", ".magic 5;"),
        ("bar.sync \t0;", "bar.sync \t16;"),
        ("bar.sync \t0;", "bar.sync \t0, 33;"),
        ("bar.sync \t0;", "bar.sync \t0, 128;"),  # deadlock
        ("bar.sync \t0;", "bar.sync \t0, 32;"),
        ("bar.sync \t0;", "bra \t$L__nowhere;"),
        ("bar.sync \t0;", "trap;"),
        (".reg .f32", ".reg .v2 .f32"),
        ("ret;", ""),
        (".maxntid 1024", ".maxntid 32"),
        (".maxntid 1024", ".sometimes 1024"),
    ],
)
def test_changed_text_raises(old, new):
    text = plain()
    assert old in text
    with pytest.raises(ptx.PtxError):
        run_ptx(text.replace(old, new), plain_values(), block=64)


@pytest.mark.parametrize(
    ("pattern", "new"),
    [
        (r"sub.rn.f32 \t(%f\d+), (%f\d+), (%f\d+);", r"sub.rn.f32 \1, \3, \2;"),
        (r"sub.rn.f32", "add.rn.f32"),
        (r"rem.u32|rem.s32", "div.s32"),
        (r"shfl.sync.bfly", "shfl.sync.idx"),
        (r"(st.global.v4.u32 \t\[%rd\d+\], {)(%r\d+), (%r\d+)", r"\1\3, \2"),
        (r"@(%p\d+ bra)", r"@!\1"),
    ],
)
def test_changed_text_changes_the_result(pattern, new):
    right, wrong = plain_values(), plain_values()
    text = re.sub(pattern, new, plain())
    assert text != plain()
    run_ptx(plain(), right, block=64)
    run_ptx(text, wrong, block=64)
    assert (right[1] != wrong[1]).any()


def test_a_wrong_zfill_size_is_seen():
    text = compiled(kernel(COPY))
    changed = re.sub(r"(cp.async.cg.shared.global \[.*\], 16), %r\d+;", r"\1;", text)
    assert changed != text
    x, right, wrong = np.arange(128, dtype=np.uint32), *np.ones((2, 160), np.uint32)
    run_ptx(text, [x, right, 8], block=32)
    run_ptx(changed, [x, wrong, 8], block=32)
    assert (right != wrong).any()
    with pytest.raises(ptx.PtxError, match="more than 16 bytes"):
        run_ptx(text, [x, right, 17], block=32)


ACCESSES = {  # body: (message, and where)
    "a.out[t + 1] = 1;": ("out-of-bounds access of 4 bytes", "thread (31, 0, 0)"),
    "a.out[t - 1] = 1;": ("out-of-bounds access of 4 bytes", "array 1"),
    "a.out[t] = a.x[t * 1000];": ("out-of-bounds access of 4 bytes", "array 0"),
    "a.out[t] = *(const u32*)(u64)(t * 4);": ("out-of-bounds access of 4 bytes at 0x0", "ld."),
    "((u64*)a.out)[t / 2] = *(const u64*)(a.x + t);": ("misaligned access of 8", "ld.global.u64"),
    "((uint4*)(a.out + 1))[0] = make_uint4(1, 2, 3, t);": ("misaligned access of 16", "st."),
    "((uint4*)(a.out + 28))[t] = make_uint4(1, 2, 3, t);": ("out-of-bounds access of 16", "(1,"),
    "__shared__ u32 s[32]; s[t + a.n] = 1; a.out[t] = s[t];": (
        "out-of-bounds access of 4",
        ".shar",
    ),
    "__shared__ u32 s[32]; s[t - a.n] = 1; a.out[t] = s[t];": ("out-of-bounds access of 4", "(0,"),
    "u32 s[8]; for (int i = 0; i < 8; i++) s[i] = a.x[i]; s[t + a.n] = 1; a.out[t] = s[a.n];": (
        "out-of-bounds access of 4",
        ".local memory has 32",
    ),
    "atomicAdd(a.out + 32, 1u);": ("out-of-bounds access of 4", "atom.global"),
    "a.out[t] = a.x[t] / (u32)t;": ("division by 0", "thread (0, 0, 0)"),
    "if (t < 16) __syncthreads(); else a.out[t] = 1, __syncthreads();": (
        "a divergent barrier",
        "bar",
    ),
    "if (t < 16) { __syncthreads(); a.out[t] = 1; __syncwarp(); } else __syncwarp();": (
        "deadlock",
        "bar.warp.sync",
    ),
    "if (t < 16) a.out[t] = __shfl_sync(~0u, t, 3); else a.out[t] = __ballot_sync(~0u, 1);": (
        "deadlock",
        "16 threads",
    ),
    "a.out[t] = __ballot_sync(0xffff, 1);": ("a lane outside of its own mask", "(16, 0, 0)"),
    "__trap();": ("the kernel stopped itself", "trap"),
    "a.out[t] = (u32)clock64();": ("%clock64 is not supported", "mov"),
    "a.out[t] = (u32)__fdividef((float)t, 3.0f);": ("one of .rn is expected", "div.approx"),
    "a.out[t] = (u32)__expf((float)t);": ("the opcode ex2 is not supported", "ex2"),
}


@pytest.mark.parametrize("body", ACCESSES)
def test_wrong_kernels_raise(body):
    x, out = np.ones(64, np.uint32)[:32], np.zeros(64, np.uint32)[16:48]
    with pytest.raises(ptx.PtxError) as caught:
        run(kernel(body), [x, out, 5], block=32)
    for part in ACCESSES[body]:
        assert part in str(caught.value)


def test_wrong_launches_raise():
    program = ptx.Program(compiled(kernel("a.out[t] = 1;")), "k")
    out = np.zeros(64, np.uint32)
    buffers = [Buffer(out.ctypes.data, out.nbytes, "out")]
    argument = struct.pack("QQii", 0, out.ctypes.data, 0, 0)
    program.run((1, 1, 1), (64, 1, 1), argument, 0, buffers)
    assert (out == 1).all()
    overlapping = [*buffers, Buffer(out.ctypes.data + 8, 8, "inner")]
    for wrong in (
        ((1, 1, 1), (64, 1, 1), argument[:-1], 0, buffers),
        ((1, 1, 1), (2048, 1, 1), argument, 0, buffers),
        ((1, 0, 1), (64, 1, 1), argument, 0, buffers),
        ((1, 1, 1), (64, 1, 1), argument, 0, []),
        ((1, 1, 1), (64, 1, 1), argument, 0, overlapping),
    ):
        with pytest.raises(ptx.PtxError):
            program.run(*wrong)
    with pytest.raises(ptx.PtxError, match="no kernel j, there is k"):
        ptx.Program(compiled(kernel("a.out[t] = 1;")), "j")


def test_an_endless_loop_raises(monkeypatch):
    monkeypatch.setattr(ptx.machine, "MAX_STEPS", 1000)
    with pytest.raises(ptx.PtxError, match="did not end in 1000 steps"):
        run(
            kernel("while (((volatile u32*)a.out)[0] == 0) { }"),
            [np.zeros(32, np.uint32)] * 2 + [0],
        )


def test_opcodes():
    found = ptx.opcodes(plain())
    assert {"sub.rn.f32", "shfl.sync.bfly.b32", "bar.sync", "ret", "ld.global.v4.u32"} <= found
    assert not any(re.search(r"[^\w.:]", name) for name in found)
