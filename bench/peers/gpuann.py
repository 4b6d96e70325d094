"""gpuann on the CPU; `DEVICE` says where, and gpuann_cuda.py is this file with another."""

from typing import Any

import numpy as np

import gpuann
from bench.peers import CODE_ROWS, TRAIN_ITERS, TRAIN_POINTS, Config, Shape, list_counts, probes
from bench.stages import staged
from gpuann import brute_force, ivf_flat, ivf_pq, ivf_sq, refined, training

PACKAGE = "gpuann"
DEVICE = "cpu"
MODULES: dict[str, Any] = {"IVF-Flat": ivf_flat, "IVF-SQ": ivf_sq, "IVF-PQ": ivf_pq}

training.train = staged("training", training.train)  # a build is one call: seen from inside


def use_threads(n: int) -> None:
    gpuann.set_num_threads(n)


def configs(shape: Shape, grid: str) -> list[Config]:
    found = [Config("Flat", {}, [{"exact": 1}])]
    for n_lists in list_counts(shape.n, grid):
        swept = [{"n_probes": p} for p in probes(n_lists)]
        both = [s | {"k_factor": 4} for s in swept]
        found.append(Config("IVF-Flat", {"n_lists": n_lists}, swept))
        found.append(Config("IVF-SQ", {"n_lists": n_lists}, swept))
        found.append(
            Config("IVF-SQ+refine", {"n_lists": n_lists}, [s | {"k_factor": 2} for s in swept])
        )
        pq = {"n_lists": n_lists, "pq_dim": shape.dim // 2}
        found.append(Config("IVF-PQ+refine", pq, both))
    return found


def build(rows: np.ndarray, config: Config) -> Any:
    if config.kind == "Flat":
        return brute_force.build(rows, device=DEVICE)
    module = MODULES[config.kind.partition("+")[0]]
    train = {"kmeans_n_iters": TRAIN_ITERS, "max_train_points_per_cluster": TRAIN_POINTS}
    share = {"kmeans_trainset_fraction": 1.0}  # so that the points of a cluster decide alone
    codes = {"max_train_points_per_pq_code": CODE_ROWS // 256} if module is ivf_pq else {}
    params = module.IndexParams(**config.build, **train, **share, **codes)
    index = module.build(params, rows, device=DEVICE)
    return refined.build(index, rows) if config.kind.endswith("+refine") else index


def search(index: Any, queries: np.ndarray, k: int, how: dict[str, Any]) -> np.ndarray:
    if "exact" in how:
        return brute_force.search(index, queries, k)[1]
    inner = index.inner if "k_factor" in how else index
    module = next(m for m in MODULES.values() if isinstance(inner, m.Index))
    params = module.SearchParams(n_probes=how["n_probes"])
    if "k_factor" in how:
        return refined.search(params, index, queries, k, k_factor=how["k_factor"])[1]
    return module.search(params, index, queries, k)[1]


def size(index: Any) -> int:
    return int(index.nbytes)
