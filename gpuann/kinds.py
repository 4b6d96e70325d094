"""The kinds of inverted-file index, told apart in one place."""

from types import ModuleType
from typing import Any, cast

from gpuann import training, validate
from gpuann.errors import bad_type, bad_value
from gpuann.indexes import brute_force, given_pq, ivf_flat, ivf_pq, ivf_sq, refined
from gpuann.metric import Metric
from gpuann.params import IvfIndexParams
from gpuann.trained import TrainedModels


def check_build(where: str, params: Any) -> None:
    """Raise unless params are the IndexParams of one of the kinds."""
    validate.instance(where, "index_params", params, IvfIndexParams)
    if not isinstance(params, ivf_flat.IndexParams | ivf_pq.IndexParams | ivf_sq.IndexParams):
        rule = "be of ivf_flat, ivf_pq or ivf_sq"
        raise bad_value(where, "index_params", rule, type(params).__name__)
    way_out = "models without rows are what distributed.train_local gives"
    validate.only(where, "add_data_on_build", params.add_data_on_build, True, way_out)


def code_shape(where: str, params: IvfIndexParams, dim: int) -> training.Shape:
    """How rows of `dim` components are coded, None where they are stored whole."""
    if isinstance(params, ivf_pq.IndexParams):
        return ivf_pq.code_shape(where, params, dim)
    if isinstance(params, ivf_sq.IndexParams):
        return training.ScalarShape(params.by_residual)
    return None


def given_models(
    where: str,
    params: IvfIndexParams,
    dim: int,
    how: Metric,
    centers: Any,
    pq_centers: Any,
    bounds: Any = None,
) -> TrainedModels:
    """Quantisers that a caller brings, checked."""
    if isinstance(params, ivf_sq.IndexParams):
        return ivf_sq.given_models(where, params, dim, how, centers, bounds)
    if isinstance(params, ivf_pq.IndexParams):
        shape = ivf_pq.code_shape(where, params, dim)
        return given_pq.models(where, params, shape, dim, how, centers, pq_centers)
    check_build(where, params)
    return ivf_flat.given_models(where, cast("ivf_flat.IndexParams", params), dim, how, centers)


def name_of(models: TrainedModels | None) -> str:
    """The public module for rows stored with given models."""
    if models is None:
        return "brute_force"
    return module_of(models).__name__.rpartition(".")[2]


def module_of(models: TrainedModels) -> ModuleType:
    """The module of rows stored with given models."""
    if models.codebooks is not None:
        return ivf_pq
    return ivf_flat if models.scalar is None else ivf_sq


def of_index(index: object) -> str:
    """The public module of an index; the package for what is none."""
    package, _, name = type(index).__module__.rpartition(".")
    return name if package == "gpuann.indexes" else "gpuann"


def check_index(where: str, index: Any) -> None:
    """Raise unless it is an index of one device."""
    if not isinstance(index, brute_force.Index | ivf_flat.Index | ivf_pq.Index | ivf_sq.Index):
        rule, got = "be an Index of brute_force, ivf_flat, ivf_pq or ivf_sq", type(index).__name__
        kept = isinstance(index, refined.Index)
        way_out = "gpuann.refined has what there is for it, and index.inner is one of those"
        raise bad_type(where, "index", rule, f"{'refined.' * kept}{got}", way_out if kept else None)


def check_search_of(where: str, params: Any, index: object) -> None:
    """Raise unless params are the SearchParams of an index, or None for brute force."""
    module = {m.Index: m for m in (ivf_flat, ivf_pq, ivf_sq)}.get(type(index))
    if module is not None:
        validate.instance(where, "search_params", params, module.SearchParams)
    elif params is not None:
        raise bad_type(where, "search_params", "be None for brute force", type(params).__name__)


def check_search(where: str, params: Any, models: TrainedModels | None) -> None:
    """Raise unless params are the SearchParams for rows stored with given models."""
    if models is not None:
        validate.instance(where, "search_params", params, module_of(models).SearchParams)
    elif params is not None:
        raise bad_type(where, "search_params", "be None for brute force", type(params).__name__)
