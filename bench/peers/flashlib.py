"""flashlib: exact, IVF-Flat, IVF-PQ (it has no refine), CAGRA. Unproven: written against its 0.4.0
wheel's signatures, no GPU has run it.
"""

from typing import Any

import numpy as np
import torch
from flashlib.primitives.cagra.impl import flash_cagra_build, flash_cagra_search
from flashlib.primitives.ivf_flat.impl import flash_ivf_flat_build, flash_ivf_flat_search
from flashlib.primitives.ivf_pq.impl import flash_ivf_pq_build, flash_ivf_pq_search
from flashlib.primitives.knn.impl import flash_knn_dispatch

from bench.peers import TRAIN_ITERS, TRAIN_POINTS, Config, Shape, list_counts, probes

PACKAGE = "flashlib"
BUILDS = {
    "IVF-Flat": flash_ivf_flat_build,
    "IVF-PQ": flash_ivf_pq_build,
    "CAGRA": flash_cagra_build,
}
SEARCHES = {
    "IVF-Flat": flash_ivf_flat_search,
    "IVF-PQ": flash_ivf_pq_search,
    "CAGRA": flash_cagra_search,
}


def use_threads(n: int) -> None:
    torch.set_num_threads(n)


def configs(shape: Shape, grid: str) -> list[Config]:
    found = [Config("Flat", {}, [{"exact": 1}])]
    for n_lists in list_counts(shape.n, grid):
        swept = [{"nprobe": p} for p in probes(n_lists)]
        lists = {"nlist": n_lists, "niter": TRAIN_ITERS, "train_size": TRAIN_POINTS * n_lists}
        found.append(Config("IVF-Flat", lists, swept))
        found.append(Config("IVF-PQ", lists | {"m": shape.dim // 2}, swept))
    sizes = [{"itopk_size": i} for i in (16, 32, 64, 128, 256, 512)]
    return [*found, Config("CAGRA", {"graph_degree": 32}, sizes)]


def build(rows: np.ndarray, config: Config) -> Any:
    x = torch.from_numpy(np.array(rows)).cuda()
    made = None if config.kind == "Flat" else BUILDS[config.kind](x, **config.build)
    torch.cuda.synchronize()
    return config.kind, made, x


def search(index: Any, queries: np.ndarray, k: int, how: dict[str, Any]) -> np.ndarray:
    kind, made, rows = index
    x = torch.from_numpy(queries).cuda()
    if kind == "Flat":
        _, ids = flash_knn_dispatch(x, rows, k)
    else:
        _, ids = SEARCHES[kind](made, x, k, **how)
    return ids.cpu().numpy().astype(np.int64)


def size(index: Any) -> int:
    """The tensors that the index holds, and the rows where nothing else does."""
    _, made, rows = index
    parts = [rows] if made is None else [v for v in vars(made).values() if torch.is_tensor(v)]
    return sum(t.numel() * t.element_size() for t in parts)
