"""IVF-SQ: a byte a component in inverted lists; a quarter of the memory, nearly the recall."""

from dataclasses import dataclass
from typing import Any, cast

from gpuann import training, validate
from gpuann._nvtx import annotate
from gpuann.arrays import HostArray
from gpuann.backends.seam import SqPayload
from gpuann.errors import bad_type
from gpuann.index import IvfIndex, open_rows, rows_to_store, search_ivf, warned
from gpuann.metric import Metric
from gpuann.params import IvfIndexParams, IvfSearchParams
from gpuann.trained import TrainedModels


@dataclass(frozen=True, kw_only=True)
class IndexParams(IvfIndexParams):
    """How to build; names and meanings as in cuVS.

    Parameters
    ----------
    n_lists : int, default 1024
        Inverted lists; about sqrt(n_rows) to 4 sqrt(n_rows).
    metric : {"sqeuclidean", "euclidean", "inner_product", "cosine"}, default "sqeuclidean"
    kmeans_n_iters : int, default 20
    kmeans_trainset_fraction : float, default 0.5
        Share of the rows that trains the centres, and whose bounds are the quantiser's ...
    max_train_points_per_cluster : int, default 256
        ... but at most so many for each list (or what the codes want, where lists are few),
        and 256 MiB of them as float32.
    balanced : bool, default False
        Even the lists out while the centres are trained: small ones take a part of large ones.
    by_residual : bool, default True
        Code what a row differs from its list's centre by, as FAISS and cuVS do; False codes the
        rows themselves: less exact, but the codes do not depend on the centres.
    seed : int, default 0
    add_data_on_build : bool, default True
        False: the rows only train, and the index has none until `extend` brings them.
    metric_arg : float, default 2.0
    adaptive_centers : bool, default False
    conservative_memory_allocation : bool, default False
        cuVS's: the last without effect, the others at these values only.
    """

    by_residual: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.by_residual, bool):
            kind = type(self.by_residual).__name__
            raise bad_type(self._where(), "by_residual", "be True or False", kind)


@dataclass(frozen=True, kw_only=True)
class SearchParams(IvfSearchParams):
    __doc__ = IvfSearchParams.__doc__


class Index(IvfIndex):
    """A built IVF-SQ index: immutable."""

    @property
    def by_residual(self) -> bool:
        """Whether residuals are coded, or the rows themselves."""
        return cast("SqPayload", self.core.payload).centers is not None

    @property
    def step(self) -> Any:
        """(dim,) float32: v = middle + step * code, and with by_residual the list's centre more."""
        with self.core.backend.active():
            return cast("SqPayload", self.core.payload).step.copy()

    @property
    def middle(self) -> Any:
        """(dim,) float32, what code 0 stands for; without by_residual in the data's coordinates."""
        middle, shift = cast("SqPayload", self.core.payload).middle, self.core.coarse.axes.shift
        with self.core.backend.active():
            return middle.copy() if self.by_residual or shift is None else middle + shift

    def __repr__(self) -> str:
        return self._describe("int8", *(() if self.by_residual else ("no residuals",)))


@annotate("ivf_sq.build")
def build(
    index_params: IndexParams,
    dataset: Any,
    *,
    bounds: Any = None,
    device: str | None = None,
    progress: bool = False,
    resources: None = None,
) -> Index:
    """Train centres and bounds on a sample and store every row as a byte a component.

    Parameters
    ----------
    index_params : IndexParams
    dataset : array (n_rows, dim), float32, float16, int8 or uint8, host or device; a memory-map; or
        chunks of rows: a list of arrays, a function that returns an iterator, or an iterator
    bounds : array (2, dim), optional
        Smallest and largest value of each component of what is coded (see `by_residual`), instead
        of the sample's; values beyond get the nearest code.
    device : {"cpu", "cuda", "cuda:N"}, optional; default: CUDA if there is one
    progress : bool, default False; bars, if standard error is a terminal
    resources : None; cuVS's, work goes to CuPy's current stream

    Returns
    -------
    Index : row i of the data set has id i

    Notes
    -----
    Cost   2 * n_rows * n_lists * dim flop to assign; kmeans_n_iters times that for the sample.
    Memory the index (dim + 12 bytes a row, centres), the sample as float32, one chunk in flight.
    Order  same seed, same data: same bytes. inner_product trains its centres in L2.
    """
    where = "ivf_sq.build"
    validate.no_resources(where, resources)
    validate.instance(where, "index_params", index_params, IndexParams)
    backend, rows, how = open_rows(where, index_params, dataset, device)
    shape = training.ScalarShape(index_params.by_residual)
    learnt = shape if bounds is None else None
    models = training.train(backend, rows, index_params, how, learnt, progress=progress)
    if bounds is not None:
        models = training.with_given_bounds(where, models, shape, bounds)
    stored = rows_to_store(index_params, rows)
    core = training.build_part(backend, models, stored, progress=progress)
    return warned(where, Index(core, stored.n_rows))


@annotate("ivf_sq.build_precomputed")
def build_precomputed(
    index_params: IndexParams,
    dataset: Any,
    centers: Any,
    bounds: Any,
    *,
    device: str | None = None,
    progress: bool = False,
) -> Index:
    """Encode every row with given centres and bounds.

    dataset as in `build`; centers (n_lists, dim) float32; bounds (2, dim), smallest and largest
    value of each component of what is coded. Under cosine both are those of normalised rows.
    """
    where = "ivf_sq.build_precomputed"
    validate.instance(where, "index_params", index_params, IndexParams)
    backend, rows, how = open_rows(where, index_params, dataset, device)
    models = given_models(where, index_params, rows.dim, how, centers, bounds)
    stored = rows_to_store(index_params, rows)
    return Index(training.build_part(backend, models, stored, progress=progress), stored.n_rows)


def given_models(
    where: str, params: IndexParams, dim: int, how: Metric, centers: Any, bounds: Any
) -> TrainedModels:
    """Centres (n_lists, dim) and bounds (2, dim) float32 that a caller brings, checked."""
    given, shift = training.given_centers(where, centers, dim, params.n_lists, how)
    models = TrainedModels(how, dim, given, shift, None)
    shape = training.ScalarShape(params.by_residual)
    return training.with_given_bounds(where, models, shape, bounds)


@annotate("ivf_sq.search")
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
    """The k rows whose decoded vectors are nearest to each query, among the lists that are probed.

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
        The distance to the decoded row. Ordered by (distance, id); filled up with (+inf, -1) where
        there are fewer than k. inner_product gives the product, largest first, filled up with
        (-inf, -1). `refine` makes the distances exact and the order better.

    Notes
    -----
    Cost   2 * n_queries * (n_lists + n_probes * n_rows / n_lists) * dim flop, as matrix products,
           and each probed list decoded once a batch.
    Memory the result, search_params.workspace_limit bytes, and some 20 MB a thread.
    Order  ids and distances depend on the index and the query alone: not on the batch, the
           threads, or the path that the batch size chooses.
    """
    where = "ivf_sq.search"
    validate.no_resources(where, resources)
    validate.instance(where, "search_params", search_params, SearchParams)
    validate.instance(where, "index", index, Index)
    return search_ivf(where, search_params, index, queries, k, neighbors, distances, filter)
