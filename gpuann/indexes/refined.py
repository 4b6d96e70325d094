"""An index that keeps the rows beside it: its best results are compared with them, exactly."""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuann import arrays, validate
from gpuann._nvtx import annotate
from gpuann.arrays import HostArray
from gpuann.backends import Backend
from gpuann.backends.seam import Array
from gpuann.errors import bad_type, bad_value
from gpuann.hints import Hints
from gpuann.index import IvfIndex, check_results, ivf_run, query_rows
from gpuann.indexes import brute_force, ivf_flat, ivf_pq, ivf_sq
from gpuann.metric import Metric
from gpuann.params import IvfSearchParams
from gpuann.rerank import refine


@dataclass(frozen=True, eq=False, repr=False)
class Index(Hints):
    """An index and its rows: immutable; the rows are on the host, whatever the device."""

    inner: brute_force.Index | IvfIndex
    """What finds the candidates; it can be searched by itself."""
    dataset: HostArray
    """(n_rows, dim), ascending by id."""

    def __len__(self) -> int:
        return len(self.inner)

    @property
    def dim(self) -> int:
        """Components of a row."""
        return self.inner.dim

    @property
    def metric(self) -> Metric:
        """The metric it was built for."""
        return self.inner.metric

    @property
    def backend(self) -> Backend:
        """What it is searched by."""
        return self.inner.backend

    @property
    def device(self) -> str:
        """Its name: "cpu" or "cuda:N"."""
        return self.inner.device

    @property
    def next_id(self) -> int:
        """One more than the largest id that a row of it ever had."""
        return self.inner.next_id

    @property
    def nbytes(self) -> int:
        """Bytes of the index and of the rows, also of those that it only refers to."""
        return self.inner.nbytes + self.dataset.nbytes

    @functools.cached_property
    def ids(self) -> HostArray:
        """(n_rows,) int64, ascending: row i of `dataset` has ids[i]."""
        inner = self.inner
        lists = inner.lists if isinstance(inner, brute_force.Index) else inner.core.lists
        with self.backend.active():
            return np.sort(self.backend.get(lists.ids))

    @functools.cached_property
    def ids_are_rows(self) -> bool:
        """Whether row i of `dataset` has the id i, as after a build."""
        n = len(self.ids)
        return n == 0 or (int(self.ids[0]), int(self.ids[-1])) == (0, n - 1)

    @functools.cached_property
    def ids_there(self) -> Array:
        """`ids` on the device."""
        with self.backend.active():
            found = self.backend.put(self.ids)
            self.backend.synchronize()  # it may be used on another stream
            return found

    def __repr__(self) -> str:
        return f"refined.Index({self.inner!r}, rows of {self.dataset.dtype})"


def build(index: Any, dataset: Any) -> Index:
    """Keep the rows of an index beside it.

    Parameters
    ----------
    index : Index of brute_force, ivf_flat, ivf_pq or ivf_sq, or what `from_faiss` gave
    dataset : array or memory-map (n_rows, dim), float32, float16, int8 or uint8; or chunks of rows,
        which are put together. Ascending by id, as what the index was built from is.

    Returns
    -------
    refined.Index : it refers to `dataset` if that is C-contiguous and on the host, so do not change
        it after
    """
    where = "refined.build"
    if not isinstance(index, brute_force.Index | IvfIndex):
        rule = "be an Index of brute_force, ivf_flat, ivf_pq or ivf_sq"
        raise bad_type(where, "index", rule, type(index).__name__)
    rows = arrays.Rows(where, "dataset", dataset)
    if (rows.n_rows, rows.dim) != (len(index), index.dim):
        rule = f"have the rows of the index, ({len(index)}, {index.dim})"
        raise bad_value(where, "dataset", rule, (rows.n_rows, rows.dim))
    return Index(index, rows.whole())


@annotate("refined.search")
def search(
    search_params: IvfSearchParams | None,
    index: Index,
    queries: Any,
    k: int,
    neighbors: Any = None,
    distances: Any = None,
    filter: Any = None,
    *,
    k_factor: int = 4,
) -> tuple[Any, Any]:
    """The k best of the k * k_factor results of the index, by their exact distances.

    Parameters
    ----------
    search_params : SearchParams of the kind of index that finds the candidates; None for brute
        force
    index : Index
    queries : array (n_queries, dim), float32, float16, int8 or uint8, host or device
    k : int
    neighbors : array (n_queries, k) int64, optional, to write the ids into
    distances : array (n_queries, k) float32, optional, to write the distances into; both are
        where the queries are
    filter : ids that may be returned, optional; as in `ivf_flat.search`
    k_factor : int, default 4; results that are compared, for each of the k

    Returns
    -------
    distances (n_queries, k) float32, ids (n_queries, k) int64
        As brute force would give them of these candidates.

    Notes
    -----
    Cost   a search for k * k_factor results, and n_queries * k * k_factor * dim.
    """
    where = "refined.search"
    validate.instance(where, "index", index, Index)
    if arrays.is_chunked(queries):
        raise bad_type(where, "queries", "be one array", "chunks", "search chunk by chunk")
    k = validate.n_results(where, k)
    wanted = min(k * validate.integer(where, "k_factor", k_factor, 1), max(k, len(index)))
    ids = _candidates(where, search_params, index.inner, queries, wanted, filter)
    backend, shape = index.backend, (len(ids), k)
    there = backend.holds(ids)
    arrays.check_output(where, "neighbors", neighbors, shape, np.int64, on_device=there)
    with backend.active():
        names, xp = (index.ids_there, backend.xp) if there else (index.ids, np)
        rows = ids
        if not index.ids_are_rows:
            rows = xp.where(ids < 0, -1, xp.searchsorted(names, ids, side="left"))
        found = refine(
            index.dataset, queries, rows, k, index.metric, None, distances, device=index.device
        )
        named = xp.where(found[1] < 0, -1, names[xp.maximum(found[1], 0)])
        return found[0], arrays.output(neighbors, named)


def _candidates(
    where: str, params: Any, inner: brute_force.Index | IvfIndex, queries: Any, n: int, filter: Any
) -> Any:
    """Ids (n_queries, n) that the index finds, in any order, where the queries are."""
    if isinstance(inner, brute_force.Index):
        if params is not None:
            raise bad_type(where, "search_params", "be None for brute force", type(params).__name__)
        return brute_force.search(inner, queries, n, prefilter=filter)[1]
    module: Any = {m.Index: m for m in (ivf_flat, ivf_pq, ivf_sq)}[type(inner)]
    validate.instance(where, "search_params", params, module.SearchParams)
    run = ivf_run(where, params, inner, queries, filter, rescore=False)
    check_results(where, inner.backend, "k * k_factor", min(n, len(inner)), inner.dim)
    with inner.backend.active():
        return run(query_rows(where, inner.backend, queries, inner.dim), n)[1]
