"""What every kernel takes on every architecture: registers, shared memory, spills, blocks per SM.

    python -m bench.kernel_resources --write     compiles all, writes results/kernel_resources.txt

No GPU is needed. A test compares the file with what the pinned NVRTC says, so that a change of a
kernel's needs shows in review. Dynamic shared memory is that of a search with dim 128 and k = 10.
"""

import argparse
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from gpuann.backends.cuda_ops import _scan, _select, _sizes
from gpuann.backends.cuda_ops.scan_lists import Tile
from gpuann.cuda import compile, variants
from gpuann.cuda.device import STATIC_SHARED
from gpuann.cuda.launch import Limits
from gpuann.cuda.source import Budget, Source

RESULT = Path(__file__).parent / "results" / "kernel_resources.txt"
ARCHS = ("80", "90", "100", "120")
DIM, K = 128, 10
_OF_A_TILE = ("PQ_LEN", "TILE")  # constants
NVRTC = "13.0"  # budgets hold for one compiler


class Multiprocessor(NamedTuple):
    """What its blocks share: CUDA C++ Programming Guide, compute capabilities."""

    shared_block: int
    shared: int
    threads: int
    blocks: int
    registers: int = 65536


MULTIPROCESSORS = {
    "80": Multiprocessor(166_912, 167_936, 2048, 32),
    "90": Multiprocessor(232_448, 233_472, 2048, 32),
    "100": Multiprocessor(232_448, 233_472, 2048, 32),
    "120": Multiprocessor(101_376, 102_400, 1536, 24),
}
RESERVED = 1024  # bytes of shared memory that the system takes of each block


def blocks_per_sm(arch: str, registers: int, shared: int, threads: int) -> int:
    """How many blocks fit on a multiprocessor; 0 if not even one.

    Registers are given to warps in units of 256, by four schedulers of a quarter of them each.
    """
    sm, warps = MULTIPROCESSORS[arch], -(-threads // 32)
    if shared > sm.shared_block or threads > 1024 or registers > 255:
        return 0
    of_warp = -(-registers * 32 // 256) * 256
    by_registers = 4 * (sm.registers // 4 // of_warp) // warps
    by_shared = sm.shared // (-(-shared // 128) * 128 + RESERVED)
    return min(by_registers, by_shared, sm.threads // (32 * warps), sm.blocks)


def dynamic_shared(variant: Source, entry: str, arch: str) -> int:
    """Bytes that a search with dim 128 and k = 10 asks for."""
    device = _Limited(Limits(int(arch), 1, MULTIPROCESSORS[arch].shared_block - STATIC_SHARED))
    if entry == "scan_filter":
        pq_len, tile = (int(re.findall(rf"{n}(\d+)", variant.variant)[0]) for n in _OF_A_TILE)
        return Tile(device, DIM, pq_len, 256, tile).shared
    if entry in ("scan_bound", "scan_finish", "scan_queries"):
        return _scan.Plan("bench", device, DIM, K).shared
    if entry == "scan_tighten":
        return 4 * max(_scan.SURVIVORS, 4 * K)
    if entry == "scan_lut":
        return _scan.Plan("bench", device, DIM, K).shared + 256 * DIM // 2 * 4
    if entry in ("select_k", "refine"):
        return _select.capacity("bench", device, K) * _sizes.BYTES_PER_PLACE
    return 0


class _Limited(NamedTuple):
    limits: Limits


class Row(NamedTuple):
    """One entry of one variant on one architecture."""

    symbol: str
    entry: str
    arch: str
    threads: int
    took: compile.Resources
    dynamic: int
    blocks: int
    budget: Budget


def measure() -> list[Row]:
    """Compile everything, on two threads."""
    jobs = [(variant, arch) for variant in variants.table() for arch in ARCHS]
    with ThreadPoolExecutor(2) as pool:
        return [row for rows in pool.map(lambda job: rows_of(*job), jobs) for row in rows]


def rows_of(variant: Source, arch: str) -> list[Row]:
    """Every entry of a variant on one architecture."""
    took = compile.report(variant.text, f"sm_{arch}")
    rows = []
    for entry in variant.entries:
        one, dynamic = took[variant.symbol(entry)], dynamic_shared(variant, entry, arch)
        blocks = blocks_per_sm(arch, one.registers, one.shared + dynamic, variant.block)
        symbol = variant.symbol(entry)
        budget = dict(variant.budgets)[entry]
        rows.append(Row(symbol, entry, arch, variant.block, one, dynamic, blocks, budget))
    return rows


def table(rows: list[Row]) -> str:
    """As text, one line an entry and architecture."""
    head = "arch registers static dynamic stack spills blocks/SM entry"
    lines = [f"NVRTC {compile.version()}, {' '.join(compile.OPTIONS)}", head]
    for row in sorted(rows, key=lambda r: (r.symbol, int(r.arch))):
        took = row.took
        lines.append(
            f"{row.arch:>4} {took.registers:9} {took.shared:6} {row.dynamic:7} {took.stack:5} "
            f"{took.spills:6} {row.blocks:9} {row.symbol}"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    write = parser.parse_args().write
    text = table(measure())
    if write:
        RESULT.write_text(text)
        print(f"written: {RESULT}")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
