"""The CPU emulator of CUDA computes what a GPU would, and reports each kind of mistake."""

import re
import struct
from concurrent.futures import ThreadPoolExecutor

import emu.engine as engine_module
import numpy as np
import pytest
from emu import Buffer, Fibers, KernelFault, build, toolchain, why_not
from emu.selftest import reference
from emu.selftest.harness import MISTAKES, PRIMITIVES, Memory, integers, launch, rows_of

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

ORDERS = [("in order", 1), ("reverse", 1), ("random", 1), ("random", 2)]


@pytest.fixture(scope="module", autouse=True)
def libraries():
    """The two texts in both modes, two compilers at a time."""
    with ThreadPoolExecutor(2) as pool:
        jobs = [(text, checked) for text in (PRIMITIVES, MISTAKES) for checked in (True, False)]
        list(pool.map(lambda job: build(*job), jobs))


@pytest.fixture(params=[(c, *o) for c in (False, True) for o in ORDERS], ids=str)
def engine(request):
    return Fibers(*request.param)


# ---- primitives


def test_shuffles(engine, rng):
    v = integers(rng)
    lane = np.arange(64) % 32
    warp = np.arange(64) - lane
    at = np.arange(64)
    got = rows_of(engine, "shuffles", v, 7)
    np.testing.assert_array_equal(got[0], v[at // 16 * 16 + 9])
    np.testing.assert_array_equal(got[1], v[warp + (lane ^ 5)])
    np.testing.assert_array_equal(got[2], np.where(lane < 3, v, v[at - 3]))
    np.testing.assert_array_equal(got[3], np.where(lane % 8 > 4, v, v[np.minimum(at + 3, 63)]))
    np.testing.assert_array_equal(got[4], v[at ^ 1])
    np.testing.assert_array_equal(got[5], np.where(lane < 1, v, v[at - 1]))
    np.testing.assert_array_equal(got[6].view(np.uint32), np.where(lane < 8, 0xDEADBEEF, 0))


def test_tensor_product(engine, rng):
    for exact in (True, False):
        draw = rng.integers(-9, 10, (24, 16)) if exact else rng.standard_normal((24, 16)) * 100
        a, b = np.split(draw.astype(np.float16), [16])
        c = rng.integers(-9, 10, (16, 8)).astype(np.float32)
        d = np.full((16, 8), np.nan, np.float32)
        launch(engine, "tensor_product", a, b, c, d, block=(32, 1, 1))
        left, right = a.astype(np.float64), b.astype(np.float64)
        size = np.abs(c) + np.abs(left) @ np.abs(right).T
        assert (np.abs(d - (c + left @ right.T)) <= (0 if exact else 16 * 2.0**-23) * size).all()


def test_votes_matches_and_reductions(engine, rng):
    v = integers(rng)
    u = v.view(np.uint32)
    warps, unsigned = v.reshape(2, 32), u.reshape(2, 32)
    same = np.array([reference.mask_of((v & 3) == x) for x in range(4)])[v & 3, np.arange(64)]

    def wide(values):
        return np.repeat(np.asarray(values).astype(np.uint32), 32).view(np.int32)

    got = rows_of(engine, "votes", v, 14)
    np.testing.assert_array_equal(got[0], reference.mask_of(v & 1))
    np.testing.assert_array_equal(got[1], wide((warps == 7).any(axis=1)))
    np.testing.assert_array_equal(got[2], wide((warps > -1000).all(axis=1)))
    np.testing.assert_array_equal(got[3], same)
    np.testing.assert_array_equal(got[4], same)
    np.testing.assert_array_equal(got[5], wide(warps.sum(axis=1)))
    np.testing.assert_array_equal(got[6], wide(warps.min(axis=1)))
    np.testing.assert_array_equal(got[7], wide(unsigned.max(axis=1)))
    np.testing.assert_array_equal(got[8], wide(np.bitwise_and.reduce(unsigned | 7, axis=1)))
    np.testing.assert_array_equal(got[9], wide(np.bitwise_or.reduce(unsigned & 7, axis=1)))
    np.testing.assert_array_equal(got[10], wide(np.bitwise_xor.reduce(unsigned, axis=1)))
    np.testing.assert_array_equal(got[11], (v & 1).sum())
    np.testing.assert_array_equal(got[12], 1)
    np.testing.assert_array_equal(got[13], 0)


def test_bits_and_arithmetic(engine, rng):
    v = integers(rng)
    v[:4] = 0, 1, -1, -(2**31) + 1
    got = rows_of(engine, "bits", v, 17)
    for thread, value in enumerate(v.tolist()):
        for row, want in enumerate(reference.bits_expected(value)):
            assert int(got[row, thread]) & 0xFFFFFFFF == want & 0xFFFFFFFF, (row, value)


def test_halves(engine, rng):
    n = 65536
    a = np.arange(n, dtype=np.uint16).view(np.float16)
    b = rng.permutation(a)
    out, as_float = np.zeros((6, n), np.float16), np.zeros(n, np.float32)
    launch(engine, "halves", a, b, out, as_float, n, grid=(n // 256, 1, 1), block=(256, 1, 1))
    with np.errstate(all="ignore"):
        wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
        wanted = [a + b, a * b, a - b, (wide_a * wide_b + wide_a).astype(np.float16)]
        wanted += [a + np.float16(1), b + np.float16(1)]
    np.testing.assert_array_equal(as_float, a.astype(np.float32))
    for got, want in zip(out, wanted, strict=True):
        np.testing.assert_array_equal(got, want)


def test_to_half_rounds_to_even_around_every_half(engine):
    x = reference.floats_around_every_half()
    out = np.zeros(len(x), np.float16)
    launch(engine, "to_half", x, out, len(x), grid=(-(-len(x) // 256), 1, 1), block=(256, 1, 1))
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(out, x.astype(np.float16))
    np.testing.assert_array_equal(np.signbit(out), np.signbit(x))


# ---- threads together


def test_dynamic_shared_memory_and_barrier(engine, rng):
    v = integers(rng, 3 * 256)
    out = np.zeros_like(v)
    launch(engine, "reverse", v, out, 0, grid=(3, 1, 1), shared=1024)
    np.testing.assert_array_equal(out, v.reshape(3, 256)[:, ::-1].ravel())


def test_syncwarp_orders_shared_memory(engine, rng):
    v = integers(rng)
    np.testing.assert_array_equal(rows_of(engine, "warp_exchange", v, 1)[0], v[np.arange(64) ^ 1])


def test_atomics_over_blocks(engine, rng):
    v = integers(rng, 5 * 64)
    out = np.zeros(17, np.int32)
    out[9:12] = 5000, -5000, -1
    launch(engine, "atomics", v, out, 0, grid=(5, 1, 1))
    u = v.view(np.uint32)
    np.testing.assert_array_equal(out[:8], [v[(v & 7) == i].sum() for i in range(8)])
    assert out[8:11].tolist() == [-v.sum(), v.min(), v.max()]
    assert out.view(np.uint32)[11] == np.bitwise_and.reduce(u | 255)
    assert out.view(np.uint32)[12] == np.bitwise_or.reduce(u & 255)
    assert out.view(np.uint32)[13] == np.bitwise_xor.reduce(u)
    assert out[14:16].tolist() == [0, 2 * len(v)]
    assert out[16:].view(np.float32)[0] == 0.5 * len(v)


def test_the_last_block_sees_all_others(engine, rng):
    v = integers(rng, 1000)
    partial, counter, out = np.zeros(16, np.int32), np.zeros(1, np.uint32), np.zeros(1, np.int32)
    launch(engine, "last_block", v, partial, counter, out, len(v), grid=(16, 1, 1))
    assert out[0] == v.sum()
    assert counter[0] == 16


def test_a_spin_lock_excludes(engine):
    out = np.zeros(2, np.int32)
    launch(engine, "spin_lock", out, out, 0, grid=(3, 1, 1))
    assert out.tolist() == [3 * 64, 0]


def test_copies_overlap_with_sums(engine, rng):
    v = integers(rng, 7 * 256)
    out = np.zeros(64, np.int32)
    launch(engine, "copy_pipeline", v, out, 7)
    np.testing.assert_array_equal(out, v.reshape(7, 64, 4).sum(axis=(0, 2))[::-1])


# ---- mistakes

KERNELS = reference.mistakes(MISTAKES)
ENDLESS = ["endless_wait", "endless_sum"]
WRONG = [name for name, kernel in KERNELS.items() if kernel.reports and name not in ENDLESS]


def report_of(engine, name, memory=None):
    with pytest.raises(KernelFault) as caught:
        (memory or Memory()).launch(engine, name)
    return str(caught.value)


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("name", WRONG)
def test_the_checked_build_reports(name, order):
    text = report_of(Fibers(True, *order), name)
    assert text.startswith(f"{name}: block (")
    assert KERNELS[name].is_reported_by(text), text


@pytest.mark.parametrize("name", [name for name in WRONG if KERNELS[name].is_fatal])
def test_the_fast_build_reports(name):
    text = report_of(Fibers(False), name)
    assert KERNELS[name].is_reported_by(text), text


def test_the_fast_build_survives_a_bad_address():
    text = report_of(Fibers(False), "null_pointer")
    assert re.search(r"memory fault at address .* at mistakes\.cu:\d+$", text)


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("name", ENDLESS)
def test_an_endless_loop_ends(name, checked):
    text = report_of(Fibers(checked, time_limit=1), name)
    assert KERNELS[name].is_reported_by(text), text


def test_an_endless_loop_ends_in_another_thread():
    with ThreadPoolExecutor(1) as pool:
        text = pool.submit(report_of, Fibers(False, time_limit=1), "endless_sum").result()
    assert "time limit of 1 s reached" in text


@pytest.mark.parametrize("checked", [False, True])
def test_a_stack_overflow_is_reported(checked):
    text = report_of(Fibers(checked), "recursion")
    assert re.search(r"stack overflow at mistakes\.cu:\d+$", text)


def test_the_control_passes_and_a_fault_leaves_nothing_behind(engine):
    for _ in range(2):
        report_of(engine, "divergent_shuffle")
        memory = Memory()
        memory.y[1] = 100
        memory.launch(engine, "control")
        t = np.arange(64)
        np.testing.assert_array_equal(memory.x, 2 + (t ^ 1) + 100 * (t >= 32))


def test_a_buffer_among_many_is_named():
    memory = Memory()
    others = np.zeros((200, 64), np.uint8)
    memory.buffers += [Buffer(o.ctypes.data, 8, f"other {i}") for i, o in enumerate(others)]
    memory.buffers = [memory.buffers[i] for i in [153, 1, 2, 0, *range(3, 203)]]
    text = report_of(Fibers(True), "past_buffer", memory)
    assert "bytes past the end of other 150 (8 bytes) at" in text


# ---- what may be launched and built


def test_parameters_are_laid_out_as_the_driver_does(engine):
    v, out = np.int32([30]), np.zeros(1, np.int32)
    argument = struct.pack("@bPhdfPq", 1, v.ctypes.data, 200, 4e3, 5e4, out.ctypes.data, 600000)
    buffers = [Buffer(a.ctypes.data, 4, "") for a in (v, out)]
    engine.launch(PRIMITIVES, "parameters", (1, 1, 1), (1, 1, 1), argument, 0, buffers)
    assert out[0] == 654231


def test_indices_of_blocks_and_threads(engine):
    out = np.full(24 * 60, -1, np.int32)
    launch(engine, "where", out, out, 0, grid=(2, 3, 4), block=(3, 4, 5))
    wanted = np.arange(24)[:, None] * 1000 + np.arange(60)
    np.testing.assert_array_equal(out, wanted.ravel())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"grid": (0, 1, 1)}, "grid (0, 1, 1) is not between"),
        ({"grid": (1, 65536, 1)}, "grid (1, 65536, 1) is not between"),
        ({"block": (1025, 1, 1)}, "block (1025, 1, 1) is not between"),
        ({"block": (1, 1, 65)}, "block (1, 1, 65) is not between"),
        ({"block": (64, 32, 1)}, "2048 threads"),
        ({"block": (65, 1, 1)}, "larger than __launch_bounds__(64)"),
        ({"shared": 228 * 1024}, "bytes of shared memory"),
        ({"argument": bytes(20)}, "the argument has 20 bytes, the kernel takes 24"),
        ({"entry": "absent"}, "no entry absent among ["),
    ],
    ids=str,
)
def test_a_launch_beyond_the_limits_is_refused(change, words):
    request = {"entry": "where", "grid": (1, 1, 1), "block": (64, 1, 1), "argument": bytes(24)}
    request |= {"shared": 0, "buffers": []} | change
    with pytest.raises(KernelFault, match=re.escape(words)):
        Fibers(False).launch(PRIMITIVES, **request)


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="schedule must be one of"):
        Fibers(False, "sideways")


@pytest.mark.parametrize("body", ["uint32_t i = 0;", "float f = INFINITY;", "int i = ;"])
def test_what_does_not_compile_is_refused(body):
    text = f'#line 7 "broken.cu"\nextern "C" __global__ void broken() {{ {body} }}\n'
    with pytest.raises(KernelFault, match=r"broken\.cu:7"):
        build(text, False)


def test_a_text_is_compiled_once(monkeypatch):
    first = build(PRIMITIVES, True)
    monkeypatch.setattr(toolchain, "_run", None)
    assert build(PRIMITIVES, True) == first


def test_bounds_may_be_macros_and_comments_are_no_entries():
    text = """
#define NAME counted__A
constexpr int WARPS = 3;
// extern "C" __global__ void in_comment() {}
/* extern "C" __global__ void in_another() {} */
extern "C" __global__ __launch_bounds__(WARPS * (16 + 16), 2) void NAME() {}
extern "C" __global__ void unbounded() {}
"""
    entries = engine_module.load(text, False).entries
    bounds = {name: row.max_threads for name, row in entries.items()}
    assert bounds == {"counted__A": 96, "unbounded": 1024}
