"""One library in a process of its own: a line of JSON asks, a line of JSON answers.

    python -m bench.worker PEER THREADS      (started by `bench.run`)

Standard output is the answers' alone: what a library prints goes to standard error.
"""

import importlib
import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any, TextIO

from bench import machine, stages

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "TOKIO_WORKER_THREADS",
    "LANCE_CPU_THREADS",
    "GPUANN_NUM_THREADS",
)


def environment(threads: int) -> dict[str, str]:
    """That of the process: no preset of another machine, the same threads for every library."""
    return machine.without_presets() | {name: str(threads) for name in THREADS}


def peak_bytes() -> int:
    """The process' high-water mark since `reset_peak`; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    lines = [x for x in status.read_text().splitlines() if x.startswith("VmHWM")]
    return 1024 * int(lines[0].split()[1])


def reset_peak() -> int:
    """Start the high-water mark again -> bytes that are resident now."""
    place = Path("/proc/self/clear_refs")
    if place.exists():
        place.write_text("5")
    return peak_bytes()


class Worker:
    """A peer's module, its data and its indexes."""

    def __init__(self, peer: str, threads: int) -> None:
        import numpy as np

        self.np = np
        start = time.perf_counter()
        self.module = importlib.import_module(f"bench.peers.{peer}")
        self.import_seconds = time.perf_counter() - start
        self.module.use_threads(threads)
        self.indexes: dict[int, Any] = {}

    def about(self) -> dict[str, Any]:
        """What there is to know of the library."""
        import threadpoolctl

        blas = [
            {k: Path(v).name if k == "filepath" else v for k, v in lib.items()}
            for lib in threadpoolctl.threadpool_info()
        ]
        return {"import_seconds": self.import_seconds, "blas": blas}

    def load(self, folder: str) -> dict[str, Any]:
        """The rows and queries of a folder; rows are touched once, so that nobody pays for it."""
        np = self.np
        self.rows = np.load(f"{folder}/rows.npy", mmap_mode="r").view(np.ndarray)
        self.queries = np.load(f"{folder}/queries.npy")
        self.rows.sum()
        return {}

    def configs(self, grid: str) -> dict[str, Any]:
        """What this peer would build."""
        from bench.peers import Shape

        return {"configs": self.module.configs(Shape(*self.rows.shape), grid)}

    def build(self, number: int, config: list[Any]) -> dict[str, Any]:
        """Seconds, those of its stages, bytes of the index, and how far the process rose above
        where it stood.
        """
        from bench.peers import Config

        stages.take()
        before = reset_peak()
        start = time.perf_counter()
        self.indexes[number] = self.module.build(self.rows, Config(*config))
        seconds = time.perf_counter() - start
        peak = peak_bytes() - before
        return {
            "seconds": seconds,
            "stages": stages.take(),
            "peak_bytes": peak,
            "bytes": self.module.size(self.indexes[number]),
        }

    def search(
        self, number: int, how: dict[str, Any], k: int, batch: int, calls: int, first: int, ids: str
    ) -> dict[str, Any]:
        """Seconds of each call of a turn; the queries go round from `first`. With `ids` the
        results are kept in that file.
        """
        np, index = self.np, self.indexes[number]
        seconds, kept = [], []
        for i in range(calls):
            at = (first + i * batch) % len(self.queries)
            queries = self.queries[at : at + batch]
            start = time.perf_counter()
            found = self.module.search(index, queries, k, how)
            seconds.append(time.perf_counter() - start)
            if found.shape != (len(queries), k):
                raise ValueError(f"{found.shape} for {len(queries)} queries, k = {k}")
            kept.append(found)
        if ids:
            np.save(ids, np.concatenate(kept))
        return {"seconds": seconds, "n": sum(len(f) for f in kept)}

    def drop(self, number: int) -> dict[str, Any]:
        self.indexes.pop(number, None)
        return {}


def serve(worker: Worker, asked: TextIO, answers: TextIO) -> None:
    """Answer until there is nothing more; an error is an answer too."""
    for line in asked:
        job = json.loads(line)
        used = resource.getrusage(resource.RUSAGE_SELF)
        try:
            answer = getattr(worker, job.pop("do"))(**job)
        except Exception as error:  # the library's, whichever: the other points still count
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        now = resource.getrusage(resource.RUSAGE_SELF)
        cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
        print(json.dumps(answer | {"cpu_seconds": cpu}), file=answers, flush=True)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    peer, threads = sys.argv[1], int(sys.argv[2])
    if hasattr(os, "sched_setaffinity"):  # whatever a library thinks of threads
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    serve(Worker(peer, threads), sys.stdin, answers)


if __name__ == "__main__":
    main()
