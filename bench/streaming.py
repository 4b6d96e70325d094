"""Builds and searches of an index that does not fit: peak memory, and the price in time.

    python -m bench.streaming [--gib 2.6] [--limit-mib 256] [--out bench/results/streaming.json]

Clustered rows of 96 float32 in a file, ten times memory_limit, are built into IVF-Flat and IVF-PQ
on disk; then 10,000 queries are searched from there in blocks, and with the index in memory. Builds
and searches run in processes of their own. Peaks are the kernel's high-water mark of the resident
set, above where it stood before (Linux).
"""

import argparse
import json
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bench import machine

if __name__ == "__main__":
    machine.clear_presets()

import numpy as np

import gpuann
from bench.data import clustered
from bench.memory import MB, peak
from gpuann import ivf_flat, ivf_pq, shards, streamed

DIM, N_QUERIES, K = 96, 10_000, 10
BLOCK, WORKSPACE = 1 << 25, 1 << 27
KINDS = {
    "IVF-Flat": (ivf_flat, ivf_flat.IndexParams(n_lists=1024, kmeans_n_iters=10)),
    "IVF-PQ": (ivf_pq, ivf_pq.IndexParams(n_lists=1024, pq_dim=48, kmeans_n_iters=10)),
}


def write_rows(path: Path, n: int) -> Any:
    """n rows in a file, 200,000 by 200,000 of one distribution -> queries."""
    rows, queries = clustered(200_000, DIM, N_QUERIES)
    random = np.random.default_rng(1)
    with path.open("wb") as file:
        for _ in range(0, n, len(rows)):
            moved = rows[random.permutation(len(rows))]
            moved += np.float32(0.3) * random.standard_normal(moved.shape, dtype=np.float32)
            moved.tofile(file)
    return queries


def read_rows(path: Path) -> Any:
    """Chunks of 50,000 rows, that can be read again."""

    def chunks() -> Any:
        with path.open("rb") as file:
            while len(chunk := np.fromfile(file, np.float32, 50_000 * DIM)):
                yield chunk.reshape(-1, DIM)

    return chunks


def build(kind: str, path: Path, limit: int, folder: Path) -> dict[str, Any]:
    """In a process of its own."""
    gpuann.set_num_threads(2)
    _, params = KINDS[kind]
    data = read_rows(path)
    manifest, used = peak(
        lambda: streamed.build(params, data, folder, memory_limit=limit, device="cpu")
    )
    size = sum(file.stat().st_size for file in folder.glob("shard-*"))
    return {
        "rows": manifest.n_rows,
        "index MB": size / MB,
        "build: MB used": used / MB,
        "build: MB allowed": limit / MB,
    }


def search(kind: str, folder: Path, queries: Any) -> dict[str, Any]:
    """In a process of its own: first from disk, then with the index in memory."""
    gpuann.set_num_threads(2)
    probe = KINDS[kind][0].SearchParams(n_probes=32, workspace_limit=WORKSPACE)

    def first() -> Any:
        opened = streamed.open(folder, device="cpu", block_bytes=BLOCK)
        return opened, streamed.search(probe, opened, queries, K)

    (opened, found), used = peak(first)
    loaded = shards.load(folder, ["cpu"])
    want = shards.search(probe, loaded, queries, K)
    calls = {
        "streamed": lambda: streamed.search(probe, opened, queries, K),
        "in memory": lambda: shards.search(probe, loaded, queries, K),
    }
    return {
        "open and search: MB used": used / MB,
        "open and search: MB allowed": (2 * BLOCK + WORKSPACE + 12 * N_QUERIES * K) / MB,
        "same answer as in memory": all(
            bool((a == b).all()) for a, b in zip(found, want, strict=True)
        ),
        "seconds": machine.interleaved(calls, 3),
    }


def table(result: dict[str, Any]) -> str:
    """As the README has it."""
    lines = ["| | memory used, of allowed | batch, streamed | the same index in memory |"]
    lines.append("|---|---|---|---|")
    for kind in KINDS:
        used, allowed = (result[kind][f"build: MB {what}"] for what in ("used", "allowed"))
        lines.append(f"| build {kind} | {used:.0f} of {allowed:.0f} MB | | |")
    for kind in KINDS:
        own = result[kind]
        used, allowed = (own[f"open and search: MB {what}"] for what in ("used", "allowed"))
        seconds = [own["seconds"][name]["median"] for name in ("streamed", "in memory")]
        memory = f"{used:.0f} of {allowed:.0f} MB | {seconds[0]:.1f} s | {seconds[1]:.1f} s"
        lines.append(f"| search {kind}, {own['index MB'] / 1000:.1f} GB on disk | {memory} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=2.6)
    parser.add_argument("--limit-mib", type=int, default=256)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    n = int(arguments.gib * 2**30 / (4 * DIM) / 200_000 + 1) * 200_000
    result: dict[str, Any] = {"machine": machine.describe(), "data MB": n * 4 * DIM / MB}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "rows"
        queries = write_rows(path, n)
        for kind in KINDS:
            folder, limit = Path(scratch) / kind, arguments.limit_mib << 20
            with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as fresh:
                result[kind] = fresh.submit(build, kind, path, limit, folder).result()
                result[kind] |= fresh.submit(search, kind, folder, queries).result()
            print(kind, json.dumps(result[kind], indent=1), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
