"""ScaNN: a tree, 4-bit anisotropic codes by AVX, exact reordering."""

from typing import Any

import numpy as np
from scann import scann_ops_pybind

from bench.peers import TRAIN_ITERS, TRAIN_POINTS, Config, Shape, list_counts, probes

PACKAGE = "scann"
_threads = [1]


def use_threads(n: int) -> None:
    _threads[0] = n


def configs(shape: Shape, grid: str) -> list[Config]:
    found = []
    for n_lists in list_counts(shape.n, "small"):
        how = [
            {"leaves_to_search": p, "pre_reorder": r} for r in (40, 100) for p in probes(n_lists)
        ]
        found.append(Config("ScaNN", {"num_leaves": n_lists, "dimensions_per_block": 2}, how))
    return found


def build(rows: np.ndarray, config: Config) -> Any:
    leaves = config.build["num_leaves"]
    builder = scann_ops_pybind.builder(np.asarray(rows), 10, "squared_l2")
    builder = builder.set_n_training_threads(_threads[0]).tree(
        leaves,
        max(1, leaves // 20),
        training_sample_size=min(len(rows), TRAIN_POINTS * leaves),
        training_iterations=TRAIN_ITERS,
    )
    # for squared_l2 the project's own examples leave the anisotropic threshold out
    builder = builder.score_ah(config.build["dimensions_per_block"]).reorder(100)
    index = builder.build()
    index.set_num_threads(_threads[0])
    return index


def search(index: Any, queries: np.ndarray, k: int, how: dict[str, Any]) -> np.ndarray:
    ids, _ = index.search_batched_parallel(
        queries,
        final_num_neighbors=k,
        pre_reorder_num_neighbors=max(k, how["pre_reorder"]),
        leaves_to_search=how["leaves_to_search"],
    )
    return ids.astype(np.int64)


def size(index: Any) -> int:
    """Of its files: it does not tell what it takes in memory."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        index.serialize(folder)
        return sum(f.stat().st_size for f in Path(folder).iterdir())
