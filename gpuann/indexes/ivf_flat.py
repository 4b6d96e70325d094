"""IVF-Flat: whole vectors in inverted lists; exact within the lists that are probed."""

from dataclasses import dataclass
from typing import Any

from gpuann import training, validate
from gpuann._nvtx import annotate
from gpuann.arrays import HostArray
from gpuann.index import IvfIndex, open_rows, rows_to_store, search_ivf, warned
from gpuann.metric import Metric
from gpuann.params import IvfIndexParams, IvfSearchParams
from gpuann.trained import TrainedModels


@dataclass(frozen=True, kw_only=True)
class IndexParams(IvfIndexParams):
    __doc__ = IvfIndexParams.__doc__


@dataclass(frozen=True, kw_only=True)
class SearchParams(IvfSearchParams):
    __doc__ = IvfSearchParams.__doc__


class Index(IvfIndex):
    """A built IVF-Flat index: immutable; rows in the dtype of the data."""

    def __repr__(self) -> str:
        return self._describe(str(self.core.payload[0].dtype))


@annotate("ivf_flat.build")
def build(
    index_params: IndexParams,
    dataset: Any,
    *,
    device: str | None = None,
    progress: bool = False,
    resources: None = None,
) -> Index:
    """Cluster a sample of the rows and store every row in the list of its nearest centre.

    Parameters
    ----------
    index_params : IndexParams
    dataset : array (n_rows, dim), float32, float16, int8 or uint8, host or device; a memory-map; or
        chunks of rows: a list of arrays, a function that returns an iterator, or an iterator
    device : {"cpu", "cuda", "cuda:N"}, optional; default: CUDA if there is one
    progress : bool, default False; bars, if standard error is a terminal
    resources : None; cuVS's, work goes to CuPy's current stream

    Returns
    -------
    Index : row i of the data set has id i

    Notes
    -----
    Cost   2 * n_rows * n_lists * dim flop to assign; kmeans_n_iters times that for the sample.
    Memory the index (rows, 12 bytes a row, centres; on CUDA 2 bytes a component more of float32
           and float16 rows), the sample as float32, one chunk in flight.
    Order  same seed, same data: same bytes. inner_product trains its centres in L2.
    """
    where = "ivf_flat.build"
    validate.no_resources(where, resources)
    validate.instance(where, "index_params", index_params, IndexParams)
    backend, rows, how = open_rows(where, index_params, dataset, device)
    models = training.train(backend, rows, index_params, how, None, progress=progress)
    stored = rows_to_store(index_params, rows)
    core = training.build_part(backend, models, stored, progress=progress)
    return warned(where, Index(core, stored.n_rows))


@annotate("ivf_flat.build_precomputed")
def build_precomputed(
    index_params: IndexParams,
    dataset: Any,
    centers: Any,
    *,
    device: str | None = None,
    progress: bool = False,
) -> Index:
    """Store every row in the list of the nearest of given centres.

    dataset as in `build`; centers (n_lists, dim) float32. Under cosine the centres are those of
    normalised rows.
    """
    where = "ivf_flat.build_precomputed"
    validate.instance(where, "index_params", index_params, IndexParams)
    backend, rows, how = open_rows(where, index_params, dataset, device)
    models = given_models(where, index_params, rows.dim, how, centers)
    stored = rows_to_store(index_params, rows)
    return Index(training.build_part(backend, models, stored, progress=progress), stored.n_rows)


def given_models(
    where: str, params: IndexParams, dim: int, how: Metric, centers: Any
) -> TrainedModels:
    """Centres (n_lists, dim) float32 that a caller brings, checked."""
    given, shift = training.given_centers(where, centers, dim, params.n_lists, how)
    return TrainedModels(how, dim, given, shift, None)


@annotate("ivf_flat.search")
def search(
    search_params: SearchParams,
    index: Index,
    queries: Any,
    k: int,
    neighbors: HostArray | None = None,
    distances: HostArray | None = None,
    filter: Any = None,
    *,
    resources: None = None,
) -> tuple[HostArray, HostArray]:
    """The k nearest rows of each query among the lists that are probed.

    Parameters
    ----------
    search_params : SearchParams
    index : Index
    queries : array (n_queries, dim), float32, float16, int8 or uint8, host or device; or chunks
        of such rows
    k : int
    neighbors : array (n_queries, k) int64, optional, to write the ids into
    distances : array (n_queries, k) float32, optional, to write the distances into; both are
        where the queries are
    filter : ids that may be returned, optional
        One of gpuann.filters, booleans (n_ids,) or (n_queries, n_ids), or a list of ids. A filter
        that keeps no more rows than the probed lists hold in the mean is answered exactly: all that
        it keeps are compared, and it holds a copy of them. (Not one with a set for each query.)
    resources : None; cuVS's, work goes to CuPy's current stream

    Returns
    -------
    distances (n_queries, k) float32, ids (n_queries, k) int64
        Ordered by (distance, id); filled up with (+inf, -1) where there are fewer than k.
        inner_product gives the product, largest first, filled up with (-inf, -1).

    Notes
    -----
    Cost   2 * n_queries * (n_lists + n_probes * n_rows / n_lists) * dim flop, as matrix products.
    Memory the result, search_params.workspace_limit bytes, and some 20 MB a thread.
    Order  ids and distances depend on the index and the query alone: not on the batch, the
           threads, or the path that the batch size chooses.
    """
    where = "ivf_flat.search"
    validate.no_resources(where, resources)
    validate.instance(where, "search_params", search_params, SearchParams)
    validate.instance(where, "index", index, Index)
    return search_ivf(where, search_params, index, queries, k, neighbors, distances, filter)
