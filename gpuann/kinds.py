"""The kinds of inverted-file index, told apart in one place."""

from typing import Any, cast

from gpuann import ivf_flat, ivf_pq, training, validate
from gpuann.errors import bad_type, bad_value
from gpuann.metric import Metric
from gpuann.params import IvfIndexParams
from gpuann.trained import TrainedModels


def check_build(where: str, params: Any) -> None:
    """Raise unless params are the IndexParams of one of the kinds."""
    validate.instance(where, "index_params", params, IvfIndexParams)
    if not isinstance(params, ivf_flat.IndexParams | ivf_pq.IndexParams):
        raise bad_value(where, "index_params", "be of ivf_flat or ivf_pq", type(params).__name__)


def code_shape(where: str, params: IvfIndexParams, dim: int) -> training.CodeShape | None:
    """How rows of `dim` components are cut for codebooks, None where they are stored whole."""
    if isinstance(params, ivf_pq.IndexParams):
        return ivf_pq.code_shape(where, params, dim)
    return None


def given_models(
    where: str, params: IvfIndexParams, dim: int, how: Metric, centers: Any, pq_centers: Any
) -> TrainedModels:
    """Quantisers that a caller brings, checked."""
    if isinstance(params, ivf_pq.IndexParams):
        return ivf_pq.given_models(where, params, dim, how, centers, pq_centers)
    check_build(where, params)
    return ivf_flat.given_models(where, cast("ivf_flat.IndexParams", params), dim, how, centers)


def name_of(models: TrainedModels | None) -> str:
    """The public module for rows stored with given models."""
    if models is None:
        return "brute_force"
    return "ivf_flat" if models.codebooks is None else "ivf_pq"


def check_search(where: str, params: Any, models: TrainedModels | None) -> None:
    """Raise unless params are the SearchParams for rows stored with given models."""
    if models is not None:
        module = ivf_flat if models.codebooks is None else ivf_pq
        validate.instance(where, "search_params", params, module.SearchParams)
    elif params is not None:
        raise bad_type(where, "search_params", "be None for brute force", type(params).__name__)
