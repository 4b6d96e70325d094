"""faiss on the CPU: Flat, IVF-Flat, IVF-SQ8, IVF-PQ and 4-bit fast-scan with refine, HNSW.

IVF-Flat is searched in two ways: by the index, and by faiss' script that goes list by list.
"""

import contextlib
from typing import Any

import faiss
import numpy as np
from faiss.contrib.big_batch_search import big_batch_search

from bench.peers import CODE_ROWS, TRAIN_ITERS, TRAIN_POINTS, Config, Shape, list_counts, probes
from bench.stages import stage

PACKAGE = "faiss-cpu"


def use_threads(n: int) -> None:
    faiss.omp_set_num_threads(n)


def configs(shape: Shape, grid: str) -> list[Config]:
    found = [Config("Flat", {"factory": "Flat"}, [{"exact": 1}])]
    m = shape.dim // 2
    for n_lists in list_counts(shape.n, grid):
        swept = [{"nprobe": p} for p in probes(n_lists)]
        for kind, code, factors in (
            ("IVF-Flat", "Flat", []),
            ("IVF-SQ8", "SQ8", []),
            ("IVF-SQ8+refine", "SQ8,RFlat", [2]),
            ("IVF-PQ+refine", f"PQ{m},RFlat", [4]),
            ("IVF-PQ4fs+refine", f"PQ{m}x4fs,RFlat", [4, 10]),
        ):
            search = [s | {"k_factor": f} for f in factors for s in swept] or swept
            if kind == "IVF-Flat":
                search = swept + [s | {"by": "list"} for s in swept]
            found.append(Config(kind, {"factory": f"IVF{n_lists},{code}"}, search))
    efs = [{"efSearch": e} for e in (16, 24, 32, 48, 64, 96, 128, 192, 256, 512)]
    found.append(Config("HNSW", {"factory": "HNSW16,Flat", "efConstruction": 100}, efs))
    return found


def build(rows: np.ndarray, config: Config) -> Any:
    index = faiss.index_factory(rows.shape[1], config.build["factory"])
    if config.kind == "HNSW":
        index.hnsw.efConstruction = config.build["efConstruction"]
    if config.kind.startswith("IVF"):
        inner = _ivf(index)
        inner.cp.niter, inner.cp.max_points_per_centroid = TRAIN_ITERS, TRAIN_POINTS
        if hasattr(inner, "pq"):
            books = inner.pq.cp
            books.niter, books.max_points_per_centroid = TRAIN_ITERS, CODE_ROWS // inner.pq.ksub
    with stage("training"):
        index.train(rows)
    index.add(rows)
    return index


def search(index: Any, queries: np.ndarray, k: int, how: dict[str, Any]) -> np.ndarray:
    if "efSearch" in how:
        index.hnsw.efSearch = how["efSearch"]
    if "nprobe" in how:
        _ivf(index).nprobe = how["nprobe"]
    if "k_factor" in how:
        index.k_factor = how["k_factor"]
    # the script wants more pairs than lists
    if "by" in how and len(queries) * how["nprobe"] > index.nlist + 1:
        # verbose=1 is the quiet one: at 0 it looks up its memory for a report of every list
        with contextlib.redirect_stdout(None):
            return big_batch_search(index, queries, k, verbose=1)[1]
    return index.search(queries, k)[1]


def size(index: Any) -> int:
    return len(faiss.serialize_index(index))


def _ivf(index: Any) -> Any:
    """The lists, below a refinement if there is one."""
    return faiss.extract_index_ivf(getattr(index, "base_index", index))
