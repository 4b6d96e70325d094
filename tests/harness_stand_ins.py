"""The little of ann-benchmarks and of cuvs-bench that bench/harness stands on, written anew.

With CUVS_BENCH (the folder that holds the package `cuvs_bench`) or ANN_BENCHMARKS (a checkout) in
the environment, the tests take the real ones instead.
"""

import itertools
import os
import sys
import types
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bench import measures


def combinations(grid):
    """{"a": [1, 2], "b": [3]} -> [{"a": 1, "b": 3}, {"a": 2, "b": 3}]"""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


class Dataset:
    def __init__(self, name, *, distance_metric="euclidean", **arrays):
        self.name, self.distance_metric = name, distance_metric
        self.training_vectors = arrays["training_vectors"]
        self.query_vectors = arrays["query_vectors"]
        self.groundtruth_neighbors = arrays.get("groundtruth_neighbors")


@dataclass
class BuildResult:
    index_path: str
    build_time_seconds: float
    index_size_bytes: int
    algorithm: str
    build_params: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)
    success: bool = True
    error_message: str | None = None


@dataclass
class SearchResult:
    neighbors: np.ndarray
    distances: np.ndarray
    search_time_ms: float
    queries_per_second: float
    recall: float
    algorithm: str
    search_params: list[dict[str, Any]]
    latency_percentiles: dict[str, float] | None = None
    gpu_time_seconds: float | None = None
    cpu_time_seconds: float | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    success: bool = True
    error_message: str | None = None


class BenchmarkBackend(ABC):
    def __init__(self, config):
        self.config = config

    @abstractmethod
    def build(self, dataset, indexes, force=False, dry_run=False): ...

    @abstractmethod
    def search(
        self,
        dataset,
        indexes,
        k,
        batch_size=10000,
        mode="latency",
        force=False,
        search_threads=None,
        dry_run=False,
    ): ...

    @property
    @abstractmethod
    def algo(self): ...

    def _check_gpu_available(self):
        return False

    def _pre_flight_check(self):
        needs = self.config.get("requires_gpu", False)
        return "no_gpu" if needs and not self._check_gpu_available() else None


@dataclass
class IndexConfig:
    name: str
    algo: str
    build_param: dict[str, Any]
    search_params: list[dict[str, Any]]
    file: str


@dataclass
class BenchmarkConfig:
    indexes: list[IndexConfig]
    backend_config: dict[str, Any] = field(default_factory=dict)


class ConfigLoader(ABC):
    def load_yaml_file(self, path):
        return yaml.safe_load(Path(path).read_text())

    def load(self, dataset, dataset_path, **kwargs):
        known = self.load_yaml_file(kwargs["dataset_configuration"])
        conf = next(one for one in known if one["name"] == dataset)
        shape = types.SimpleNamespace(dims=conf.get("dims"), distance=conf["distance"])
        found = self._discover_algo_groups(conf, dataset, dataset_path, **kwargs)
        groups = [
            (algo, group, one, combinations(one["build"]), combinations(one["search"]), meta)
            for algo, group, one, meta in found
        ]
        return shape, self._build_benchmark_configs(
            shape, conf, dataset, dataset_path, groups, **kwargs
        )

    @abstractmethod
    def _discover_algo_groups(self, dataset_conf, dataset, dataset_path, **kwargs): ...

    @abstractmethod
    def _build_benchmark_configs(
        self, dataset_config, dataset_conf, dataset, dataset_path, expanded_groups, **kwargs
    ): ...

    @property
    @abstractmethod
    def backend_type(self): ...


def install_cuvs_bench(monkeypatch):
    """Make `cuvs_bench` importable; returns the registries, {name: class} each."""
    backends, loaders, calls = {}, {}, []
    parts = {
        "cuvs_bench": {},
        "cuvs_bench.config": {"__file__": str(Path(__file__))},
        "cuvs_bench.backends": {},
        "cuvs_bench.backends.base": {
            "BenchmarkBackend": BenchmarkBackend,
            "BuildResult": BuildResult,
            "SearchResult": SearchResult,
            "Dataset": Dataset,
        },
        "cuvs_bench.backends._utils": {
            "compute_recall": lambda ids, truth, k: measures.recall(ids[:, :k], truth[:, :k])
        },
        "cuvs_bench.backends.search_spaces": {"ALGORITHM_SEARCH_SPACES": {}},
        "cuvs_bench.backends.registry": {
            "register_backend": backends.__setitem__,
            "register_config_loader": loaders.__setitem__,
            "get_backend_class": backends.__getitem__,
            "get_config_loader": loaders.__getitem__,
        },
        "cuvs_bench.orchestrator": {},
        "cuvs_bench.orchestrator.config_loaders": {
            "ConfigLoader": ConfigLoader,
            "BenchmarkConfig": BenchmarkConfig,
            "IndexConfig": IndexConfig,
        },
        "cuvs_bench.run": {},
        "cuvs_bench.run.__main__": {"main": lambda: calls.append(dict(backends))},
    }
    for name, contents in parts.items():
        module = types.ModuleType(name)
        module.__path__ = []
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
        if "." in name:
            parent, _, own = name.rpartition(".")
            setattr(sys.modules[parent], own, module)
    return calls


BASE_ANN = """
class BaseANN:
    def done(self): pass
    def get_memory_usage(self): return 1.0
    def fit(self, X): pass
    def query(self, q, n): return []
    def batch_query(self, X, n): self.res = [self.query(q, n) for q in X]
    def get_batch_results(self): return self.res
    def get_additional(self): return {}
    def __str__(self): return self.name
"""


def install_ann_benchmarks(monkeypatch, folder, ours):
    """A package `ann_benchmarks.algorithms` below `folder`, with `ours` in it as `gpuann`."""
    algorithms = folder / "ann_benchmarks" / "algorithms"
    (algorithms / "base").mkdir(parents=True)
    real = os.environ.get("ANN_BENCHMARKS")
    text = BASE_ANN
    if real:
        text = (Path(real) / "ann_benchmarks/algorithms/base/module.py").read_text()
    (algorithms / "base" / "module.py").write_text(text)
    (algorithms / "gpuann").symlink_to(ours)
    monkeypatch.syspath_prepend(str(folder))
