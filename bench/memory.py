"""Peak memory of builds and searches, against what is promised.

    python -m bench.memory [--out FILE]

A build may take its data, its index and 1 GB; a search its result and `workspace_limit`. Each row
is measured in this process by the kernel's own high-water mark, reset before (Linux).
"""

import argparse
import gc
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import machine

if __name__ == "__main__":
    machine.clear_presets()

from bench.data import clustered
from gpuann import brute_force, ivf_flat, ivf_pq

MB = 1e6


def status(field: str) -> float:
    """A size of /proc/self/status in bytes."""
    return 1024.0 * int(re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def peak(call: Callable[[], Any]) -> tuple[Any, float]:
    """Result of the call, and how far the resident set rose above where it stood before."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    result = call()
    return result, status("VmHWM") - before


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows, queries = clustered(500_000, 96, 100_000)
    report: list[dict[str, Any]] = []

    def add(work: str, used: float, allowed: float) -> None:
        report.append({"work": work, "MB": used / MB, "allowed MB": allowed / MB})
        verdict = "ok  " if used <= allowed else "MISS"
        print(f"{verdict} {used / MB:8.0f} MB of {allowed / MB:6.0f}  {work}", flush=True)

    built = {}
    for name, module, params in (
        ("IVF-PQ", ivf_pq, ivf_pq.IndexParams(n_lists=1024, pq_dim=48, kmeans_n_iters=4)),
        ("IVF-Flat", ivf_flat, ivf_flat.IndexParams(n_lists=1024, kmeans_n_iters=4)),
    ):
        index, used = peak(lambda m=module, p=params: m.build(p, rows))
        built[name] = (module, index)
        add(f"build {name} 500k x 96, beside the data", used, index.nbytes + 1e9)

        def stream(m: Any = module, p: Any = params) -> Any:
            return m.build(p, lambda: (rows[i : i + 50_000] for i in range(0, len(rows), 50_000)))

        index, used = peak(stream)
        add(f"build {name} from chunks, beside the data", used, index.nbytes + 1e9)

    for name, (module, index) in built.items():
        for n, k, limit in ((10_000, 10, 1 << 30), (100_000, 100, 1 << 28)):
            params = module.SearchParams(n_probes=32, workspace_limit=limit)
            x = queries[:n]
            _, used = peak(lambda m=module, p=params, i=index, x=x, k=k: m.search(p, i, x, k))
            work = f"search {name}, {n:,} queries, k = {k}, workspace_limit {limit >> 20} MiB"
            add(work, used, 12 * n * k + limit)
    exact = brute_force.build(rows)
    for limit in (1 << 28, 1 << 30):
        _, used = peak(
            lambda w=limit: brute_force.search(exact, queries[:10_000], 100, workspace_limit=w)
        )
        add(
            f"brute force 500k, 10,000 queries, k = 100, workspace_limit {limit >> 20} MiB",
            used,
            12 * 10_000 * 100 + limit,
        )
    if arguments.out:
        found = {"machine": machine.describe(), "rows": report}
        arguments.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
