"""Training over parts, in two ways with one result.

    train_local         the samples come to one place and are trained on there
    train_distributed   the samples stay where they are, only sums travel

From the same samples, in the same order, both give the same models to the rounding of float64 sums.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpuann import backends, kinds, kmeans, training, validate
from gpuann import metric as metrics
from gpuann.arrays import HostArray
from gpuann.codecs import pq, vectors
from gpuann.codecs.axes import Axes
from gpuann.distributed.partial import N_FARTHEST, Partial, centers_after, combine, partial_of
from gpuann.distributed.parts import Fetch, Parts, Reduce, Run
from gpuann.distributed.sampling import Sample, merge_bounds
from gpuann.engine import building
from gpuann.errors import bad_value
from gpuann.metric import Metric
from gpuann.params import IvfIndexParams
from gpuann.trained import TrainedModels


def train_local(
    index_params: IvfIndexParams,
    samples: Iterable[Sample],
    *,
    scalar_bounds: bool = False,
    device: str | None = None,
    progress: bool = False,
) -> TrainedModels:
    """Train in one place on the samples of all parts.

    Parameters
    ----------
    index_params : IndexParams of ivf_flat, ivf_pq or ivf_sq
    samples : sequence of Sample, in the order of the parts
    scalar_bounds : bool, default False; also keep the samples' bounds, for a scalar quantiser
    device : {"cpu", "cuda", "cuda:N"}, optional; default: CUDA if there is one
    progress : bool, default False; bars, if standard error is a terminal
    """
    where = "distributed.train_local"
    kinds.check_build(where, index_params)
    how, samples = metrics.check(where, index_params.metric), list(samples)
    for sample in samples:
        validate.instance(where, "every sample", sample, Sample)
    if not samples:
        raise bad_value(where, "samples", "be at least one", 0)
    _one_metric(where, how, [sample.metric for sample in samples])
    dim = _one_dim(where, [sample.x.shape[1] for sample in samples])
    x = np.concatenate([sample.x for sample in samples])
    _enough(where, index_params, len(x))
    backend = backends.choose(where, device)
    shape = kinds.code_shape(where, index_params, dim)
    drawn = building.Sample(x, vectors.choose_shift(x, how))
    models = training.train_sample(backend, drawn, index_params, how, shape, progress=progress)
    if not scalar_bounds:
        return models
    bounds = merge_bounds([sample.bounds for sample in samples])
    return dataclasses.replace(models, bounds=bounds)


def train_distributed(
    index_params: IvfIndexParams,
    samples: Sequence[Any],
    *,
    run: Run = map,
    fetch: Fetch = list,
    reduce: Reduce | None = None,
    scalar_bounds: bool = False,
    device: str | None = None,
) -> TrainedModels:
    """Train where the samples are; sums, n_lists starting rows and the models travel.

    Parameters
    ----------
    index_params : IndexParams of ivf_flat, ivf_pq or ivf_sq
    samples : sequence of Sample, or of whatever stands for one in your engine, in the order of
        the parts
    run, fetch : callables
        run(function, parts, *more) starts function(part, ...) for every part where the part is, and
        gives what stands for the results, for the next call; fetch(those) brings them here. The
        default is this process. Dask: run=client.map, fetch=client.gather. Threads: run=pool.map of
        a ThreadPoolExecutor. A pool of processes hands results back, so it would send the
        samples out again each round: use `train_local` there.
    reduce : callable, optional
        reduce(join, those) puts what `run` gave together where it is, in order, and gives what
        stands for that; join takes a list of some of them. Without it the sums of every part come
        here in each round.
    scalar_bounds : bool, default False; also keep the samples' bounds, for a scalar quantiser
    device : {"cpu", "cuda", "cuda:N"}, optional; default: CUDA if the worker has one

    Returns
    -------
    TrainedModels : as `train_local` gives them, to rounding

    Notes
    -----
    Cost   a round sends the centres out and 8 bytes for each of their components back, from every
           part; functions and arguments can be pickled.
    """
    where = "distributed.train_distributed"
    kinds.check_build(where, index_params)
    how = metrics.check(where, index_params.metric)
    if index_params.balanced:
        way_out = "train_local evens lists out"
        raise bad_value(where, "balanced", "be False for sums that travel", True, way_out)
    there = Parts(list(samples), run, fetch, reduce)
    if not there.handles:
        raise bad_value(where, "samples", "be at least one", 0)
    about = there.ask(_describe)
    _one_metric(where, how, [one.metric for one in about])
    dim = _one_dim(where, [len(one.moments.total) for one in about])
    there = there.of_sizes([one.moments.n_rows for one in about])
    _enough(where, index_params, there.n_rows)
    columns = zip(*(one.moments for one in about), strict=True)
    sums = vectors.Moments(*(sum(column) for column in columns))
    shift = vectors.shift_of(sums, how)
    moved = there.keep(_moved, shift).of_sizes(there.sizes)

    n_iters, seed = index_params.kmeans_n_iters, index_params.seed
    start = moved.rows(kmeans.random_rows(moved.n_rows, index_params.n_lists, seed))
    centers = _lloyd(moved, start, n_iters, device)
    shape, codebooks, rotation = kinds.code_shape(where, index_params, dim), None, None
    if isinstance(shape, training.CodeShape):
        step = training.residual_step(shape, moved.n_rows)
        # every step-th row of all samples in a row: where that starts in each
        firsts = [-before % step for before in moved.before]
        cpu = backends.choose(where, "cpu")
        some = firsts, step, centers, device
        rotation = training.learn_rotation(
            cpu, shape, dim, seed, lambda: _gathered_residuals(moved, *some)
        )
        turn = Axes(None, rotation, shape.pq_dim * shape.pq_len)
        centers = turn.of(cpu, centers)
        cut = moved.keep(_residual_pieces, centers, turn, shape.pq_dim, step, device, each=firsts)
        kept = zip(moved.sizes, firsts, strict=True)
        cut = cut.of_sizes([max(0, -((first - n) // step)) for n, first in kept])
        start = cut.rows(kmeans.random_rows(cut.n_rows, shape.pq_book_size, seed))
        codebooks = _lloyd(cut, start, n_iters, device)
    bounds = merge_bounds([one.bounds for one in about]) if scalar_bounds else None
    models = TrainedModels(how, dim, centers, shift, codebooks, bounds, rotation=rotation)
    if not isinstance(shape, training.ScalarShape):
        return models
    coded = merge_bounds(moved.ask(_value_bounds, centers if shape.by_residual else None, device))
    return training.with_bounds(models, shape, coded)


class _About(NamedTuple):
    """What is asked of a sample before anything is trained."""

    metric: Metric
    moments: vectors.Moments
    bounds: HostArray


def _lloyd(parts: Parts, centers: HostArray, n_iters: int, device: str | None) -> HostArray:
    """`kmeans.lloyd` over parts."""
    inertia: list[float] = []
    moved_empty = False
    for done in range(n_iters):
        total = parts.total(_round, combine, centers, N_FARTHEST, device)
        if total.n_empty > N_FARTHEST:
            total = parts.total(_round, combine, centers, total.n_empty, device)
        inertia.append(total.inertia)
        if done and not moved_empty and kmeans.has_settled(inertia, tol=0.0):
            break
        centers = centers_after("distributed.train_distributed", total, centers, check=False)
        moved_empty = total.n_empty > 0
    return centers


def _gathered_residuals(
    parts: Parts, firsts: list[int], step: int, centers: HostArray, device: str | None
) -> HostArray:
    """Residuals of every step-th row of all parts, brought here: an OPQ rotation is learnt from
    them; they are at most as many as train the codebooks.
    """
    return np.concatenate(parts.ask(_residuals, centers, step, device, each=firsts))


# What runs where the parts are: functions that can be pickled.


def _describe(sample: Sample) -> _About:
    validate.instance("distributed.train_distributed", "every sample", sample, Sample)
    return _About(sample.metric, vectors.moments(sample.x), sample.bounds)


def _moved(sample: Sample, shift: HostArray | None) -> HostArray:
    return vectors.moved(sample.x, shift)


def _round(part: HostArray, centers: HostArray, n_farthest: int, device: str | None) -> Partial:
    where = "distributed.train_distributed"  # the rows have been checked, and moved since
    return partial_of(where, part, centers, n_farthest, device, check=False)


def _value_bounds(x: HostArray, centers: HostArray | None, device: str | None) -> HostArray:
    backend = backends.choose("distributed.train_distributed", device)
    with backend.active():
        there = None if centers is None else backend.put(centers)
        return training.value_bounds(backend, x, there)


def _residuals(
    x: HostArray, first: int, centers: HostArray, step: int, device: str | None
) -> HostArray:
    """Residuals (n, dim) of every step-th row."""
    backend = backends.choose("distributed.train_distributed", device)
    with backend.active():
        picked = backend.put(np.ascontiguousarray(x[first::step]))
        return backend.get(training.residuals_of(backend, picked, backend.put(centers)))


def _residual_pieces(
    x: HostArray,
    first: int,
    centers: HostArray,
    turn: Axes,
    pq_dim: int,
    step: int,
    device: str | None,
) -> HostArray:
    """Sub-vectors (pq_dim, n, pq_len) of the residuals of every step-th row, in these axes."""
    backend = backends.choose("distributed.train_distributed", device)
    with backend.active():
        rotation = None if turn.rotation is None else backend.put(turn.rotation)
        there = turn._replace(rotation=rotation)
        picked = there.of(backend, backend.put(np.ascontiguousarray(x[first::step])))
        residuals = training.residuals_of(backend, picked, backend.put(centers))
        return backend.get(pq.pieces(backend, residuals, pq_dim))


def _one_dim(where: str, dims: list[int]) -> int:
    if len(set(dims)) != 1:
        raise bad_value(where, "samples", "have the same number of components", sorted(set(dims)))
    return dims[0]


def _one_metric(where: str, how: Metric, drawn_for: list[Metric]) -> None:
    for number, own in enumerate(drawn_for):
        if own != how and "cosine" in (own, how):
            way_out = f'draw it with sample_part(..., metric="{how}")'
            raise bad_value(where, f"sample {number}", f"be of metric {how}", own, way_out)


def _enough(where: str, params: IvfIndexParams, n_rows: int) -> None:
    if n_rows < params.n_lists:
        rule = f"be at most the {n_rows} rows of all samples"
        raise bad_value(where, "n_lists", rule, params.n_lists)
