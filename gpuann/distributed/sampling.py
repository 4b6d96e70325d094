"""Which rows of which part train the quantisers: planned by the driver, drawn by the parts."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gpuann import arrays, kinds, training, validate
from gpuann import metric as metrics
from gpuann.arrays import HostArray
from gpuann.codecs import vectors
from gpuann.errors import bad_value
from gpuann.metric import Metric
from gpuann.params import IvfIndexParams

WARN_BYTES = 4 << 30  # of all samples as float32
SQ_ROWS = 256 * 256  # 256 for each level of an 8-bit code, as other libraries draw


class Needs(NamedTuple):
    """Rows that the quantisers want; one sample serves them all, so the largest counts."""

    ivf: int
    pq: int = 0
    sq: int = 0


@dataclass(frozen=True)
class SamplePlan:
    """How many rows each part gives, and which worker asks it."""

    rows: tuple[int, ...]
    """Rows to be drawn from each part."""
    workers: tuple[tuple[int, ...], ...]
    """The parts of each worker: dealt round, so that neighbouring parts go to different ones."""
    seed: int

    @property
    def n_rows(self) -> int:
        """Of all parts together."""
        return sum(self.rows)


@dataclass(frozen=True, eq=False)
class Sample:
    """Training rows of one part, on the host."""

    metric: Metric
    """That it was drawn for: rows are normalised for cosine."""
    x: HostArray
    """(n, dim) float32, finite, normalised under cosine, in the part's row order."""
    bounds: HostArray
    """(2, dim) float32, smallest and largest value of each component of x; (+inf, -inf) if x is
    empty."""
    n_dropped: int
    """Rows drawn that were not finite, or beyond 2^50 in magnitude: they are left out."""


def sample_needs(
    index_params: IvfIndexParams, n_rows: int, dim: int, *, scalar_bounds: bool = False
) -> Needs:
    """What index_params ask for, of n_rows rows of dim components in all parts together;
    scalar_bounds for a scalar quantiser beside them.
    """
    where = "distributed.sample_needs"
    kinds.check_build(where, index_params)
    n_rows = validate.integer(where, "n_rows", n_rows, 1)
    most = index_params.n_lists * index_params.max_train_points_per_cluster
    share = int(index_params.kmeans_trainset_fraction * n_rows)
    shape = kinds.code_shape(where, index_params, dim)
    codes = 0
    if isinstance(shape, training.CodeShape):
        codes = shape.max_train_points_per_pq_code * shape.pq_book_size
    bounds = SQ_ROWS if scalar_bounds or isinstance(shape, training.ScalarShape) else 0
    return Needs(max(index_params.n_lists, min(share, most)), codes, bounds)


def plan_sample(
    rows_per_part: Sequence[int],
    needs: Needs,
    dim: int,
    *,
    n_workers: int = 1,
    seed: int = 0,
) -> SamplePlan:
    """Share the sample out to the parts.

    Parameters
    ----------
    rows_per_part : sequence of int, rows of each part; parts may be empty
    needs : Needs
    dim : int, components of a row, for the warning
    n_workers : int, default 1; the parts are dealt to so many
    seed : int, default 0

    Returns
    -------
    SamplePlan : the largest need in all, the same from every part; parts that are smaller give all
        they have and the others make up for it.

    Warns
    -----
    UserWarning if all samples together take more than 4 GiB: whoever trains on them in one place
    must hold them.
    """
    where = "distributed.plan_sample"
    sizes = [validate.integer(where, "rows_per_part", n, 0) for n in rows_per_part]
    n_workers = validate.integer(where, "n_workers", n_workers, 1)
    dim = validate.integer(where, "dim", dim, 1)
    seed = validate.integer(where, "seed", seed, 0)
    if sum(sizes) == 0:
        raise bad_value(where, "rows_per_part", "have a row in some part", list(rows_per_part))
    left, taken = min(max(needs), sum(sizes)), [0] * len(sizes)
    by_size = sorted(range(len(sizes)), key=lambda part: sizes[part])
    for done, part in enumerate(
        by_size
    ):  # the smallest first: what they lack is shared by the rest
        taken[part] = min(sizes[part], -(-left // (len(sizes) - done)))
        left -= taken[part]
    n_bytes = 4 * dim * sum(taken)
    if n_bytes > WARN_BYTES:
        warnings.warn(
            f"{where}: the samples take {n_bytes / 2**30:.1f} GiB; lower "
            "max_train_points_per_cluster, or use train_distributed, which leaves them in place",
            stacklevel=2,
        )
    workers = tuple(tuple(range(first, len(sizes), n_workers)) for first in range(n_workers))
    return SamplePlan(tuple(taken), workers, seed)


def sample_part(
    dataset: Any, n_rows: int, *, metric: str = "sqeuclidean", part: int = 0, seed: int = 0
) -> Sample:
    """Draw the training rows of one part.

    Parameters
    ----------
    dataset : array (n_part_rows, dim), or chunks of such rows, as the builds take them: the part,
        which may be an empty array
    n_rows : int, how many, from the plan
    metric : str, default "sqeuclidean"; under cosine rows are normalised before anything else
    part : int, default 0, the part's number: parts draw independently of each other
    seed : int, default 0, from the plan

    Returns
    -------
    Sample : n_rows rows less those that are not finite
    """
    where = "distributed.sample_part"
    how = metrics.check(where, metric)
    part, seed = (validate.integer(where, *x, 0) for x in (("part", part), ("seed", seed)))
    if getattr(dataset, "ndim", 0) == 2 and len(dataset) == 0:
        nothing = np.empty((0, dataset.shape[1]), np.float32)
        return Sample(how, nothing, bounds_of(nothing), 0)
    rows = arrays.Rows(where, "dataset", dataset)
    n_rows = validate.integer(where, "n_rows", n_rows, 0, rows.n_rows)
    draw = np.random.default_rng([seed, 3, part])
    drawn = np.sort(draw.choice(rows.n_rows, n_rows, replace=False, shuffle=False))
    picked = rows.take(drawn)
    kept = picked[usable(picked)]
    x = np.ascontiguousarray(vectors.as_float(np, kept, how))
    return Sample(how, x, bounds_of(x), len(picked) - len(kept))


def bounds_of(x: HostArray) -> HostArray:
    """Smallest and largest of each component of x (n, dim) -> (2, dim) float32."""
    low, high = x.min(axis=0, initial=np.inf), x.max(axis=0, initial=-np.inf)
    return np.stack([low, high]).astype(np.float32)


def usable(rows: HostArray) -> HostArray:
    """Which rows (n, dim) can be indexed: finite and at most 2^50 in magnitude -> (n,) bool."""
    if rows.dtype.kind != "f":
        return np.ones(len(rows), bool)
    small = np.abs(rows.astype(np.float32, copy=False)) <= validate.LARGEST
    return np.asarray(small.all(axis=1))


def merge_bounds(bounds: Sequence[HostArray]) -> HostArray:
    """bounds (2, dim) of several parts -> those of all: least of the least, most of the most."""
    some = list(bounds)
    if not some:
        raise bad_value("distributed.merge_bounds", "bounds", "be at least one", 0)
    each = np.stack(some)
    return np.stack([each[:, 0].min(axis=0), each[:, 1].max(axis=0)])
