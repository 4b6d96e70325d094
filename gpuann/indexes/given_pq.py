"""The quantisers of IVF-PQ that a caller brings."""

from typing import Any

import numpy as np

from gpuann import arrays, backends, training, validate
from gpuann.arrays import HostArray
from gpuann.codecs import axes
from gpuann.codecs.axes import Axes
from gpuann.errors import bad_type, bad_value
from gpuann.metric import Metric
from gpuann.params import IvfIndexParams
from gpuann.trained import TrainedModels


def models(
    where: str,
    params: IvfIndexParams,
    shape: training.CodeShape,
    dim: int,
    how: Metric,
    centers: Any,
    pq_centers: Any,
    rotation: Any = None,
) -> TrainedModels:
    """Centres (n_lists, dim), codebooks (pq_dim, 2^pq_bits, pq_len) and a rotation (width, dim)
    float32 that a caller brings, checked.
    """
    pq_dim, pq_len, pq_book_size = shape[:3]
    given, shift = training.given_centers(where, centers, dim, params.n_lists, how)
    codebooks = arrays.as_host(where, "pq_centers", pq_centers)
    if codebooks.shape != (pq_dim, pq_book_size, pq_len):
        rule = f"have shape ({pq_dim}, {pq_book_size}, {pq_len})"
        raise bad_value(where, "pq_centers", rule, codebooks.shape)
    if codebooks.dtype != np.float32:
        raise bad_type(where, "pq_centers", "be float32", codebooks.dtype)
    validate.finite(where, "pq_centers", codebooks.reshape(-1, pq_len))
    width = pq_dim * pq_len
    if rotation is None:
        turned = _asked_rotation(where, shape, dim, params.seed)
    else:
        turned = _given_rotation(where, dim, width, rotation)
    turn = Axes(None, turned, width)
    found = turn.of(backends.choose(where, "cpu"), given), shift, np.ascontiguousarray(codebooks)
    return TrainedModels(how, dim, *found, rotation=turn.rotation)


def _asked_rotation(where: str, shape: training.CodeShape, dim: int, seed: int) -> HostArray | None:
    """The rotation (width, dim) of parameters, where the caller brings none."""
    if shape.rotation == "opq":
        raise bad_value(where, "rotation_matrix", "be given, as rotation is", '"opq"')
    width = shape.pq_dim * shape.pq_len
    return axes.random(width, dim, seed) if shape.rotation == "random" else None


def _given_rotation(where: str, dim: int, width: int, rotation: Any) -> HostArray:
    """A rotation (width, dim) that a caller brings, checked, in the units of `codecs.axes`."""
    array = arrays.as_host(where, "rotation_matrix", rotation)
    if array.shape != (width, dim):
        raise bad_value(where, "rotation_matrix", f"have shape ({width}, {dim})", array.shape)
    if array.dtype.kind != "f":
        raise bad_type(where, "rotation_matrix", "be of floats", array.dtype)
    validate.finite(where, "rotation_matrix", array)
    x = array.astype(np.float64)
    error = float(np.abs(x.T @ x - np.eye(dim)).max())
    if error > 1e-3:
        rule = "have orthonormal columns, to 0.001"
        raise bad_value(where, "rotation_matrix", rule, f"an error of {error:.3g}")
    return axes.in_units(array)
