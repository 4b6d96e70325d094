"""`dask.build` on a cluster of local processes: beside Lance, on more workers, and what the driver
holds.

    python -m bench.cluster_build [--out bench/results/cluster_build.json]

beside lance  200,000 x 96 (`gaussians`) in 8 files, IVF-PQ of 256 lists x 24 bytes; ours on one
              worker of two threads and on two of one, Lance's `create_index` in a process of its
              own held to two threads; in turns, medians; recall@10 at 20 probes, refined from 100
weak scaling  one worker of one thread with 200,000 rows, two with 400,000; two samples reported:
              the same for both, and one that grows with the rows (512 rows a list and a code)
driver        a process that builds from a dask.array of 8 blocks of 25,000 rows, of 100,000, and of
              32 blocks of 25,000: how far it rises above where it stood
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import machine

if __name__ == "__main__":
    machine.clear_presets()

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster

import gpuann
from bench import measures, worker
from bench.data import gaussians
from gpuann import brute_force, dask, ivf_pq, rerank, shards

PARAMS, ASKED = ivf_pq.IndexParams(n_lists=256, pq_dim=24), ivf_pq.SearchParams(n_probes=20)
PLAIN, REFINED = "recall@10", "recall@10 refined"
SAMPLES = ("the same sample", "a sample that grows")
LARGER = {"max_train_points_per_cluster": 512, "max_train_points_per_pq_code": 512}
DIM, N_FILES, BLOCK = 96, 8, 25_000
BLOCKS = ((8, BLOCK), (8, 4 * BLOCK), (32, BLOCK))
BARS = {
    "our time over Lance's": 1.0,
    PLAIN: 0.555,
    REFINED: 0.998,
    "weak scaling": 0.8,
    "driver": "independent of the rows",
}


class Child:
    """This module again in a process of its own: a line asks, a line of JSON answers."""

    def __init__(self, *arguments: str, threads: int = 2) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "bench.cluster_build", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=worker.environment(threads),
            cwd=Path(__file__).parents[1],
        )

    def ask(self) -> Any:
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("the process has no pipes")
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process ended with {self.process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        self.process.communicate(timeout=60)


def lance_child(folder: Path) -> None:
    """Each line builds the index anew -> its seconds and recalls."""
    import lance
    import pyarrow

    rows = np.concatenate([np.load(path) for path in sorted(folder.glob("rows-*.npy"))])
    queries, truth = np.load(folder / "queries.npy"), np.load(folder / "truth.npy")
    flat = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.reshape(-1)), DIM)
    with tempfile.TemporaryDirectory() as place:
        data = lance.write_dataset(pyarrow.table({"vector": flat}), f"{place}/rows.lance")
        how = {"num_partitions": PARAMS.n_lists, "num_sub_vectors": 24, "metric": "L2"}
        for _ in sys.stdin:
            start = time.perf_counter()
            data.create_index("vector", "IVF_PQ", replace=True, **how)
            answer = {"seconds": time.perf_counter() - start}
            for name, asked in ((PLAIN, {}), (REFINED, {"refine_factor": 10})):
                asked |= {"column": "vector", "k": 10, "nprobes": ASKED.n_probes}
                answer[name] = measures.recall(lance_ids(data, queries, asked), truth)
            print(json.dumps(answer), flush=True)


def lance_ids(data: Any, queries: Any, asked: dict[str, Any]) -> Any:
    """(n_queries, k) of one query after the other; of one fragment, so they are row numbers."""
    how = {"columns": ["_distance"], "with_row_id": True}
    found = [data.to_table(nearest=asked | {"q": query}, **how)["_rowid"] for query in queries]
    return np.stack([ids.to_numpy() for ids in found])


def driver_child(address: str, n_blocks: int, block: int) -> None:
    """Build once from blocks that workers make -> how many bytes this process rose."""
    with tempfile.TemporaryDirectory() as place, Client(address) as client:
        rows = da.random.default_rng(0).standard_normal(
            (n_blocks * block, DIM), chunks=(block, DIM), dtype=np.float32
        )
        for _ in sys.stdin:
            before = worker.reset_peak()
            dask.build(PARAMS, rows, f"{place}/index", client=client, n_shards=2)
            print(json.dumps(worker.peak_bytes() - before), flush=True)


def built(client: Client, files: list[str], folder: str, **more: Any) -> dict[str, float]:
    """Seconds of a build, and of its stages."""
    stages: dict[str, float] = {}
    last = start = time.perf_counter()

    def told(stage: str, _done: int, _n: int | None) -> None:
        nonlocal last
        now = time.perf_counter()
        stages[stage] = stages.get(stage, 0.0) + now - last
        last = now

    params = dataclasses.replace(PARAMS, **more)
    dask.build(params, files, folder, client=client, replace=True, progress=told)
    return {"seconds": time.perf_counter() - start, **stages}


def medians(turns: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.median([turn[name] for turn in turns])) for name in turns[0]}


def cluster(stack: ExitStack, n_workers: int, threads: int) -> Client:
    options = {"threads_per_worker": threads, "dashboard_address": ":0"}
    made = stack.enter_context(LocalCluster(n_workers=n_workers, **options))
    return stack.enter_context(Client(made))


def files_of(rows: Any, folder: Path) -> list[str]:
    folder.mkdir()
    made = [folder / f"rows-{i}.npy" for i in range(len(rows) // BLOCK)]
    for path, part in zip(made, np.split(rows, len(made)), strict=True):
        np.save(path, part)
    return [str(path) for path in made]


def recalls(folder: str, rows: Any, queries: Any, truth: Any) -> dict[str, float]:
    index = shards.load(folder, ["cpu"])
    found = shards.search(ASKED, index, queries, 100)[1]
    better = rerank.refine(rows, queries, found, 10)[1]
    return {
        PLAIN: measures.recall(found[:, :10], truth),
        REFINED: measures.recall(better, truth),
    }


def beside_lance(place: Path, turns: int) -> dict[str, Any]:
    rows, queries = gaussians(N_FILES * BLOCK, DIM, 1000)
    files = files_of(rows, place / "rows")
    truth = brute_force.search(brute_force.build(rows, device="cpu"), queries, 10)[1]
    np.save(place / "rows" / "queries.npy", queries)
    np.save(place / "rows" / "truth.npy", truth)
    taken: dict[str, list[Any]] = {"lance": [], "1 x 2": [], "2 x 1": []}
    with ExitStack() as stack:
        lance = Child("--lance", str(place / "rows"))
        stack.callback(lance.close)
        clients = {"1 x 2": cluster(stack, 1, 2), "2 x 1": cluster(stack, 2, 1)}
        for _ in range(turns):
            taken["lance"].append(lance.ask())
            for name, client in clients.items():
                taken[name].append(built(client, files, str(place / name)))
                print(name, taken[name][-1], "lance", taken["lance"][-1], flush=True)
    result: dict[str, Any] = {name: medians(some) for name, some in taken.items()}
    for name in ("1 x 2", "2 x 1"):
        result[f"{name} over lance"] = result[name]["seconds"] / result["lance"]["seconds"]
        result[name] |= recalls(str(place / name), rows, queries, truth)
    return result | {"turns": taken}


def weak_scaling(place: Path, turns: int) -> dict[str, Any]:
    rows, _ = gaussians(2 * N_FILES * BLOCK, DIM, 1)
    files = files_of(rows, place / "more")
    samples: dict[str, tuple[dict[str, int], dict[str, int]]]
    samples = dict(zip(SAMPLES, (({}, {}), ({}, LARGER)), strict=True))
    taken: dict[str, list[Any]] = {f"{name}, {n}": [] for name in samples for n in (1, 2)}
    with ExitStack() as stack:
        clients = [cluster(stack, n, 1) for n in (1, 2)]
        for _ in range(turns):
            for name, sample in samples.items():
                for n, client, more in zip((1, 2), clients, sample, strict=True):
                    half = files[: n * N_FILES]
                    one = built(client, half, str(place / "scaled"), **more)
                    taken[f"{name}, {n}"].append(one)
                    print(name, n, one, flush=True)
    result: dict[str, Any] = {name: medians(some) for name, some in taken.items()}
    for name in samples:
        one, two = (result[f"{name}, {n}"]["seconds"] for n in (1, 2))
        result[f"efficiency with {name}"] = one / two
    return result | {"turns": taken}


def driver() -> dict[str, Any]:
    found = {}
    with ExitStack() as stack:
        address = cluster(stack, 2, 1).scheduler.address
        for n_blocks, block in BLOCKS:
            child = Child("--driver", address, str(n_blocks), str(block))
            rows_bytes = n_blocks * block * DIM * 4
            found[f"{n_blocks} x {block}"] = {"rose_bytes": child.ask(), "rows_bytes": rows_bytes}
            child.close()
    return found


def table(found: dict[str, Any]) -> str:
    """The README's."""
    about, beside = found["machine"], found["beside lance"]
    names = {
        "2 x 1": "gpuann, two workers of one thread",
        "1 x 2": "gpuann, one worker of two threads",
        "lance": "Lance (pylance), two threads",
    }
    lines = [
        "| IVF-PQ of 200,000 x 96, 256 lists x 24 bytes | seconds | recall@10 | refined from 100 |",
        "|---|---|---|---|",
    ]
    for key, name in names.items():
        one = beside[key]
        lines.append(f"| {name} | {one['seconds']:.1f} | {one[PLAIN]:.3f} | {one[REFINED]:.4f} |")
    weak, driver = found["weak scaling"], found["driver"]
    few, large, many = (driver[f"{n} x {m}"]["rose_bytes"] / 1e6 for n, m in BLOCKS)
    same, grown = (weak[f"efficiency with {n}"] for n in SAMPLES)
    return "\n".join(lines) + (
        f"\n\n`python -m bench.cluster_build` ({about['date']}, {about['cores']} cores of "
        f"{about['cpu']}; medians of {len(beside['turns']['lance'])} turns, 20 probes). Twice the "
        f"rows on twice the workers take {1 / same:.2f} times as long, {1 / grown:.2f} times with "
        f"twice the training rows. The driver rose by {few:.1f} MB for 200,000 rows in 8 blocks, "
        f"by {large:.1f} for 800,000 in 8 and by {many:.1f} for 800,000 in 32: blocks cost it "
        f"something, rows do not."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--lance", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--driver", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.lance:
        lance_child(arguments.lance)
    elif arguments.driver:
        driver_child(arguments.driver[0], *map(int, arguments.driver[1:]))
    else:
        measure(arguments.turns, arguments.out)


def measure(turns: int, out: Path | None) -> None:
    os.environ.pop("GPUANN_NUM_THREADS", None)  # workers have the threads that Dask gives them
    gpuann.set_num_threads(2)
    result: dict[str, Any] = {"machine": machine.describe(), "bars": BARS}
    with tempfile.TemporaryDirectory() as folder:
        result["beside lance"] = beside_lance(Path(folder), turns)
        result["weak scaling"] = weak_scaling(Path(folder), turns)
    result["driver"] = driver()
    for name, value in result.items():
        if name != "machine":
            shown = {k: v for k, v in value.items() if k != "turns"}
            print(f"{name}: {json.dumps(shown, indent=1)}")
    if out:
        out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
