"""faiss on a GPU, its classic indexes. Unproven: no GPU has run it. Results are on the host."""

from typing import Any

import faiss
import numpy as np

from bench.peers import TRAIN_ITERS, TRAIN_POINTS, Config, Shape, list_counts, probes

PACKAGE = "faiss-gpu"


def use_threads(n: int) -> None:
    faiss.omp_set_num_threads(n)


def configs(shape: Shape, grid: str) -> list[Config]:
    found = [Config("Flat", {"factory": "Flat"}, [{"exact": 1}])]
    pieces = next(m for m in (64, 48, 32, 16, 8, 4, 2, 1) if shape.dim % m == 0)  # that it allows
    for n_lists in list_counts(shape.n, grid):
        swept = [{"nprobe": p} for p in probes(n_lists)]
        for kind, code in (("IVF-Flat", "Flat"), ("IVF-SQ8", "SQ8"), ("IVF-PQ", f"PQ{pieces}")):
            found.append(Config(kind, {"factory": f"IVF{n_lists},{code}"}, swept))
    return found


def build(rows: np.ndarray, config: Config) -> Any:
    resources = faiss.StandardGpuResources()
    options = faiss.GpuClonerOptions()
    host = faiss.index_factory(rows.shape[1], config.build["factory"])
    if config.kind != "Flat":
        host.cp.niter, host.cp.max_points_per_centroid = TRAIN_ITERS, TRAIN_POINTS
    index = faiss.index_cpu_to_gpu(resources, 0, host, options)
    index.train(rows)
    index.add(rows)
    return resources, index


def search(index: Any, queries: np.ndarray, k: int, how: dict[str, Any]) -> np.ndarray:
    _, made = index
    if "nprobe" in how:
        made.nprobe = how["nprobe"]
    return made.search(queries, k)[1]


def size(index: Any) -> int:
    return len(faiss.serialize_index(faiss.index_gpu_to_cpu(index[1])))
