"""What to build and search: the groups of algos/*.yaml, or of `--configuration`."""

from pathlib import Path
from typing import Any

import cuvs_bench.config
from cuvs_bench.orchestrator.config_loaders import BenchmarkConfig, ConfigLoader, IndexConfig

from gpuann_cuvs_bench import kinds

OWN = Path(__file__).parent / "algos"


class GpuannConfigLoader(ConfigLoader):
    """One benchmark a group, with all its indexes, as that of the C++ back end.

    Results go by the kind and the device, so that both can lie beside each other:
    gpuann_ivf_flat_cpu, gpuann_ivf_flat_cuda.
    """

    def __init__(self, config_path: str | None = None) -> None:
        self.config_path = config_path or str(Path(cuvs_bench.config.__file__).parent)

    @property
    def backend_type(self) -> str:
        return "gpuann"

    def _discover_algo_groups(
        self, dataset_conf: dict[str, Any], dataset: str, dataset_path: str, **kwargs: Any
    ) -> list[tuple[str, str, dict[str, Any], dict[str, Any]]]:
        algorithms, groups = _names(kwargs.get("algorithms")), _names(kwargs.get("groups"))
        pairs = [tuple(name.split(".", 1)) for name in _names(kwargs.get("algo_groups")) or []]
        found = {}
        for path in _files(kwargs.get("algorithm_configuration")):
            conf = self.load_yaml_file(str(path))
            algo = conf["name"]
            if algo not in kinds.MODULES:
                continue  # a folder may hold those of other back ends
            for group, group_conf in conf.get("groups", {}).items():
                chosen = algorithms is None or algo in algorithms
                if (chosen and (groups is None or group in groups)) or (algo, group) in pairs:
                    found[algo, group] = group_conf  # a later file wins, as in cuvs-bench
        return [(algo, group, conf, {}) for (algo, group), conf in found.items()]

    def _build_benchmark_configs(
        self,
        dataset_config: Any,
        dataset_conf: dict[str, Any],
        dataset: str,
        dataset_path: str,
        expanded_groups: list[Any],
        **kwargs: Any,
    ) -> list[BenchmarkConfig]:
        device = kwargs.get("device", "cpu")
        if device not in ("cpu", "cuda"):
            way_out = "choose among GPUs with CUDA_VISIBLE_DEVICES"
            raise ValueError(f"gpuann: device must be cpu or cuda, got {device!r}; {way_out}")
        k, batch_size = kwargs.get("count", 10), kwargs.get("batch_size", 10000)
        tuned = kwargs.get("_tune_build_params") if kwargs.get("_tune_mode") else None
        made = []
        for algo, group, _, every_build, every_search, _ in expanded_groups:
            label = f"{algo}_{device}"
            if tuned is None:
                dim, searches = dataset_config.dims, every_search
                builds = [given for given in every_build if kinds.can_build(given, dim)]
            else:
                builds, searches = [tuned], [kwargs.get("_tune_search_params") or {}]
            prefix = label if group == "base" else f"{label}_{group}"
            folder = Path(dataset_path) / dataset / "index"
            indexes = [_index(folder, prefix, algo, given, searches) for given in builds]
            files = f"{label},{group}", f"{label},{group},k{k},bs{batch_size}"
            how = {
                "name": label,
                "algo": label,
                "device": device,
                "requires_gpu": device == "cuda",
                "folder": str(Path(dataset_path) / dataset / "result"),
                "output_filename": files,
                "min_seconds": kwargs.get("min_seconds", 1.0),
            }
            made.append(BenchmarkConfig(indexes=indexes, backend_config=how))
        return made


def _index(
    folder: Path, prefix: str, algo: str, build: dict[str, Any], searches: list[dict[str, Any]]
) -> IndexConfig:
    name = ".".join([prefix, *(f"{word}{value}" for word, value in build.items())])
    return IndexConfig(
        name=name,
        algo=algo,
        build_param=dict(build),
        search_params=[dict(given) for given in searches if kinds.can_search(build, given)],
        file=str(folder / name),
    )


def _names(text: str | None) -> list[str] | None:
    return [name.strip() for name in text.split(",")] if text else None


def _files(given: str | None) -> list[Path]:
    found = sorted(OWN.glob("*.yaml"))
    if given is None:
        return found
    path = Path(given)
    if not path.exists():
        raise FileNotFoundError(f"gpuann: --configuration must be a file or a folder, got {given}")
    return [*found, *(sorted(path.glob("*.y*ml")) if path.is_dir() else [path])]
