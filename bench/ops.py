"""Each kernel against its roofline.

    python -m bench.ops [--out bench/results/ops.json]

On a GPU: milliseconds (median of 20 after 5 to warm up, to the end of the stream), what that is in
pairs/s, TFLOP/s and GB/s, and its share of the roofline. Without one nothing is timed: the table
has what the model says an H200 would take at best, and what the compiler made of the kernels.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from bench import kernel_resources, machine, sass

# an H200 as the model has it; clock and rate of mma.sync are assumed, no GPU has been measured
H200 = {
    "sms": 132,
    "clock_hz": 1.70e9,
    "mma_flop": 2580.0,
    "float64_flop": 128.0,
    "bytes_s": 4.3e12,
}
WARM_UPS, REPEATS = 5, 20


class Work(NamedTuple):
    """What one call has to do at least."""

    pairs: float
    """Distances."""
    half_flop: float = 0.0
    """On tensor cores."""
    double_flop: float = 0.0
    """The canonical distances."""
    bytes: float = 0.0
    """Of device memory, each read or written once."""


class Case(NamedTuple):
    """One operation on one shape."""

    name: str
    work: Work
    entry: str | None
    """The kernel that does most of it, if it is one of tensor cores ..."""
    variant: Callable[[], Any] | None
    """... and its text."""
    call: Callable[[Any], Callable[[], Any]]
    """Makes the data on a device -> what is timed."""


def roofline(work: Work, chip: dict[str, float]) -> float:
    """Seconds that it takes at best: the slowest of tensor cores, float64 and memory."""
    per_second = chip["sms"] * chip["clock_hz"]
    return max(
        work.half_flop / (per_second * chip["mma_flop"]),
        work.double_flop / (per_second * chip["float64_flop"]),
        work.bytes / chip["bytes_s"],
    )


def cases(scale: int = 1) -> list[Case]:
    """The shapes of the bars; `scale` divides rows and queries."""
    from gpuann.backends.cuda_ops.scan_lists import MANY_PER_LIST
    from gpuann.cuda import variants

    def tile(pairs_per_list: float) -> int:
        return variants.TILES[pairs_per_list >= MANY_PER_LIST]

    def flat(pairs_per_list: float) -> Any:
        halves = variants.RowsAs.HALVES
        return variants.scan_lists(
            variants.Codec.WHOLE, "float32", rows_as=halves, tile=tile(pairs_per_list)
        )

    def by_lists(dim: int, pq_dim: int, n_queries: int, k: int = 10) -> Case:
        n_queries = max(4, n_queries // scale)
        n, n_lists, n_probes = 1_000_000 // scale, max(4, 1024 // scale), max(2, 32 // scale)
        pairs = n_queries * n_probes * n / n_lists
        row = pq_dim + 4 if pq_dim else 2 * dim + 4
        survivors = 2.0 * k * n_queries
        work = Work(pairs, 2 * pairs * dim, 3 * survivors * dim, n * row + survivors * 4 * dim)
        made = _IvfScan(n, dim, pq_dim, n_lists, n_probes, n_queries, k)
        length = dim // pq_dim if pq_dim else 0
        per_list = n_queries * n_probes / n_lists

        def pick() -> Any:
            if not pq_dim:
                return flat(per_list)
            codec = variants.Codec.PQ
            return variants.scan_lists(codec, "uint8", pq_len=length, tile=tile(per_list))

        kind = f"IVF-PQ{pq_dim}" if pq_dim else "IVF-Flat"
        name = f"scan_lists {kind} {n:,} x {dim}, {n_probes} of {n_lists} lists"
        return Case(f"{name}, {n_queries:,} queries, k {k}", work, "scan_filter", pick, made)

    def exact(dim: int, k: int) -> Case:
        n, q = 1_000_000 // scale, 10_000 // scale
        work = Work(n * q, 2.0 * n * q * dim, 6.0 * q * k * dim, n * (2 * dim + 4))
        name = f"scan_lists exact {n:,} x {dim}, {q:,} queries, k {k}"
        return Case(name, work, "scan_filter", lambda: flat(q), _ExactScan(n, dim, q, k))

    def assign(problems: int, n: int, n_centers: int, dim: int) -> Case:
        n, split = n // scale, dim <= variants.SPLIT_DIM
        pairs = float(problems) * n * n_centers
        work = Work(
            pairs,
            2 * pairs * dim * (3 if split else 1),
            3.0 * problems * n * dim,
            problems * n * (4 * dim + 8),
        )
        name = f"assign {problems} x {n:,} x {dim}, {n_centers} centres"
        return Case(
            name,
            work,
            "assign",
            lambda: variants.assign(split=split),
            _Assign(problems, n, n_centers, dim),
        )

    def refine(q: int, r: int, dim: int) -> Case:
        q //= scale
        work = Work(q * r, 0, 3.0 * q * r * dim, q * r * (4 * dim + 16))
        name = f"refine {q:,} x {r} x {dim}"
        return Case(name, work, None, None, _Refine(100_000 // scale, q, r, dim))

    return [
        *(by_lists(128, 0, q) for q in (10_000, 1_000)),
        *(by_lists(768, 0, q) for q in (10_000,)),
        *(by_lists(128, 32, q) for q in (10_000, 1_000)),
        by_lists(128, 64, 10_000),
        by_lists(128, 32, 10_000, 100),
        *(exact(128, k) for k in (10, 100)),
        assign(1, 1_000_000, 1024, 128),
        assign(1, 1_000_000, 1024, 768),
        assign(32, 100_000, 256, 4),
        assign(64, 100_000, 256, 2),
        refine(10_000, 40, 128),
    ]


class _IvfScan(NamedTuple):
    n: int
    dim: int
    pq_dim: int
    n_lists: int
    n_probes: int
    n_queries: int
    k: int

    def __call__(self, device: str) -> Callable[[], Any]:
        from bench.data import clustered
        from gpuann import ivf_flat, ivf_pq
        from gpuann.engine import ivf

        rows, queries = clustered(self.n, self.dim, self.n_queries)
        rounds = 5 if self.n > 1000 else 1  # a few rows, under emulation, only show that it runs
        more = {"n_lists": self.n_lists, "kmeans_n_iters": rounds}
        if self.pq_dim:
            params = ivf_pq.IndexParams(pq_dim=self.pq_dim, **more)
            core = ivf_pq.build(params, rows, device=device).core
        else:
            core = ivf_flat.build(ivf_flat.IndexParams(**more), rows, device=device).core
        x, limit = core.backend.put(queries), 1 << 33
        with core.backend.active():
            probed = ivf.probe(core, x, self.n_probes, limit)
            probed = probed._replace(lists=core.backend.put(probed.lists))

        def call() -> None:
            with core.backend.active():
                ivf.scan_probed(core, x, self.k, probed, limit, None)

        return call


class _ExactScan(NamedTuple):
    n: int
    dim: int
    n_queries: int
    k: int

    def __call__(self, device: str) -> Callable[[], Any]:
        from bench.data import clustered
        from gpuann import brute_force

        rows, queries = clustered(self.n, self.dim, self.n_queries)
        index = brute_force.build(rows, device=device)
        x = index.backend.put(queries)
        return lambda: brute_force.search(index, x, self.k, workspace_limit=1 << 33)


class _Assign(NamedTuple):
    problems: int
    n: int
    n_centers: int
    dim: int

    def __call__(self, device: str) -> Callable[[], Any]:
        import numpy as np

        from gpuann import backends

        backend = backends.choose("bench.ops", device)
        rng = np.random.default_rng(0)
        with backend.active():
            shape = (self.problems, self.n, self.dim)
            x = backend.put(rng.standard_normal(shape, np.float32))
            centers = x[:, : self.n_centers] * np.float32(0.9)

        def call() -> None:
            with backend.active():
                backend.ops.assign(x, centers, rescore=False)

        return call


class _Refine(NamedTuple):
    n: int
    n_queries: int
    n_candidates: int
    dim: int

    def __call__(self, device: str) -> Callable[[], Any]:
        import numpy as np

        import gpuann
        from gpuann import backends

        backend = backends.choose("bench.ops", device)
        rng = np.random.default_rng(0)
        rows = backend.put(rng.standard_normal((self.n, self.dim), np.float32))
        picked = rng.integers(0, self.n, (self.n_queries, self.n_candidates))
        x, wanted = rows[: self.n_queries], backend.put(picked)
        return lambda: gpuann.refine(rows, x, wanted, 10, device=device)


def timed(case: Case, device: str, repeats: int = REPEATS, warm_ups: int = WARM_UPS) -> list[float]:
    """Seconds of each call, from the call to the end of the stream."""
    from gpuann import backends

    call, backend = case.call(device), backends.choose("bench.ops", device)
    seconds = []
    for turn in range(warm_ups + repeats):
        backend.synchronize()
        start = time.perf_counter()
        call()
        backend.synchronize()
        if turn >= warm_ups:
            seconds.append(time.perf_counter() - start)
    return seconds


def static(case: Case, arch: str = "90") -> dict[str, Any]:
    """Of the kernel that does most of the work: registers, blocks per SM, its loop."""
    if case.variant is None or case.entry is None:
        return {}
    variant = case.variant()
    rows = kernel_resources.rows_of(variant, arch)
    row = next(row for row in rows if row.entry == case.entry)
    found: dict[str, Any] = {"registers": row.took.registers, "blocks_per_sm": row.blocks}
    if sass.nvdisasm() is not None and (loop := sass.product_loop(variant, case.entry, arch)):
        found |= {"instructions_per_mma": loop.instructions / loop.mma, "loop": loop._asdict()}
    return found


def measured(case: Case, seconds: list[float], chip: dict[str, float]) -> dict[str, Any]:
    """What these times are."""
    median = statistics.median(seconds)
    return {
        "seconds": {"median": median, "least": min(seconds), "most": max(seconds)},
        "pairs_per_second": case.work.pairs / median,
        "tflops": case.work.half_flop / median / 1e12,
        "gb_per_second": case.work.bytes / median / 1e9,
        "share": roofline(case.work, chip) / median,
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="write JSON there")
    out = parser.parse_args(arguments).out
    from gpuann.cuda import devices

    missing, rows = devices.why_not(), []
    print(f"nothing is timed: {missing}" if missing else "device cuda:0")
    for case in cases():
        best = roofline(case.work, H200)
        row = {"case": case.name, "roofline_seconds": best, **static(case)}
        text = f"{case.name}: at best {best * 1e3:.2f} ms"
        if not missing:
            row |= measured(case, timed(case, "cuda"), H200)
            text += f", took {row['seconds']['median'] * 1e3:.2f} ms ({row['share']:.0%}),"
            text += f" {row['pairs_per_second']:.2e} pairs/s, {row['tflops']:.0f} TFLOP/s"
        for key in ("registers", "blocks_per_sm", "instructions_per_mma"):
            if key in row:
                text += f", {row[key]:.3g} {key.replace('_', ' ')}"
        print(text, flush=True)
        rows.append(row)
    if out is not None:
        about = machine.describe() | {"timed": not missing, "model": H200}
        out.write_text(json.dumps({"machine": about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
