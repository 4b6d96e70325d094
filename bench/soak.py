"""An index library under load: many changes, damaged files, many rounds, and what updates cost.

    python -m bench.soak                    everything, about ten minutes on two cores
    python -m bench.soak changes fuzz ...   some of it: changes, fuzz, memory, files, extend, filter

Writes bench/results/soak.json. CI runs a seeded 2 % of `changes` and `fuzz` as tests.
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import machine

if __name__ == "__main__":
    machine.clear_presets()

import numpy as np

import gpuann
from bench.data import clustered
from gpuann import filters, io, ivf_flat, ivf_pq, ivf_sq

RESULT = Path(__file__).parent / "results" / "soak.json"
STEPS, FILES, ROUNDS = 10_000, 10_000, 1_000
SUFFIXES = {
    ".npy": "float32",
    ".fvecs": "float32",
    ".bvecs": "uint8",
    ".ivecs": "int32",
    ".fbin": "float32",
    ".f16bin": "float16",
    ".u8bin": "uint8",
    ".i8bin": "int8",
    ".ibin": "int32",
    ".hdf5": "float32",
    ".parquet": "float32",
    ".arrow": "float32",
}


def changes(n_steps: int = STEPS) -> dict[str, Any]:
    """Steps of the state machine of the tests, beside a dictionary; raises at a wrong answer."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import states
    from hypothesis import HealthCheck, seed, settings
    from hypothesis.stateful import run_state_machine_as_test

    done = [0]

    class Counted(states.Changes):  # type: ignore[misc,name-defined]
        def teardown(self) -> None:
            done[0] += self.steps

    many = settings(
        max_examples=100,
        stateful_step_count=50,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    begin = time.perf_counter()
    for number in itertools.count():
        run_state_machine_as_test(seed(number)(Counted), settings=many)
        if done[0] >= n_steps:
            break
    return {"steps": done[0], "wrong": 0, "seconds": time.perf_counter() - begin}


def fuzz(n_files: int = FILES) -> dict[str, Any]:
    """Damaged files: a clear error, or rows of about the size of the file; counted by reader."""
    found: dict[str, Any] = {}
    rng = np.random.default_rng(2026)
    with tempfile.TemporaryDirectory() as folder:
        for suffix, dtype in SUFFIXES.items():
            path = Path(folder) / f"x{suffix}"
            rows = (100 * rng.random((30, 4))).astype(dtype)
            io.write_vectors(path, rows)
            found[suffix] = _damaged(path, n_files, rng, lambda p=path: _rows_of(p))
        path = Path(folder) / "x.ann"
        index = ivf_pq.build(ivf_pq.IndexParams(n_lists=4, pq_dim=2), *_few(), device="cpu")
        ivf_pq.save(path, index)
        found["index"] = _damaged(
            path, n_files, rng, lambda: gpuann.load(path, device="cpu").nbytes
        )
    return found


def _few() -> tuple[np.ndarray]:
    return (np.random.default_rng(0).random((300, 8)).astype(np.float32),)


def _rows_of(path: Path) -> int:
    opened = io.open_vectors(path)
    array = opened.whole() if isinstance(opened, io.Chunks) else np.asarray(opened)
    return int(array.nbytes)


def _damaged(path: Path, n: int, rng: Any, read: Callable[[], int]) -> dict[str, int]:
    data, counts = path.read_bytes(), {"refused": 0, "read": 0}
    for turn in range(n):
        changed = bytearray(data)
        end = len(data) if turn % 2 else min(len(data), 200)  # headers are short
        at = int(rng.integers(end))
        if turn % 5 == 4:
            changed = changed[:at]
        elif turn % 5 == 3:
            changed[at:at] = rng.bytes(int(rng.integers(1, 9)))
        else:
            for place in rng.integers(end, size=1 + turn % 3):
                changed[int(place)] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            size = read()
        except (ValueError, TypeError) as error:
            if not str(error).startswith(("io.open_vectors: ", "gpuann.load: ")):
                raise
            counts["refused"] += 1
        else:
            if size > 20 * len(data):
                raise AssertionError(f"{size} bytes of a file of {len(data)}")
            counts["read"] += 1
    return counts


def memory(n_rounds: int = ROUNDS) -> dict[str, Any]:
    """Build, search, drop, over and over: resident memory after a tenth of it, and at the end."""
    rows, queries = clustered(5000, 16, 50)
    sizes = []
    for turn in range(n_rounds):
        params = ivf_pq.IndexParams(n_lists=16, pq_dim=4, kmeans_n_iters=2)
        index = ivf_pq.build(params, rows, device="cpu")
        kept = filters.from_ids(np.arange(turn % 7, 5000, 9))
        ivf_pq.search(ivf_pq.SearchParams(n_probes=4), index, queries, 10, filter=kept)
        if turn in (n_rounds // 10, n_rounds - 1):
            sizes.append(_resident())
    return {"MiB after a tenth": sizes[0] / 2**20, "MiB at the end": sizes[1] / 2**20}


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def files(n_rows: int = 1_000_000, dim: int = 128) -> dict[str, Any]:
    """Save and load of IVF-Flat, beside plain reads and writes of as many bytes."""
    rows = np.random.default_rng(0).random((n_rows, dim), np.float32)
    params = ivf_flat.IndexParams(n_lists=64, kmeans_n_iters=2, max_train_points_per_cluster=64)
    index = ivf_flat.build(params, rows, device="cpu")
    times: dict[str, list[float]] = {"save": [], "load": [], "write": [], "read": []}
    with tempfile.TemporaryDirectory() as folder:
        path, plain = Path(folder) / "x.ann", Path(folder) / "plain"
        for _ in range(5):
            _timed(times["save"], lambda: ivf_flat.save(path, index))
            _timed(times["load"], lambda: ivf_flat.load(path, device="cpu"))
            _timed(times["write"], lambda: _write(plain, rows))
            _timed(times["read"], plain.read_bytes)
        size = path.stat().st_size
    rates = {f"{k} GB/s": size / statistics.median(v) / 1e9 for k, v in times.items()}
    return {"GB": size / 1e9, **rates}


def _write(path: Path, rows: np.ndarray) -> None:
    with path.open("wb") as file:
        file.write(rows.data)
        file.flush()
        os.fsync(file.fileno())


def _timed(times: list[float], work: Callable[[], Any]) -> None:
    begin = time.perf_counter()
    work()
    times.append(time.perf_counter() - begin)


def extend(n_rows: int = 500_000, dim: int = 64) -> dict[str, Any]:
    """1 % more rows, as a share of the time of a build."""
    rows, _ = clustered(n_rows, dim, 10)
    more, found = rows[: n_rows // 100] + np.float32(0.01), {}
    for module, params in (
        (ivf_flat, ivf_flat.IndexParams(n_lists=1024)),
        (ivf_sq, ivf_sq.IndexParams(n_lists=1024)),
        (ivf_pq, ivf_pq.IndexParams(n_lists=1024, pq_dim=32)),
    ):
        begin = time.perf_counter()
        index = module.build(params, rows, device="cpu")
        built = time.perf_counter() - begin
        times: list[float] = []
        for _ in range(5):
            _timed(times, lambda m=module, i=index: m.extend(i, more))
        name = module.__name__.rpartition(".")[2]
        found[name] = {"build s": built, "extend s": statistics.median(times)}
        found[name]["share"] = statistics.median(times) / built
    return found


def filter() -> dict[str, Any]:
    """A search with half of the rows kept, over one with all, interleaved."""
    rows, queries = clustered(200_000, 64, 2000)
    half = filters.from_mask(np.random.default_rng(0).random(200_000) < 0.5)
    found = {}
    for module, params in (
        (ivf_flat, ivf_flat.IndexParams(n_lists=512)),
        (ivf_sq, ivf_sq.IndexParams(n_lists=512)),
        (ivf_pq, ivf_pq.IndexParams(n_lists=512, pq_dim=32)),
    ):
        index, asked = module.build(params, rows, device="cpu"), module.SearchParams(n_probes=16)
        ratios = []
        for _ in range(7):
            whole: list[float] = []
            some: list[float] = []
            _timed(whole, lambda m=module, i=index, a=asked: m.search(a, i, queries, 10))
            _timed(
                some, lambda m=module, i=index, a=asked: m.search(a, i, queries, 10, filter=half)
            )
            ratios.append(some[0] / whole[0])
        found[module.__name__.rpartition(".")[2]] = statistics.median(ratios)
    return found


def sentence(found: dict[str, Any]) -> str:
    """What the README says of the committed results."""
    results = {name: part["result"] for name, part in found.items()}
    about = found["files"]["machine"]
    ratios = [100 * (ratio - 1) for ratio in results["filter"].values()]
    shares = [100 * part["share"] for part in results["extend"].values()]
    save, load, write, read = (
        f"{results['files'][f'{name} GB/s']:.1f}" for name in ("save", "load", "write", "read")
    )
    steps, wrong = results["changes"]["steps"], results["changes"]["wrong"]
    least = min(sum(counts.values()) for counts in results["fuzz"].values())
    of = f"{about['date']}, {about['cores']} cores of {about['cpu']}"
    return " ".join(
        [
            f"Half of the rows filtered out costs {min(ratios):.0f} to {max(ratios):.0f} % more",
            f"than no filter, `extend` by 1 % takes {min(shares):.1f} to {max(shares):.1f} % of a",
            f"build, `save` writes {save} and `load` reads {load} GB/s where plain files go at",
            f"{write} and {read}; {steps:,} changes beside a dictionary gave {wrong} wrong",
            f"answers, and of {least:,} damaged files of each format each was refused or read as",
            f"rows of its size (`python -m bench.soak`, {of}).",
        ]
    )


PARTS = {f.__name__: f for f in (changes, fuzz, memory, files, extend, filter)}


def main() -> None:
    """Run the parts that are named, all by default, and note what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all")
    wanted = parser.parse_args().parts or list(PARTS)
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for name in wanted:
        found = PARTS[name]()
        print(name, json.dumps(found, indent=1), flush=True)
        result[name] = {"result": found, "machine": machine.describe()}
        RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
