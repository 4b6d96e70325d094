"""gpuann in ann-benchmarks: this folder is `ann_benchmarks/algorithms/gpuann` of a checkout of it.

The harness hands over NumPy arrays, float64 in its random sets, and wants ids alone: it computes
the distances itself. A -1 would be its last row, so what is missing is left out.
"""

from types import ModuleType
from typing import Any, ClassVar

import numpy as np

import gpuann
from gpuann import ivf_flat, ivf_pq, ivf_sq, refined

from ..base.module import BaseANN

METRICS = {"euclidean": "sqeuclidean", "angular": "cosine"}  # the same order, no root taken


class Ivf(BaseANN):
    """What the three kinds share.

    metric : "euclidean" or "angular"; device : "cpu" or "cuda"; n_lists : int
    """

    kind: ClassVar[ModuleType]
    title: ClassVar[str]

    def __init__(self, metric: str, device: str, n_lists: int) -> None:
        if metric not in METRICS:
            raise ValueError(
                f"{self.title}: metric must be one of {', '.join(METRICS)}, got {metric}"
            )
        self.metric, self.device = METRICS[metric], device
        self.build_with: dict[str, int] = {"n_lists": n_lists}
        self.search_with: dict[str, int] = {}
        self.index: Any = None
        self.found: np.ndarray = np.empty((0, 0), np.int64)

    def fit(self, rows: np.ndarray) -> None:
        """rows (n, dim), any float"""
        params = self.kind.IndexParams(metric=self.metric, **self.build_params(rows.shape[1]))
        self.index = self.kind.build(params, as_float32(rows), device=self.device)

    def build_params(self, dim: int) -> dict[str, int]:
        return self.build_with

    def set_query_arguments(self, n_probes: int) -> None:
        self.search_with = {"n_probes": n_probes}

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        """queries (n, dim) -> ids (n, k) int64, -1 where there are fewer"""
        params = self.kind.SearchParams(**self.search_with)
        return self.kind.search(params, self.index, queries, k)[1]

    def query(self, row: np.ndarray, k: int) -> np.ndarray:
        ids = self.search(as_float32(row[None]), k)[0]
        return ids[ids >= 0]

    def batch_query(self, rows: np.ndarray, k: int) -> None:
        self.found = self.search(as_float32(rows), k)

    def get_batch_results(self) -> list[np.ndarray]:
        return [ids[ids >= 0] for ids in self.found]

    def get_memory_usage(self) -> float:
        """kB of the index. What the process holds would be that of the data set too, and on a GPU
        nothing of what counts.
        """
        return 0.0 if self.index is None else self.index.nbytes / 1024

    def get_additional(self) -> dict[str, Any]:
        threads = gpuann.get_num_threads()
        return {"gpuann": gpuann.__version__, "device": self.index.device, "threads": threads}

    def done(self) -> None:
        self.index = None

    def __str__(self) -> str:
        given = {**self.build_with, **self.search_with}
        return f"{self.title}({', '.join(f'{name}={value}' for name, value in given.items())})"


class IvfFlat(Ivf):
    """Whole vectors in inverted lists."""

    kind, title = ivf_flat, "gpuann IVF-Flat"


class IvfSq(Ivf):
    """A byte a component in inverted lists."""

    kind, title = ivf_sq, "gpuann IVF-SQ"


class IvfPqRefine(Ivf):
    """Product-quantised vectors; the k * k_factor best are compared with the rows, which are kept.

    pq_len : int; components that one code of a byte stands for
    """

    kind, title = ivf_pq, "gpuann IVF-PQ+refine"

    def __init__(self, metric: str, device: str, n_lists: int, pq_len: int) -> None:
        super().__init__(metric, device, n_lists)
        self.build_with["pq_len"] = pq_len

    def build_params(self, dim: int) -> dict[str, int]:
        return {
            "n_lists": self.build_with["n_lists"],
            "pq_dim": -(-dim // self.build_with["pq_len"]),
        }

    def fit(self, rows: np.ndarray) -> None:
        rows = as_float32(rows)
        super().fit(rows)
        self.index = refined.build(self.index, rows)

    def set_query_arguments(self, n_probes: int, k_factor: int) -> None:
        self.search_with = {"n_probes": n_probes, "k_factor": k_factor}

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        params = ivf_pq.SearchParams(n_probes=self.search_with["n_probes"])
        more = self.search_with["k_factor"]
        return refined.search(params, self.index, queries, k, k_factor=more)[1]


def as_float32(rows: np.ndarray) -> np.ndarray:
    """(n, dim), without a copy where it is so already"""
    return np.ascontiguousarray(rows, np.float32)
