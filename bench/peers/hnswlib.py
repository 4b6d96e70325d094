"""hnswlib: HNSW only."""

from typing import Any

import hnswlib
import numpy as np

from bench.peers import Config, Shape

PACKAGE = "hnswlib"
_threads = [1]


def use_threads(n: int) -> None:
    _threads[0] = n


def configs(shape: Shape, grid: str) -> list[Config]:
    efs = [{"ef": e} for e in (16, 24, 32, 48, 64, 96, 128, 192, 256, 512)]
    links = (16, 32) if grid == "full" and shape.n <= 100_000 else (16,)
    return [Config("HNSW", {"M": m, "ef_construction": 100}, efs) for m in links]


def build(rows: np.ndarray, config: Config) -> Any:
    index = hnswlib.Index(space="l2", dim=rows.shape[1])
    index.init_index(max_elements=len(rows), random_seed=0, **config.build)
    index.add_items(rows, num_threads=_threads[0])
    return index


def search(index: Any, queries: np.ndarray, k: int, how: dict[str, Any]) -> np.ndarray:
    index.set_ef(max(how["ef"], k))
    return index.knn_query(queries, k, num_threads=_threads[0])[0].astype(np.int64)


def size(index: Any) -> int:
    return int(index.index_file_size())
