"""Golden vectors: what a GPU makes of each wrapper in kernels/ptx.cuh, for the emulators' tests.

    python -m bench.golden [--out tests/golden/sm_90.npz]

Needs a GPU. The inputs are made by seed and recorded with the answers, so that whoever reads the
file needs no GPU: tests/test_golden.py compares both emulators with every file in tests/golden. How
tensor cores order and round their sums is not documented; the file shows it for one architecture.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from gpuann.cuda import devices
from gpuann.cuda.launch import Device, arguments, launch
from gpuann.cuda.source import Source, kernel_dir, make

WARPS = 64  # products in one file
_TEXT = """
struct GoldenArgs {
    const u32* a;    // (n, 16, 8) halves, two a word
    const u32* b;    // (n, 8, 8) halves, two a word: rows are columns of the product
    const float* c;  // (n, 16, 8)
    float* d;        // (n, 16, 8) out
    u32* copied;     // (n, 128) out: a, by cp.async
    int n;           // products
};
// budget  golden: regs <= 64, spills 0, blocks/SM >= 1
ENTRY(golden)(const GoldenArgs a) {
    __shared__ __align__(16) u32 words[128];
    const i64 at = blockIdx.x;
    const int lane = threadIdx.x, group = lane / 4, place = lane % 4;
    cp_async_16(&words[4 * lane], a.a + at * 128 + 4 * lane);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    u32 left[4], right[2];
    float sum[4];
    for (int i = 0; i < 4; i++) {
        left[i] = words[(group + 8 * (i % 2)) * 8 + place + 4 * (i / 2)];
        sum[i] = a.c[at * 128 + (group + 8 * (i / 2)) * 8 + 2 * place + i % 2];
        a.copied[at * 128 + 32 * i + lane] = words[32 * i + lane];
    }
    for (int i = 0; i < 2; i++) {
        right[i] = a.b[at * 64 + group * 8 + place + 4 * i];
    }
    mma_f16(sum, left, right, sum);
    for (int i = 0; i < 4; i++) {
        a.d[at * 128 + (group + 8 * (i / 2)) * 8 + 2 * place + i % 2] = sum[i];
    }
}
"""


def kernel() -> Source:
    """One product a block, by the wrappers as they are."""
    headers = [(kernel_dir() / name).read_text() for name in ("common.cuh", "ptx.cuh")]
    text = "\n".join(headers).replace("#pragma once", "") + _TEXT
    return make("golden", text, {"BLOCK": "32"})


def inputs(seed: int = 0) -> dict[str, np.ndarray]:
    """a (WARPS, 16, 16), b (WARPS, 8, 16) float16, c (WARPS, 16, 8) float32: small integers, plain
    numbers, magnitudes far apart, subnormal ones, and sums that cancel.
    """
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((WARPS, 16, 16)), rng.standard_normal((WARPS, 8, 16))
    c = rng.standard_normal((WARPS, 16, 8))
    kind = np.arange(WARPS) % 5
    for x in (a, b, c):
        x[kind == 0] = rng.integers(-9, 10, x[kind == 0].shape)
        x[kind == 2] *= 2.0 ** rng.integers(-10, 10, x[kind == 2].shape)
        x[kind == 3] *= 2.0**-16
    a[kind == 4, :, 8:], b[kind == 4, :, 8:] = -a[kind == 4, :, :8], b[kind == 4, :, :8]
    half = np.float16
    return {"a": a.astype(half), "b": b.astype(half), "c": c.astype(np.float32)}


def record(device: Device, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The device's answers: d (n, 16, 8) float32, copied (n, 128) uint32."""
    xp, n = device.xp, len(given["a"])
    with device.active():
        made: dict[str, Any] = {
            "a": xp.asarray(given["a"].reshape(n, -1).view(np.uint32)),
            "b": xp.asarray(given["b"].reshape(n, -1).view(np.uint32)),
            "c": xp.asarray(given["c"]),
            "d": xp.empty((n, 16, 8), xp.float32),
            "copied": xp.empty((n, 128), xp.uint32),
        }
        launch(arguments(device, kernel(), n=n, **made), "golden", (n,))
        return {name: made[name].get() for name in ("d", "copied")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="default: tests/golden/sm_XX.npz")
    out = parser.parse_args().out
    missing = devices.why_not()
    if missing:
        raise SystemExit(f"bench.golden: a GPU must be there, but: {missing}")
    device = devices.get(0)
    folder = Path(__file__).parents[1] / "tests" / "golden"
    out = out or folder / f"sm_{device.limits.capability}.npz"
    given = inputs()
    out.parent.mkdir(exist_ok=True)
    np.savez_compressed(out, **given, **record(device, given))
    print(f"written: {out}")


if __name__ == "__main__":
    main()
