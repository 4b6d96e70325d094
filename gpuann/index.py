"""What the public index modules share: the index object, opening the data, training, searching."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

from gpuann import arrays, backends, filters, validate
from gpuann.arrays import HostArray
from gpuann.backends import Backend
from gpuann.backends.seam import Array
from gpuann.engine import graphs, ivf, survivors
from gpuann.errors import bad_value, warn
from gpuann.filters import Filter, Keep
from gpuann.hints import Hints
from gpuann.metric import Metric, check, reported
from gpuann.params import IvfIndexParams, IvfSearchParams

I = TypeVar("I", bound="IvfIndex")


@dataclass(frozen=True, eq=False, repr=False)
class IvfIndex(Hints):
    """An inverted-file index: immutable, arrays on its device."""

    core: ivf.Core
    next_id: int = 0
    """One more than the largest id that a row of it ever had: `extend` goes on from there."""

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
    def backend(self) -> Backend:
        """What it is searched by."""
        return self.core.backend

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
        with self.backend.active():
            centers = self.backend.get(self.core.coarse.centers)
            return self.backend.put(ivf.in_data(self.core, centers).copy())

    @property
    def list_sizes(self) -> Any:
        """Rows of each list (n_lists,) int64."""
        offsets = self.core.lists.offsets
        with self.core.backend.active():
            return offsets[1:] - offsets[:-1]

    def list_indices(self, label: int) -> Any:
        """Ids of the rows of a list (n,) int64."""
        return self._of_list(label, self.core.lists.ids)

    def list_data(self, label: int) -> Any:
        """Rows of a list as they are stored: whole (n, dim), or codes (n, bytes)."""
        return self._of_list(label, self.core.payload[0])

    def lists(self) -> Iterator[tuple[Any, Any]]:
        """`list_indices` and `list_data` of every list in turn."""
        for label in range(self.n_lists):
            yield self.list_indices(label), self.list_data(label)

    def _of_list(self, label: int, stored: Any) -> Any:
        where = f"{type(self).__module__.rpartition('.')[2]}.Index"
        number = validate.integer(where, "label", label, 0, self.n_lists - 1)
        first, end = self.backend.get(self.core.lists.offsets)[number : number + 2]
        with self.backend.active():
            return stored[int(first) : int(end)].copy()

    @property
    def imbalance(self) -> float:
        """How unevenly rows lie in the lists: 1 if all have the same number; about by so much a
        search takes longer. FAISS's imbalance factor.
        """
        sizes = self.backend.get(self.list_sizes).astype(np.float64)
        return float(len(sizes) * np.square(sizes).sum() / max(1.0, sizes.sum()) ** 2)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays of the index, and of the graphs that small searches left."""
        coarse = self.core.coarse
        own = [*self.core.payload, *self.core.lists, *coarse.axes[:2]]
        arrays_held = [*own, *coarse.payload, *coarse.lists]
        unique = {id(a): a.nbytes for a in arrays_held if a is not None}
        return int(sum(unique.values())) + graphs.n_bytes(self.core)

    def _describe(self, *more: str) -> str:
        parts = [f"{len(self):,} rows", f"dim {self.dim}", self.metric, f"n_lists {self.n_lists}"]
        module = type(self).__module__.rpartition(".")[2]
        text = ", ".join([*parts, *more, self.device, f"{self.nbytes / 1e6:.1f} MB"])
        return f"{module}.Index({text})"


_MUCH, _FEWEST_LISTS = 0.25, 16  # of all rows in one of so many lists or more is worth a warning


def warned(where: str, index: I) -> I:
    """The index; UserWarning if one of its lists holds far too much."""
    sizes = index.backend.get(index.list_sizes)
    most = int(sizes.max())
    if len(sizes) >= _FEWEST_LISTS and most > _MUCH * max(1, len(index)):
        warn(
            f"{where}: list {int(sizes.argmax())} holds {most:,} of {len(index):,} rows, imbalance "
            f"{index.imbalance:.1f}: searches that probe it are slow; balanced=True evens lists out"
        )
    return index


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


def rows_to_store(params: IvfIndexParams, rows: arrays.Rows) -> arrays.Rows:
    """Those of a build's rows that the index gets: all, or none where they only train."""
    return rows if params.add_data_on_build else rows.part(0, 0)


def search_ivf(
    where: str,
    params: IvfSearchParams,
    index: IvfIndex,
    queries: Any,
    k: int,
    neighbors: HostArray | None,
    distances: HostArray | None,
    filter: Any = None,
) -> tuple[HostArray, HostArray]:
    """The public search of every inverted-file index."""
    run = ivf_run(where, params, index, queries, filter)
    shape = SearchShape(index.backend, index.metric, index.dim, len(index))
    return search(where, shape, queries, k, neighbors, distances, run)


def ivf_run(
    where: str,
    params: IvfSearchParams,
    index: IvfIndex,
    queries: Any,
    filter: Any,
    *,
    rescore: bool = True,
) -> Callable[[Array, int], tuple[Array, Array]]:
    """Its arguments checked -> the search of queries (n, dim) for k rows, which are checked too;
    rescore as `ivf.search` has it.
    """
    core, kept = index.core, given_filter(where, "filter", filter, queries, index)
    n_probes, limit = min(params.n_probes, index.n_lists), params.workspace_limit
    check_results(where, core.backend, "n_probes", n_probes, core.coarse.axes.width)

    def run(x: Array, k: int) -> tuple[Array, Array]:
        keep = keep_of(where, index, kept, len(x), n_probes)
        if keep is None:
            return graphs.search(core, x, k, n_probes, limit, rescore=rescore)
        return ivf.search(core, x, k, n_probes, limit, keep=keep, rescore=rescore)

    return run


def keep_of(
    where: str, index: IvfIndex, kept: Filter | None, n_queries: int, n_probes: int
) -> Keep | None:
    """A filter as the search of an index takes it."""
    if kept is None:
        return None
    words = kept.on(where, "filter", index.backend, n_queries, len(index))
    shape = len(index), index.core.coarse.axes.width, index.n_lists, n_probes
    return Keep(words, kept, survivors.is_exhaustive(kept, *shape))


def given_filter(where: str, name: str, value: Any, queries: Any, index: Any) -> Filter | None:
    """`filters.given`; a set for each query is for queries that can be counted. A warning if the
    index has ids that it ends before.
    """
    kept = filters.given(where, name, value)
    if kept is not None and kept.per_query and arrays.is_chunked(queries):
        raise bad_value(where, name, "be one set for queries in chunks", "a set for each query")
    if kept is not None:
        kept.check_reach(where, name, index)
    return kept


class SearchShape(NamedTuple):
    """What the arguments of a search are checked against."""

    backend: Backend
    metric: Metric
    dim: int
    n_rows: int


def search(
    where: str,
    shape: SearchShape,
    queries: Any,
    k: int,
    neighbors: HostArray | None,
    distances: HostArray | None,
    run: Callable[[Array, int], tuple[Array, Array]],
) -> tuple[HostArray, HostArray]:
    """Check a search's arguments, run it (chunk by chunk if so given), fill given outputs.

    run gives scan distances, this the metric's. The results are where the queries are.
    """
    backend, how, dim, n_rows = shape
    k = validate.n_results(where, k)
    check_results(where, backend, "k", min(k, n_rows), dim)
    chunks = arrays.query_chunks(queries)
    with backend.active():
        if chunks is None:
            x = query_rows(where, backend, queries, dim)
            _check_outputs(where, backend, x, (len(x), k), neighbors, distances)
            found = run(x, k)
        else:
            parts = [run(query_rows(where, backend, chunk, dim), k) for chunk in chunks]
            on_device = bool(parts) and backend.holds(parts[0][0])
            xp = backend.xp if on_device else np
            nothing = xp.empty((0, k), xp.float32), xp.empty((0, k), xp.int64)
            found = (
                xp.concatenate([part[0] for part in [nothing, *parts]]),
                xp.concatenate([part[1] for part in [nothing, *parts]]),
            )
            _check_outputs(where, backend, found[0], found[0].shape, neighbors, distances)
        dists = reported(how, found[0])
        return arrays.output(distances, dists), arrays.output(neighbors, found[1])


def check_results(where: str, backend: Backend, name: str, n: int, dim: int) -> None:
    """Raise if the device cannot select so many, of rows of `dim` components."""
    if backend.cuda is None:
        return
    most = backend.cuda.limits.most_results(4 * dim + 16)
    if n > most:
        rule = f"be at most {most} on {backend.device} with {dim} components"
        raise bad_value(where, name, rule, n, 'use device="cpu"')


def query_rows(where: str, backend: Backend, data: Any, dim: int) -> Array:
    """Query rows (n, dim), checked: left on the device where the backend can take them, else on
    the host.

    Values of device queries are looked at under GPUANN_CHECK=1 only, for that waits for the device;
    without it a query with a NaN finds nothing: (+inf, -1).
    """
    if not backend.holds(data):
        return arrays.queries(where, data, dim)
    x = backend.put(data)
    if str(x.dtype) == "bfloat16":
        x = x.astype(np.float32)
    validate.matrix(where, "queries", x, dim)
    if os.environ.get("GPUANN_CHECK") == "1":
        validate.finite(where, "queries", backend.get(x))
    return x


def _check_outputs(
    where: str, backend: Backend, x: Array, shape: Any, neighbors: Any, distances: Any
) -> None:
    there = backend.holds(x)
    arrays.check_output(where, "distances", distances, shape, np.float32, on_device=there)
    arrays.check_output(where, "neighbors", neighbors, shape, np.int64, on_device=there)
