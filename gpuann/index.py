"""What the public index modules share: the index object, opening the data, training, searching."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuann import arrays, backends, ivf, validate
from gpuann.arrays import HostArray
from gpuann.backends import Backend
from gpuann.codecs import vectors
from gpuann.errors import bad_value
from gpuann.metric import Metric, check
from gpuann.params import IvfIndexParams, IvfSearchParams


@dataclass(frozen=True, eq=False, repr=False)
class IvfIndex:
    """An inverted-file index: immutable, arrays on its device."""

    core: ivf.Core

    def __len__(self) -> int:
        return len(self.core.lists.ids)

    @property
    def dim(self) -> int:
        """Components of a row."""
        return self.core.dim

    @property
    def metric(self) -> Metric:
        """The metric it was built for."""
        return self.core.metric

    @property
    def device(self) -> str:
        """Its name: "cpu" or "cuda:N"."""
        return self.core.backend.device

    @property
    def n_lists(self) -> int:
        """Number of inverted lists."""
        return len(self.core.coarse.centers)

    @property
    def centers(self) -> Any:
        """Coarse centres (n_lists, dim) float32, in the coordinates of the data."""
        centers = self.core.coarse.centers[:, : self.dim]
        shift = self.core.coarse.shift
        return centers.copy() if shift is None else centers + shift

    @property
    def list_sizes(self) -> Any:
        """Rows of each list (n_lists,) int64."""
        offsets = self.core.lists.offsets
        return offsets[1:] - offsets[:-1]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays of the index."""
        coarse = self.core.coarse
        arrays_held = [*self.core.payload, *self.core.lists, coarse.centers, *coarse.lists]
        unique = {id(a): a.nbytes for a in arrays_held if a is not None}
        return int(sum(unique.values()))

    def _describe(self, *more: str) -> str:
        parts = [f"{len(self):,} rows", f"dim {self.dim}", self.metric, f"n_lists {self.n_lists}"]
        module = type(self).__module__.rpartition(".")[2]
        text = ", ".join([*parts, *more, self.device, f"{self.nbytes / 1e6:.1f} MB"])
        return f"{module}.Index({text})"


def open_rows(
    where: str, params: IvfIndexParams, dataset: Any, device: str | None
) -> tuple[Backend, arrays.Rows, Metric]:
    """Choose the backend and check the data set and its size."""
    backend = backends.choose(where, device)
    rows = arrays.Rows(where, "dataset", dataset)
    if params.n_lists > rows.n_rows:
        raise bad_value(
            where,
            "n_lists",
            f"be at most the {rows.n_rows} rows of dataset",
            params.n_lists,
            f"use n_lists={max(1, round(rows.n_rows**0.5))}",
        )
    rows.check()
    return backend, rows, check(where, params.metric)


def train_centers(
    backend: Backend, rows: arrays.Rows, params: IvfIndexParams, how: Metric, *, progress: bool
) -> tuple[ivf.Sample, Any]:
    """Draw the training rows and cluster them -> the sample, centres (n_lists, dim) shifted."""
    most = params.n_lists * params.max_train_points_per_cluster
    fraction = params.kmeans_trainset_fraction
    sample = ivf.draw_sample(rows, how, fraction, params.n_lists, most, params.seed)
    centers = ivf.train_centers(
        backend, sample, params.n_lists, params.kmeans_n_iters, params.seed, progress=progress
    )
    return sample, centers


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


def search_ivf(
    where: str,
    params: IvfSearchParams,
    index: IvfIndex,
    queries: Any,
    k: int,
    neighbors: HostArray | None,
    distances: HostArray | None,
) -> tuple[HostArray, HostArray]:
    """The public search of every inverted-file index."""

    def run(x: HostArray, k: int) -> tuple[HostArray, HostArray]:
        return ivf.search(index.core, x, k, params.n_probes, params.workspace_limit)

    return search(where, queries, index.dim, k, neighbors, distances, run)


def search(
    where: str,
    queries: Any,
    dim: int,
    k: int,
    neighbors: HostArray | None,
    distances: HostArray | None,
    run: Callable[[HostArray, int], tuple[HostArray, HostArray]],
) -> tuple[HostArray, HostArray]:
    """Check a search's arguments, run it (chunk by chunk if so given), fill given outputs."""
    k = validate.n_results(where, k)
    chunks = arrays.query_chunks(queries)
    if chunks is None:
        x = arrays.queries(where, queries, dim)
        _check_outputs(where, len(x), k, neighbors, distances)
        found = run(x, k)
    else:
        nothing = np.empty((0, k), np.float32), np.empty((0, k), np.int64)
        parts = [nothing, *(run(arrays.queries(where, chunk, dim), k) for chunk in chunks)]
        found = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
        _check_outputs(where, len(found[0]), k, neighbors, distances)
    return arrays.output(distances, found[0]), arrays.output(neighbors, found[1])


def _check_outputs(where: str, n: int, k: int, neighbors: Any, distances: Any) -> None:
    arrays.check_output(where, "distances", distances, (n, k), np.float32)
    arrays.check_output(where, "neighbors", neighbors, (n, k), np.int64)
