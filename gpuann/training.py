"""Training and encoding apart: what is learnt once, and rows encoded with it, on any device.

    rows -> sample -> TrainedModels (host arrays) -> an index part of any rows, on any device

Parts of one model can be searched apart and merged: a row has the same code, a query the same lists
and a pair the same distance whichever part the row is in.
"""

from typing import Any, NamedTuple

import numpy as np

from gpuann import arrays, ivf, validate
from gpuann.arrays import HostArray
from gpuann.backends import Backend
from gpuann.codecs import pq, vectors
from gpuann.codecs.flat import FlatCodec
from gpuann.errors import bad_value
from gpuann.metric import Metric
from gpuann.params import IvfIndexParams
from gpuann.trained import TrainedModels


class CodeShape(NamedTuple):
    """How rows are cut for codebooks, and what those learn from."""

    pq_dim: int
    pq_len: int
    """Components of a subspace: pq_dim * pq_len is dim, rounded up."""
    max_train_points_per_pq_code: int


def train(
    backend: Backend,
    rows: arrays.Rows,
    params: IvfIndexParams,
    how: Metric,
    code_shape: CodeShape | None,
    *,
    progress: bool,
) -> TrainedModels:
    """Learn the centres from a sample, and with a code_shape the codebooks of its residuals."""
    most = params.n_lists * params.max_train_points_per_cluster
    fraction = params.kmeans_trainset_fraction
    sample = ivf.draw_sample(rows, how, fraction, params.n_lists, most, params.seed)
    return train_sample(backend, sample, params, how, code_shape, progress=progress)


def train_sample(
    backend: Backend,
    sample: ivf.Sample,
    params: IvfIndexParams,
    how: Metric,
    code_shape: CodeShape | None,
    *,
    progress: bool,
) -> TrainedModels:
    """Learn from training rows that have been drawn."""
    dim = sample.x.shape[1]
    n_iters, seed = params.kmeans_n_iters, params.seed
    with backend.active():
        centers = ivf.train_centers(
            backend, sample, params.n_lists, n_iters, seed, progress=progress
        )
        if code_shape is None:
            return TrainedModels(how, dim, backend.get(centers), sample.shift, None)
        pq_dim, pq_len, _ = code_shape
        centers = pq.pad(backend.xp, centers, pq_dim * pq_len)
        residuals = _residuals(backend, code_shape, sample, centers)
        books = pq.train(backend, residuals, pq_dim, n_iters, seed, progress=progress)
        return TrainedModels(how, dim, backend.get(centers), sample.shift, backend.get(books))


def _residuals(backend: Backend, shape: CodeShape, sample: ivf.Sample, centers: Any) -> Any:
    """What the codebooks train on -> (n, pq_dim * pq_len) float32."""
    step = residual_step(shape, len(sample.x))
    x = backend.put(vectors.moved(sample.x[::step], sample.shift))
    return residuals_of(backend, x, centers)


def residual_step(shape: CodeShape, n_rows: int) -> int:
    """One of so many of n_rows training rows trains the codebooks: a sample is in row order, so
    that takes it evenly.
    """
    most = shape.max_train_points_per_pq_code * pq.PQ_BOOK_SIZE
    most = max(1, min(most, ivf.SAMPLE_FLOATS // 2 // (shape.pq_dim * shape.pq_len)))
    return -(-n_rows // most)


def residuals_of(backend: Backend, x: Any, centers: Any) -> Any:
    """Shifted rows (n, dim) less their nearest centre of (n_lists, width) -> (n, width) float32."""
    x = pq.pad(backend.xp, x, centers.shape[1])
    labels, _ = backend.ops.assign(x[None], centers[None], rescore=False)
    return x - centers[labels[0]]


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
    searched: as in `ivf.fill`.
    """
    with backend.active():
        centers = backend.put(models.centers)
        shift = None if models.shift is None else backend.put(models.shift)
        coarse = ivf.make_coarse(backend, centers, shift, models.metric)
        codec: ivf.Codec = FlatCodec(models.metric, shift)
        if models.codebooks is not None:
            books = backend.put(models.codebooks)
            codec = pq.PqCodec(models.metric, shift, centers, books)
        return ivf.fill(
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
