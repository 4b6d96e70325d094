"""How an inverted-file index is built: sample -> coarse centres -> codec -> rows into lists."""

from typing import Any, NamedTuple

import numpy as np

from gpuann import arrays, kmeans
from gpuann._progress import bar
from gpuann.backends import Backend
from gpuann.backends.seam import Array, FlatPayload, Lists
from gpuann.codecs import vectors
from gpuann.codecs.axes import Axes
from gpuann.codecs.payloads import Codec
from gpuann.engine import balanced, lists
from gpuann.engine.ivf import Coarse, Core
from gpuann.metric import Metric
from gpuann.params import IvfIndexParams

SAMPLE_FLOATS = 1 << 26  # of the training rows: 256 MiB, of which a build holds a few copies


class Sample(NamedTuple):
    """The training rows."""

    x: arrays.HostArray
    """(n, dim) float32, normalised under cosine."""
    shift: arrays.HostArray | None
    """(dim,) float32 or None."""


def draw_sample(
    rows: arrays.Rows, how: Metric, fraction: float, n_lists: int, most: int, seed: int
) -> Sample:
    """The rows that train the quantisers: `fraction` of all, at most `most` and SAMPLE_FLOATS, but
    at least n_lists.
    """
    n = min(int(fraction * rows.n_rows), most, SAMPLE_FLOATS // rows.dim)
    n = min(max(n, n_lists), rows.n_rows)
    all_of_them = n == rows.n_rows  # which needs no copy of an array
    picked = rows.whole() if all_of_them else rows.take(kmeans.sample_rows(rows.n_rows, n, seed))
    x = vectors.as_float(np, picked, how)
    return Sample(x, vectors.choose_shift(x, how))


def train_centers(
    backend: Backend, sample: Sample, params: IvfIndexParams, *, progress: bool
) -> Array:
    """Coarse centres of the shifted sample -> (n_lists, dim) float32."""
    n_lists, n_iters, seed = params.n_lists, params.kmeans_n_iters, params.seed
    x = backend.put(vectors.moved(sample.x, sample.shift))
    start = x[backend.put(kmeans.random_rows(len(x), n_lists, seed))]
    if params.balanced:
        return balanced.lloyd(backend, x, start, n_iters, progress=progress)
    trained = kmeans.lloyd(
        backend, x[None], start[None], n_iters, progress=progress, name="centres"
    )
    return trained.centers[0]


def make_coarse(backend: Backend, centers: Array, axes: Axes, how: Metric) -> Coarse:
    """Centres (n_lists, width) float32, in these axes already, ready to be searched."""
    xp = backend.xp
    norms = vectors.square_norms(xp, centers)
    radius = float(vectors.lengths_of(xp, norms).max())
    if how == "inner_product":
        norms = xp.zeros_like(norms)
    one = lists.one_list(backend, norms.astype(xp.float32), radius)
    payload = backend.prepared(FlatPayload(centers, None, None), one)
    return Coarse(centers, axes, payload, one)


def fill(
    backend: Backend,
    rows: arrays.Rows,
    how: Metric,
    coarse: Coarse,
    codec: Codec,
    ids: arrays.HostArray | None,
    *,
    progress: bool,
    searched: bool = True,
) -> Core:
    """Store every row in the list of its nearest centre; ids (n_rows,) int64 are their names, None
    for row numbers. searched False: the core is only taken apart again.

    Reads the data twice, so memory is the index, 20 bytes a row, and one chunk in flight.
    """
    xp = backend.xp
    n_lists = len(coarse.centers)
    labels = xp.empty(rows.n_rows, xp.int32)
    for start, x in _chunks(backend, rows, how, progress=progress, name="assigning"):
        moved = coarse.axes.of(backend, vectors.as_float(xp, x, how))
        nearest, _ = backend.ops.assign(moved[None], coarse.centers[None], rescore=False)
        labels[start : start + len(x)] = nearest[0]
    layout = lists.lay_out(backend, labels, n_lists)

    payload: Any = codec.allocate(backend, rows.n_rows, rows.dim, rows.dtype)
    norms = xp.empty(rows.n_rows, xp.float32)
    radius = xp.zeros(n_lists, xp.float32)
    for start, x in _chunks(backend, rows, how, progress=progress, name="encoding"):
        part = slice(start, start + len(x))
        position = layout.position[part]
        norms[position], reach = codec.encode(backend, payload, x, labels[part], position)
        xp.maximum.at(radius, labels[part], reach)
    names = layout.ids if ids is None else backend.put(ids)[layout.ids]
    stored = Lists(layout.offsets, names, norms, radius)
    if searched:
        payload = backend.prepared(payload, stored)
    backend.synchronize()  # last: the index may be searched on another stream
    return Core(backend, how, rows.dim, coarse, payload, stored)


def _chunks(backend: Backend, rows: arrays.Rows, how: Metric, *, progress: bool, name: str) -> Any:
    total = -(-rows.n_rows * rows.dim // rows.chunk_floats)
    for start, chunk in bar(rows.chunks(), name, show=progress, total=total):
        yield start, backend.put(chunk)
