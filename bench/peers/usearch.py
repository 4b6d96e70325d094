"""usearch: HNSW of float32 rows."""

from typing import Any

import numpy as np
from usearch.index import Index

from bench.peers import Config, Shape

PACKAGE = "usearch"
_threads = [1]


def use_threads(n: int) -> None:
    _threads[0] = n


def configs(shape: Shape, grid: str) -> list[Config]:
    efs = [{"expansion": e} for e in (16, 24, 32, 48, 64, 96, 128, 192, 256, 512)]
    return [Config("HNSW", {"connectivity": 16, "expansion_add": 100}, efs)]


def build(rows: np.ndarray, config: Config) -> Any:
    index = Index(ndim=rows.shape[1], metric="l2sq", dtype="f32", **config.build)
    index.add(np.arange(len(rows)), rows, threads=_threads[0])
    return index


def search(index: Any, queries: np.ndarray, k: int, how: dict[str, Any]) -> np.ndarray:
    index.expansion_search = how["expansion"]
    found = index.search(queries, k, threads=_threads[0])
    ids = np.asarray(found.keys).astype(np.int64).reshape(len(queries), k)
    if hasattr(found, "counts"):  # of a batch; a single query has k results or raises above
        ids[np.arange(k) >= np.asarray(found.counts)[:, None]] = -1
    return ids


def size(index: Any) -> int:
    return int(index.memory_usage)
