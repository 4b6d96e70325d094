"""Training and encoding apart: what is learnt once, and rows encoded with it, on any device.

    rows -> sample -> TrainedModels (host arrays) -> an index part of any rows, on any device

Parts of one model can be searched apart and merged: a row has the same code, a query the same lists
and a pair the same distance whichever part the row is in.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gpuann import arrays, validate
from gpuann.arrays import HostArray
from gpuann.backends import Backend
from gpuann.backends.seam import PqPayload, SqPayload
from gpuann.codecs import axes, opq, payloads, pq, sq, vectors
from gpuann.codecs.axes import Axes
from gpuann.engine import building, ivf
from gpuann.errors import bad_type, bad_value
from gpuann.metric import Metric
from gpuann.params import IvfIndexParams
from gpuann.trained import TrainedModels

ROTATIONS = ("none", "random", "opq")


class CodeShape(NamedTuple):
    """How rows are cut for codebooks, and what those learn from."""

    pq_dim: int
    pq_len: int
    """Components of a subspace: pq_dim * pq_len is dim, rounded up."""
    pq_book_size: int
    """Entries of a codebook, 2^pq_bits."""
    rotation: str
    """One of ROTATIONS."""
    max_train_points_per_pq_code: int


class ScalarShape(NamedTuple):
    """What a scalar quantiser codes."""

    by_residual: bool
    """Residuals, or the rows themselves."""


Shape = CodeShape | ScalarShape | None
"""What is trained beside the centres; None: nothing, rows are stored whole."""

SCALAR_ROWS = 1 << 16  # that the bounds of a scalar quantiser are looked up in, at least
_ROWS_AT_ONCE = 1 << 16  # whose residuals are looked at


def train(
    backend: Backend,
    rows: arrays.Rows,
    params: IvfIndexParams,
    how: Metric,
    shape: Shape,
    *,
    progress: bool,
) -> TrainedModels:
    """Learn the centres from a sample, and what the codes of this shape want."""
    most, fraction = rows_wanted(params, shape), params.kmeans_trainset_fraction
    sample = building.draw_sample(rows, how, fraction, params.n_lists, most, params.seed)
    return train_sample(backend, sample, params, how, shape, progress=progress)


def rows_wanted(params: IvfIndexParams, shape: Shape) -> int:
    """Training rows: those that the centres take, or what the codes want where lists are few."""
    codes = 0
    if isinstance(shape, CodeShape):
        codes = shape.max_train_points_per_pq_code * shape.pq_book_size
    elif isinstance(shape, ScalarShape):
        codes = SCALAR_ROWS
    return max(params.n_lists * params.max_train_points_per_cluster, codes)


def train_sample(
    backend: Backend,
    sample: building.Sample,
    params: IvfIndexParams,
    how: Metric,
    shape: Shape,
    *,
    progress: bool,
) -> TrainedModels:
    """Learn from training rows that have been drawn."""
    dim = sample.x.shape[1]
    n_iters, seed = params.kmeans_n_iters, params.seed
    with backend.active():
        centers = building.train_centers(backend, sample, params, progress=progress)
        if shape is None:
            return TrainedModels(how, dim, backend.get(centers), sample.shift, None)
        if isinstance(shape, ScalarShape):
            moved = vectors.moved(sample.x, sample.shift)
            bounds = value_bounds(backend, moved, centers if shape.by_residual else None)
            models = TrainedModels(how, dim, backend.get(centers), sample.shift, None)
            return with_bounds(models, shape, bounds)
        pq_dim, step = shape.pq_dim, residual_step(shape, len(sample.x))
        x = backend.put(vectors.moved(sample.x[::step], sample.shift))
        rotation = learn_rotation(
            backend, shape, dim, seed, lambda: backend.get(residuals_of(backend, x, centers))
        )
        turn = None if rotation is None else backend.put(rotation)
        turned = Axes(None, turn, pq_dim * shape.pq_len)
        centers = turned.of(backend, centers)
        residuals = residuals_of(backend, turned.of(backend, x), centers)
        books = pq.train(
            backend, residuals, pq_dim, shape.pq_book_size, n_iters, seed, progress=progress
        )
        found = backend.get(centers), sample.shift, backend.get(books)
        return TrainedModels(how, dim, *found, rotation=rotation)


def learn_rotation(
    backend: Backend,
    shape: CodeShape,
    dim: int,
    seed: int,
    residuals: Callable[[], HostArray],
) -> HostArray | None:
    """The rotation (width, dim) float32 that a shape asks for, on the host; residuals (n, dim) are
    asked for where it is learnt.
    """
    width = shape.pq_dim * shape.pq_len
    if shape.rotation == "random":
        return axes.random(width, dim, seed)
    if shape.rotation == "opq":
        return opq.learn(backend, residuals(), shape.pq_dim, shape.pq_len, shape.pq_book_size, seed)
    return None


def residual_step(shape: CodeShape, n_rows: int) -> int:
    """One of so many of n_rows training rows trains the codebooks: a sample is in row order, so
    that takes it evenly.
    """
    most = shape.max_train_points_per_pq_code * shape.pq_book_size
    most = max(1, min(most, building.SAMPLE_FLOATS // 2 // (shape.pq_dim * shape.pq_len)))
    return -(-n_rows // most)


def residuals_of(backend: Backend, x: Any, centers: Any) -> Any:
    """Rows (n, width) less their nearest centre of (n_lists, width) -> (n, width) float32."""
    labels, _ = backend.ops.assign(x[None], centers[None], rescore=False)
    return x - centers[labels[0]]


def value_bounds(backend: Backend, x: HostArray, centers: Any) -> HostArray:
    """Smallest and largest value of each component of shifted rows (n, dim) on the host, or of
    their residuals to centers (n_lists, dim) on the device -> (2, dim) float32; of no rows
    (+inf, -inf).
    """
    low, high = np.full(x.shape[1], np.inf, np.float32), np.full(x.shape[1], -np.inf, np.float32)
    for at in range(0, len(x), _ROWS_AT_ONCE):
        for least, most in _bounds_of(backend, backend.put(x[at : at + _ROWS_AT_ONCE]), centers):
            low, high = np.minimum(low, backend.get(least)), np.maximum(high, backend.get(most))
    return np.stack([low, high])


def _bounds_of(backend: Backend, x: Any, centers: Any) -> list[tuple[Any, Any]]:
    """As `value_bounds`, of device rows (n, dim) -> smallest and largest (dim,) of some of them."""
    if centers is None:
        return backend.over_rows(lambda part: _least_and_most(x[part]), *x.shape)
    labels, _ = backend.ops.assign(x[None], centers[None], rescore=False)
    return backend.over_rows(
        lambda part: _least_and_most(x[part] - centers[labels[0, part]]), *x.shape
    )


def _least_and_most(x: Any) -> tuple[Any, Any]:
    return x.min(axis=0), x.max(axis=0)


def with_bounds(models: TrainedModels, shape: ScalarShape, bounds: HostArray) -> TrainedModels:
    """Models with a scalar quantiser for values within bounds (2, dim) float32, as coded."""
    scalar = np.stack(sq.steps_of(bounds))
    return dataclasses.replace(models, scalar=scalar, by_residual=shape.by_residual)


def with_given_bounds(
    where: str, models: TrainedModels, shape: ScalarShape, bounds: Any
) -> TrainedModels:
    """`with_bounds` that a caller brings: of rows in the data's coordinates, or of residuals."""
    coded = checked_bounds(where, bounds, models.dim)
    if models.shift is not None and not shape.by_residual:
        coded = coded - models.shift
    return with_bounds(models, shape, coded)


def checked_bounds(where: str, bounds: Any, dim: int) -> HostArray:
    """Smallest and largest values (2, dim) float32 that a caller brings."""
    array = arrays.as_host(where, "bounds", bounds)
    if array.shape != (2, dim):
        raise bad_value(where, "bounds", f"have shape (2, {dim})", array.shape)
    if array.dtype.kind not in "iuf":
        raise bad_type(where, "bounds", "be numbers", array.dtype)
    validate.finite(where, "bounds", array)
    low, high = array
    if (low > high).any():
        at = int(np.flatnonzero(low > high)[0])
        rule = "hold smallest values, then largest"
        raise bad_value(where, "bounds", rule, f"{low[at]} and {high[at]} of component {at}")
    return np.ascontiguousarray(array, np.float32)


def models_of(core: ivf.Core) -> TrainedModels:
    """The quantisers of an index, on the host."""
    backend, payload = core.backend, core.payload

    def here(array: Any) -> Any:
        return None if array is None else backend.get(array)

    shift, rotation, _ = core.coarse.axes
    found = here(core.coarse.centers), here(shift)
    how, dim, turn = core.metric, core.dim, here(rotation)
    if isinstance(payload, PqPayload):
        return TrainedModels(how, dim, *found, here(payload.codebooks), rotation=turn)
    if isinstance(payload, SqPayload):
        scalar = np.stack([here(payload.step), here(payload.middle)])
        residual = payload.centers is not None
        return TrainedModels(how, dim, *found, None, scalar=scalar, by_residual=residual)
    return TrainedModels(how, dim, *found, None)


def build_part(
    backend: Backend,
    models: TrainedModels,
    rows: arrays.Rows,
    ids: HostArray | None = None,
    *,
    progress: bool,
    searched: bool = True,
) -> ivf.Core:
    """Store rows with given models; ids (n_rows,) int64 are their names, None for row numbers.
    searched: as in `building.fill`.
    """
    with backend.active():
        centers, where = backend.put(models.centers), payloads.axes_of(backend, models)
        coarse = building.make_coarse(backend, centers, where, models.metric)
        codec = payloads.codec_of(backend, models, centers, where)
        return building.fill(
            *(backend, rows, models.metric, coarse, codec, ids),
            progress=progress,
            searched=searched,
        )


def given_centers(
    where: str, centers: Any, dim: int, n_lists: int, how: Metric
) -> tuple[HostArray, HostArray | None]:
    """Coarse centres (n_lists, dim) that a caller brings -> shifted, and the shift."""
    array = arrays.as_host(where, "centers", centers)
    validate.matrix(where, "centers", array, dim)
    validate.finite(where, "centers", array)
    if len(array) != n_lists:
        raise bad_value(where, "centers", f"have n_lists={n_lists} rows", len(array))
    x = np.ascontiguousarray(array, np.float32)
    shift = vectors.choose_shift(x, how)
    return vectors.moved(x, shift), shift
