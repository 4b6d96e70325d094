"""The bench of the kernels: its model, what it reads from SASS, and that every case of it runs."""

import emulated
import pytest
from emu import Fibers
from engines import needs_fibers, needs_nvrtc

from bench import ops, sass
from gpuann.cuda import variants

SASS = """
	.section	.text.other,"ax",@progbits
.L_x_1:
        /*0000*/                   IADD3 R1, R1, 0x1, RZ ;
        /*0010*/              @!P0 BRA `(.L_x_1) ;
	.section	.text.mine__X1,"ax",@progbits
.L_x_2:
        /*0000*/                   LDS.128 R4, [R2] ;
.L_x_3:
        /*0010*/                   LDG.E.128 R8, desc[UR4][R6.64] ;
        /*0020*/                   HMMA.16816.F32 R12, R4, R8, R12 ;
        /*0030*/                   HMMA.16816.F32 R16, R4, R10, R16 ;
        /*0040*/              @P1  LDL R20, [R1+0x4] ;
        /*0050*/               @P0 BRA `(.L_x_3) ;
        /*0060*/                   HMMA.16816.F32 R12, R4, R8, R12 ;
        /*0070*/              @!P2 BRA `(.L_x_2) ;
        /*0080*/                   EXIT ;
"""


def test_the_innermost_loop_with_products():
    lines = sass.section(SASS, "mine__X1")
    assert sass.loop_of(lines) == sass.Loop(5, 2, 0, 1, 1)
    assert sass.loop_of(sass.section(SASS, "other")) is None
    with pytest.raises(LookupError, match="nobody must be one section, found 0"):
        sass.section(SASS, "nobody")


@needs_nvrtc
@pytest.mark.skipif(sass.nvdisasm() is None, reason="no nvdisasm: pip install '.[test]'")
@pytest.mark.parametrize("arch", ["80", "90"])
def test_loops_over_components_do_not_spill(arch):
    """What the budgets of scan_filter and assign say of the variants that are in use."""
    codes = [variants.scan_lists(variants.Codec.PQ, "uint8", pq_len=n) for n in (1, 4)]
    wide = [
        variants.scan_lists(variants.Codec.PQ, "uint8", pq_len=4, tile=128),
        variants.scan_lists(
            variants.Codec.WHOLE, "float32", rows_as=variants.RowsAs.HALVES, tile=128
        ),
    ]
    u8 = variants.scan_lists(variants.Codec.WHOLE, "uint8", rows_as=variants.RowsAs.BYTES)
    rows = variants.scan_lists(variants.Codec.WHOLE, "float32", rows_as=variants.RowsAs.HALVES)
    loops = {
        variant.variant: sass.product_loop(variant, entry, arch)
        for variant, entry in [
            *((variant, "scan_filter") for variant in (*codes, *wide, rows, u8)),
            *((variants.assign(split=split), "assign") for split in (True, False)),
        ]
    }
    for name, loop in loops.items():
        assert (loop.mma, loop.local) == (64 if "TILE128" in name else 32, 0), name


def test_roofline():
    chip = {"sms": 10, "clock_hz": 1e9, "mma_flop": 100, "float64_flop": 2, "bytes_s": 1e12}
    assert ops.roofline(ops.Work(1, half_flop=2e12), chip) == 2
    assert ops.roofline(ops.Work(1, half_flop=2e12, bytes=3e12), chip) == 3
    assert ops.roofline(ops.Work(1, half_flop=2e12, double_flop=1e11), chip) == 5
    found = ops.measured(
        ops.Case("one", ops.Work(8, half_flop=2e12), None, None, None), [4.0, 3.0, 9.0], chip
    )
    assert found["seconds"] == {"median": 4.0, "least": 3.0, "most": 9.0}
    assert (found["pairs_per_second"], found["share"]) == (2, 0.5)


@needs_nvrtc
def test_static_figures_are_of_the_kernel_that_works():
    found = ops.static(next(case for case in ops.cases() if case.name.startswith("assign 1 x")))
    assert found["registers"] <= 128
    assert found["blocks_per_sm"] == 2
    assert ops.static(ops.cases()[-1]) == {}, "refine has no products"


@needs_fibers
@pytest.mark.parametrize("case", ops.cases(scale=2500), ids=lambda case: case.name)
def test_every_case_runs(case):
    with emulated.stands_in(emulated.EmulatedDevice(Fibers(checked=False))) as device:
        seconds = ops.timed(case, "cuda", repeats=2, warm_ups=1)
        assert len(seconds) == 2
        assert min(seconds) > 0
        if case.entry is not None:
            ran = {(launch.variant, launch.entry) for launch in device.launches}
            assert (case.variant().variant, case.entry) in ran
