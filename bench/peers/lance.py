"""Lance (pylance): IVF-PQ over rows on disk, with refine. A batch is asked in as many threads."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa

from bench.peers import Config, Shape, list_counts, probes

PACKAGE = "pylance"
_pool = [ThreadPoolExecutor(1)]
_folders: list[tempfile.TemporaryDirectory[str]] = []  # they go when the process ends


def use_threads(n: int) -> None:
    _pool[0] = ThreadPoolExecutor(n)


def configs(shape: Shape, grid: str) -> list[Config]:
    lists, m = list_counts(shape.n, "small")[0], max(1, shape.dim // 8)
    build = {"num_partitions": lists, "num_sub_vectors": m}
    how = [{"nprobes": p, "refine_factor": f} for f in (4, 10) for p in probes(lists)[::2]]
    return [Config("IVF-PQ+refine", build, how)]


def build(rows: np.ndarray, config: Config) -> Any:
    _folders.append(tempfile.TemporaryDirectory(prefix="bench-lance-"))
    flat = pa.array(rows.reshape(-1), pa.float32())
    vectors = pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
    ids = pa.array(np.arange(len(rows), dtype=np.int64))
    data = lance.write_dataset(pa.table({"id": ids, "vector": vectors}), _folders[-1].name)
    return data.create_index("vector", "IVF_PQ", metric="L2", **config.build)


def search(index: Any, queries: np.ndarray, k: int, how: dict[str, Any]) -> np.ndarray:
    def one(q: np.ndarray) -> np.ndarray:
        asked = {"column": "vector", "q": q, "k": k, **how}
        found = index.to_table(columns=["id", "_distance"], nearest=asked)["id"].to_numpy()
        out = np.full(k, -1, np.int64)
        out[: len(found)] = found[:k]
        return out

    return np.stack(list(_pool[0].map(one, queries)))


def size(index: Any) -> int:
    """Of the folder: the rows and their index."""
    return sum(f.stat().st_size for f in Path(index.uri).rglob("*") if f.is_file())
