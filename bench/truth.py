"""Data and exact neighbours on disk, where every library's process maps them."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.datasets import Data
from gpuann import brute_force
from gpuann.errors import bad_value

K = 100  # the most neighbours that are ever asked for
QUERIES = 2000  # the first so many have theirs found: by those recall is counted


class Stored(NamedTuple):
    """A folder with rows.npy, queries.npy and truth.npy."""

    name: str
    folder: Path
    rows: np.ndarray
    queries: np.ndarray
    truth: np.ndarray
    """(QUERIES or fewer, K) int64, of the first queries"""
    sha256: str
    """Of rows and queries: who measures again sees whether it is the same data."""


def store(data: Data, cache: Path) -> Stored:
    """Write the data once; find the neighbours by brute force once, and check some of them."""
    made = hashlib.sha256()
    for part in (data.rows, data.queries):
        made.update(f"{part.shape}{part.dtype}".encode())
        made.update(np.ascontiguousarray(part).data)
    sha256 = made.hexdigest()
    safe = "".join(c if c.isalnum() or c in "-." else "_" for c in data.name)
    folder = cache / f"{safe}-{sha256[:12]}"
    done = folder / "done.json"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "rows.npy", data.rows)
        np.save(folder / "queries.npy", data.queries)
        k = min(K, len(data.rows))
        truth = brute_force.search(brute_force.build(data.rows), data.queries[:QUERIES], k)[1]
        np.save(folder / "truth.npy", truth)
        done.write_text(
            json.dumps({"name": data.name, "sha256": sha256, **spot_check(data, truth)})
        )
    arrays: dict[str, Any] = {
        name: np.load(folder / f"{name}.npy", mmap_mode="r")
        for name in ("rows", "queries", "truth")
    }
    arrays["truth"] = arrays["truth"][:QUERIES]  # an older cache has more
    return Stored(data.name, folder, sha256=sha256, **arrays)


def spot_check(data: Data, truth: np.ndarray, n: int = 20) -> dict[str, Any]:
    """Distances of some queries' neighbours against plain float64 NumPy sums over all rows, which
    share no code with the library; a difference is refused.
    """
    picked = np.linspace(0, len(truth) - 1, min(n, len(truth))).astype(int)
    for i in picked:
        q = data.queries[i].astype(np.float64)
        squares = np.concatenate(
            [
                ((part.astype(np.float64) - q) ** 2).sum(axis=1)
                for part in np.array_split(data.rows, max(1, len(data.rows) // 50_000))
            ]
        )
        nearest = np.sort(np.partition(squares, truth.shape[1] - 1)[: truth.shape[1]])
        if not np.allclose(nearest, squares[truth[i]], rtol=1e-6):
            rule = f"have the distances that NumPy finds for query {i}"
            raise bad_value("bench", "ground truth", rule, squares[truth[i]][:3])
    return {"checked_queries": len(picked)}
