"""Partitions beside the single index: the textbook's exercise, and the price of splitting.

    python -m bench.sharding [--out bench/results/sharding.json]

Textbook data, 200,000 x 64, 256 lists, 500 queries, k = 10. With a shared model four partitions
give the single index' ids for every query; with a model each they do not, and must probe more. The
timing is a batch of 10,000 queries over 500,000 x 96 clustered rows, one partition with two threads
against two partitions that share them, in turn, medians.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from bench import machine

if __name__ == "__main__":
    machine.clear_presets()

import numpy as np

import gpuann
from bench.data import clustered, textbook
from gpuann import brute_force, ivf_flat, kmeans, shards

BARS = {"recall of independent models": (0.955, 0.975), "two partitions against one": 0.9}


def _recall(ids: Any, truth: Any) -> float:
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(ids, truth, strict=True)]))


def exercise() -> dict[str, Any]:
    """The textbook's exercise: split it, compare recall and rows scanned."""
    base, asked, start = (np.asarray(a) for a in textbook())
    rows, queries = base.astype(np.float32), asked.astype(np.float32)
    lloyd = kmeans.KMeansParams(n_clusters=256, init_method="Array", max_iter=8, tol=0.0)
    centers, _, _ = kmeans.fit(lloyd, rows, rows[start], device="cpu")
    params, probe = ivf_flat.IndexParams(n_lists=256), ivf_flat.SearchParams(n_probes=8)
    single = ivf_flat.build_precomputed(params, rows, centers, device="cpu")
    truth = brute_force.search(brute_force.build(rows, device="cpu"), queries, 10)[1]
    want = ivf_flat.search(probe, single, queries, 10)
    split = shards.build(params, rows, ["cpu"] * 4, centers=centers)
    got = shards.search(probe, split, queries, 10)
    nearest = brute_force.search(brute_force.build(centers, device="cpu"), queries, 8)[1]
    parts = [replicas[0].part.lists for replicas in split.shards]
    scanned = [float(np.diff(part.offsets)[nearest].sum(axis=1).mean()) for part in parts]
    own = ivf_flat.IndexParams(n_lists=64, kmeans_n_iters=8)
    apart = shards.build(own, rows, ["cpu"] * 4, scope="independent")
    independent = shards.search(ivf_flat.SearchParams(n_probes=2), apart, queries, 10)
    apart_scanned = 0.0
    for models, (replica,) in zip(apart.models, apart.shards, strict=True):
        own_centers = models.centers if models.shift is None else models.centers + models.shift
        finder = brute_force.build(own_centers, device="cpu")
        lists = brute_force.search(finder, queries, 2)[1]
        apart_scanned += float(np.diff(replica.part.lists.offsets)[lists].sum(axis=1).mean())
    return {
        "recall, single index": _recall(want[1], truth),
        "recall, 4 partitions, shared model": _recall(got[1], truth),
        "queries with the single index' ids and distances": int(
            ((got[1] == want[1]) & (got[0] == want[0])).all(axis=1).sum()
        ),
        "queries": len(queries),
        "rows scanned, single index": float(single.list_sizes[nearest].sum(axis=1).mean()),
        "rows scanned, 4 partitions": sum(scanned),
        "recall of independent models": _recall(independent[1], truth),
        "rows scanned, independent models": apart_scanned,
    }


def timing(repeats: int) -> dict[str, Any]:
    """One partition against two, on the same two threads."""
    rows, queries = clustered(500_000, 96, 10_000)
    gpuann.set_num_threads(2)
    params, probe = ivf_flat.IndexParams(n_lists=1024), ivf_flat.SearchParams(n_probes=32)
    one = ivf_flat.build(params, rows, device="cpu")
    centers = one.centers
    two = shards.build(params, rows, ["cpu"] * 2, centers=centers)
    calls = {
        "one": lambda: ivf_flat.search(probe, one, queries, 10),
        "two": lambda: shards.search(probe, two, queries, 10),
    }
    seconds = machine.interleaved(calls, repeats)
    ratio = seconds["one"]["median"] / seconds["two"]["median"]
    return {"seconds": seconds, "two partitions against one": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    result = {"machine": machine.describe(), "bars": BARS, **exercise()}
    result |= timing(arguments.repeats)
    for name, value in result.items():
        if name not in ("machine", "bars"):
            print(f"{name}: {value}")
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
