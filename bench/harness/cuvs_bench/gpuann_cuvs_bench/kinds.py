"""The kinds of index by the names of cuvs-bench's configuration, and its parameters as gpuann's.

Its words stay where it has one, so that the same numbers mean the same for cuVS and for gpuann:
nlist, nprobe, niter; ratio is how many rows there are for each that trains; refine_ratio how many
results are compared exactly for each that is given.
"""

from types import ModuleType
from typing import Any

from gpuann import brute_force, ivf_flat, ivf_pq, ivf_sq

MODULES: dict[str, ModuleType] = {
    "gpuann_brute_force": brute_force,
    "gpuann_ivf_flat": ivf_flat,
    "gpuann_ivf_sq": ivf_sq,
    "gpuann_ivf_pq": ivf_pq,
}
METRICS = {"euclidean": "sqeuclidean", "inner_product": "inner_product", "cosine": "cosine"}
_LISTS = {
    "nlist": "n_lists",
    "niter": "kmeans_n_iters",
    "max_train_points_per_cluster": "max_train_points_per_cluster",
    "seed": "seed",
}
_CODES = {"pq_dim": "pq_dim", "pq_bits": "pq_bits", "rotation": "rotation"}
_BUILD: dict[str, dict[str, str]] = {
    "gpuann_brute_force": {},
    "gpuann_ivf_flat": _LISTS,
    "gpuann_ivf_sq": _LISTS,
    "gpuann_ivf_pq": {**_LISTS, **_CODES},
}

_LIST_SPACE = {
    "nlist": {"type": "int", "min": 256, "max": 65536, "log": True},
    "ratio": {"type": "int", "min": 1, "max": 10},
    "niter": {"type": "int", "min": 10, "max": 50},
}
_PROBE_SPACE = {"nprobe": {"type": "int", "min": 1, "max": "nlist"}}
_REFINE_SPACE = {"refine_ratio": {"type": "int", "min": 1, "max": 10}}
# for `--mode tune`, as those of cuVS's kinds
SEARCH_SPACES: dict[str, dict[str, Any]] = {
    "gpuann_brute_force": {"build": {}, "search": {}},
    "gpuann_ivf_flat": {"build": _LIST_SPACE, "search": _PROBE_SPACE},
    "gpuann_ivf_sq": {"build": _LIST_SPACE, "search": _PROBE_SPACE | _REFINE_SPACE},
    "gpuann_ivf_pq": {
        "build": _LIST_SPACE
        | {
            "pq_dim": {"type": "int", "min": 8, "max": 128},
            "pq_bits": {"type": "int", "min": 4, "max": 8},
        },
        "search": _PROBE_SPACE | _REFINE_SPACE,
    },
}


def build(kind: str, given: dict[str, Any], distance: str, rows: Any, device: str) -> Any:
    """An index of rows (n, dim) with build parameters of the configuration."""
    if distance not in METRICS:
        raise ValueError(f"{kind}: distance must be one of {', '.join(METRICS)}, got {distance!r}")
    metric = METRICS[distance]
    params = index_params(kind, given, metric)
    if params is None:
        return brute_force.build(rows, metric, device=device)
    return MODULES[kind].build(params, rows, device=device)


def index_params(kind: str, given: dict[str, Any], metric: str) -> Any:
    """IndexParams, None for brute force."""
    known = _BUILD[kind]
    _check(kind, "build", given, [*known, "ratio"] if known else [])
    if not known:
        return None
    words = {known[name]: value for name, value in given.items() if name != "ratio"}
    if "ratio" in given:
        words["kmeans_trainset_fraction"] = 1 / given["ratio"]
    return MODULES[kind].IndexParams(metric=metric, **words)


def search_params(kind: str, given: dict[str, Any]) -> tuple[Any, int]:
    """SearchParams, None for brute force, and the refine ratio, 1 for none."""
    _check(
        kind, "search", given, [] if kind == "gpuann_brute_force" else ["nprobe", "refine_ratio"]
    )
    if kind == "gpuann_brute_force":
        return None, 1
    words = {"n_probes": given["nprobe"]} if "nprobe" in given else {}
    return MODULES[kind].SearchParams(**words), given.get("refine_ratio", 1)


def can_build(given: dict[str, Any], dim: int | None) -> bool:
    """False for more codes than components."""
    return dim is None or given.get("pq_dim", 0) <= dim


def can_search(build_param: dict[str, Any], given: dict[str, Any]) -> bool:
    """False for more probes than lists: the same search again."""
    return given.get("nprobe", 1) <= build_param.get("nlist", float("inf"))


def _check(kind: str, what: str, given: dict[str, Any], known: list[str]) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        rule = f"be among {', '.join(known)}" if known else "be left out"
        raise ValueError(f"{kind}: {what} parameters must {rule}, got {', '.join(unknown)}")
