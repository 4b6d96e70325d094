"""cuVS: brute force, IVF-Flat, IVF-SQ, IVF-PQ + refine, CAGRA. Unproven: written against the
signatures of its 26.10 wheel, no GPU has run it.
"""

from typing import Any

import cupy
import numpy as np
from cuvs.common import Resources
from cuvs.neighbors import brute_force, cagra, ivf_flat, ivf_pq, ivf_sq, refine

from bench.peers import TRAIN_ITERS, TRAIN_POINTS, Config, Shape, list_counts, probes

PACKAGE = "cuvs-cu13"
MODULES = {"IVF-Flat": ivf_flat, "IVF-SQ": ivf_sq, "IVF-PQ+refine": ivf_pq, "CAGRA": cagra}
_resources = Resources()


def use_threads(n: int) -> None:
    """Host threads do nothing there."""


def configs(shape: Shape, grid: str) -> list[Config]:
    found = [Config("Flat", {}, [{"exact": 1}])]
    for n_lists in list_counts(shape.n, grid):
        swept = [{"n_probes": p} for p in probes(n_lists)]
        found += [Config(kind, {"n_lists": n_lists}, swept) for kind in ("IVF-Flat", "IVF-SQ")]
        for part in (8, 4, 2) if grid == "full" else (2,):
            for bits in (8, 6, 5) if grid == "full" else (8,):
                build = {"n_lists": n_lists, "pq_dim": shape.dim // part, "pq_bits": bits}
                how = [s | {"lut": t, "k_factor": 4} for t in ("fp16", "fp8") for s in swept]
                found.append(Config("IVF-PQ+refine", build, how))
    sizes = [{"itopk_size": i} for i in (16, 32, 64, 128, 256, 512)]
    return [*found, Config("CAGRA", {"graph_degree": 32, "intermediate_graph_degree": 64}, sizes)]


def build(rows: np.ndarray, config: Config) -> Any:
    x = cupy.asarray(rows)
    if config.kind == "Flat":
        return config.kind, brute_force.build(x, resources=_resources), x
    more: dict[str, Any] = {}
    if config.kind != "CAGRA":
        share = min(1.0, TRAIN_POINTS * config.build["n_lists"] / len(rows))
        more = {"kmeans_n_iters": TRAIN_ITERS, "kmeans_trainset_fraction": share}
    module = MODULES[config.kind]
    params = module.IndexParams(**config.build, **more)
    return config.kind, module.build(params, x, resources=_resources), x


def search(index: Any, queries: np.ndarray, k: int, how: dict[str, Any]) -> np.ndarray:
    kind, made, rows = index
    x = cupy.asarray(queries)
    if kind == "Flat":
        _, ids = brute_force.search(made, x, k, resources=_resources)
    elif kind == "IVF-PQ+refine":
        lut = np.float16 if how["lut"] == "fp16" else np.uint8
        narrow = {"lut_dtype": lut, "internal_distance_dtype": np.float16}
        params = ivf_pq.SearchParams(n_probes=how["n_probes"], **narrow)
        _, wanted = ivf_pq.search(params, made, x, k * how["k_factor"], resources=_resources)
        _, ids = refine(rows, x, cupy.asarray(wanted), k, resources=_resources)
    else:
        module = MODULES[kind]
        _, ids = module.search(module.SearchParams(**how), made, x, k, resources=_resources)
    found = cupy.asnumpy(cupy.asarray(ids))
    _resources.sync()
    return found.astype(np.int64)


def size(index: Any) -> int:
    """Not told by cuVS: what the parts must take."""
    kind, made, rows = index
    n, dim = rows.shape
    if kind == "IVF-PQ+refine":
        return n * (made.pq_dim * made.pq_bits // 8 + 8) + 4 * made.n_lists * dim + rows.nbytes
    row = {"Flat": 4 * dim, "IVF-Flat": 4 * dim + 8, "IVF-SQ": dim + 8, "CAGRA": 4 * dim + 128}
    return int(n * row[kind])
