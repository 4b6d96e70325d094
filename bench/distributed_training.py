"""Training over parts beside training in one place: how good the quantisers are.

    python -m bench.distributed_training [--out bench/results/distributed_training.json]

`gaussians()`, 200,000 x 96 in 8 parts, 256 lists, 24 codes a row: the mean squared error of the
decoded rows, over that of `ivf_pq.build`, rows shuffled over the parts and sorted by cluster; means
over five seeds, for a sample alone makes 0.3 % of difference.
Beside it what others do with centres that parts find by themselves: k-means over them, weighted by
their rows, and their average. Then the bounds of a scalar quantiser: two parts, one of them with
twice the scale or an offset, coded with the merged bounds and with those of the first part.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from bench import machine

if __name__ == "__main__":
    machine.clear_presets()

import numpy as np

from bench.data import gaussians
from gpuann import brute_force, distributed, ivf_pq, kmeans

N_PARTS, SEEDS = 8, range(5)
PARAMS = ivf_pq.IndexParams(n_lists=256, pq_dim=24)
BARS = {"error ratio": (0.995, 1.005), "recall with merged bounds": 0.94}


def error(models: distributed.TrainedModels, rows: Any) -> float:
    """Mean squared error of decoding rows (n, dim) coded with models."""
    shard = distributed.build_part(models, rows, device="cpu")
    sizes = np.diff(shard.lists.offsets)
    center = models.centers[np.repeat(np.arange(len(sizes)), sizes)]
    entries = models.codebooks[np.arange(len(models.codebooks)), shard.payload.codes]
    decoded = center + entries.reshape(center.shape)
    if models.shift is not None:
        decoded += models.shift
    return float(((decoded - rows[shard.ids]) ** 2).sum(axis=1).mean())


def codebooks(rows: Any, parts: list[Any]) -> dict[str, float]:
    """Error ratios for one way of cutting the rows, each the mean over SEEDS."""
    sizes, dim = [len(part) for part in parts], rows.shape[1]
    single, over_parts, over_samples = [], [], []
    peers: dict[str, float] = {}
    for seed in SEEDS:
        params = dataclasses.replace(PARAMS, seed=seed)
        needs = distributed.sample_needs(params, len(rows), dim)
        plan = distributed.plan_sample(sizes, needs, dim, seed=seed)
        samples = [
            distributed.sample_part(part, n, part=i, seed=seed)
            for i, (part, n) in enumerate(zip(parts, plan.rows, strict=True))
        ]
        index = ivf_pq.build(params, rows, device="cpu")
        one = distributed.TrainedModels("sqeuclidean", dim, index.centers, None, index.pq_centers)
        single.append(error(one, rows))
        models = distributed.train_distributed(params, samples, device="cpu")
        local = distributed.train_local(params, samples, device="cpu")
        over_parts.append(error(models, rows))
        over_samples.append(error(models, rows) / error(local, rows))
        peers = peers or _peers(one, rows, samples, single[0])
    return {
        "sums of the parts": float(np.mean(over_parts) / np.mean(single)),
        "over training on the same samples in one place": float(np.mean(over_samples)),
        **peers,
    }


def _peers(one: Any, rows: Any, samples: list[Any], base: float) -> dict[str, float]:
    """Codebooks that parts learn by themselves from the single index' residuals, then joined."""
    own, counts = [], []
    for sample in samples:
        labels, _ = kmeans.predict(kmeans.KMeansParams(), sample.x, one.centers, device="cpu")
        residuals = sample.x - one.centers[labels]
        pieces = np.stack(np.split(residuals, PARAMS.pq_dim, axis=1))
        found = [_fit(piece) for piece in pieces]
        own.append(np.stack([centers for centers, _ in found]))
        counts.append(np.stack([n for _, n in found]))
    merged = []
    for m in range(PARAMS.pq_dim):
        centers = np.concatenate([books[m] for books in own])
        weights = np.concatenate([n[m] for n in counts])
        merged.append(_weighted(centers, weights))
    ratios = {
        "k-means over the parts' own": np.stack(merged),
        "their average": np.mean(own, axis=0),
    }
    made = {}
    for name, books in ratios.items():
        joined = distributed.TrainedModels(
            one.metric, one.dim, one.centers, None, books.astype(np.float32)
        )
        made[name] = error(joined, rows) / base
    return made


def _fit(piece: Any) -> tuple[Any, Any]:
    params = kmeans.KMeansParams(n_clusters=256, max_iter=20, tol=0.0)
    centers, _, _ = kmeans.fit(params, piece, device="cpu")
    labels, _ = kmeans.predict(params, piece, centers, device="cpu")
    return centers, np.bincount(labels, minlength=256)


def _weighted(centers: Any, weights: Any, n_iters: int = 20) -> Any:
    """256 centres of weighted points (n, dim)."""
    chosen = centers[np.random.default_rng(0).choice(len(centers), 256, replace=False)]
    for _ in range(n_iters):
        labels, _ = kmeans.predict(kmeans.KMeansParams(), centers, chosen, device="cpu")
        total = np.bincount(labels, weights, minlength=256)
        columns = [np.bincount(labels, weights * x, minlength=256) for x in centers.T]
        means = np.stack(columns, axis=1) / np.maximum(total, 1)[:, None]
        chosen = np.where(total[:, None] > 0, means, chosen).astype(np.float32)
    return chosen


def scalar_bounds() -> dict[str, dict[str, float]]:
    """Recall@10 near two parts of 20,000 x 32, coded in 8 bits a component."""
    made = {}
    for name, scale, offset in [("2 x scale", 2, 0), ("+ 20", 1, 20), ("8 x scale + 20", 8, 20)]:
        rows, queries = gaussians(40_000, 32, 400, clusters=300)
        rows[20_000:] = rows[20_000:] * scale + offset
        queries[200:] = queries[200:] * scale + offset
        samples = [distributed.sample_part(rows[a : a + 20_000], 20_000) for a in (0, 20_000)]
        merged = distributed.merge_bounds([sample.bounds for sample in samples])
        truth = brute_force.search(brute_force.build(rows, device="cpu"), queries, 10)[1]
        for kind, bounds in [("merged", merged), ("of the first part", samples[0].bounds)]:
            low, high = bounds
            step = np.maximum(high - low, 1e-30) / 255
            codes = np.clip(np.round((rows - low) / step), 0, 255)
            decoded = (low + codes * step).astype(np.float32)
            ids = brute_force.search(brute_force.build(decoded, device="cpu"), queries, 10)[1]
            hits = (ids[:, :, None] == truth[:, None, :]).any(axis=2).mean(axis=1)
            made[f"{name}, bounds {kind}"] = {
                "first part": float(hits[:200].mean()),
                "second part": float(hits[200:].mean()),
            }
    return made


def table(result: dict[str, Any]) -> str:
    """The error ratios as gpuann/distributed/README.md has them."""
    by_cut = [result[f"error over that of one place, rows {cut}"] for cut in ("shuffled", "sorted")]
    lines = ["| codebooks from | rows shuffled | rows sorted by cluster |", "|---|---|---|"]
    for name in by_cut[0]:
        lines.append(f"| {name} | {by_cut[0][name]:.4f} | {by_cut[1][name]:.4f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows, _ = gaussians(200_000, 96, 1)
    coarse = kmeans.KMeansParams(n_clusters=64, max_iter=10)
    labels, _ = kmeans.predict(coarse, rows, kmeans.fit(coarse, rows, device="cpu")[0])
    ordered = rows[np.argsort(labels, kind="stable")]
    result = {
        "machine": machine.describe(),
        "bars": BARS,
        "error over that of one place, rows shuffled": codebooks(
            rows, np.array_split(rows, N_PARTS)
        ),
        "error over that of one place, rows sorted": codebooks(
            ordered, np.array_split(ordered, N_PARTS)
        ),
        "recall with 8-bit scalars": scalar_bounds(),
    }
    print(table(result))
    print(json.dumps(result["recall with 8-bit scalars"], indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
