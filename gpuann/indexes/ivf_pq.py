"""IVF-PQ: product-quantised residuals in inverted lists; small, approximate, refined if wanted."""

from dataclasses import dataclass, field
from typing import Any, cast

from gpuann import training, validate
from gpuann._nvtx import annotate
from gpuann.arrays import HostArray
from gpuann.backends import packing
from gpuann.backends.seam import PqPayload
from gpuann.codecs import pq
from gpuann.errors import bad_value
from gpuann.index import IvfIndex, open_rows, rows_to_store, search_ivf, warned
from gpuann.indexes import given_pq
from gpuann.params import IvfIndexParams, IvfSearchParams, keep_integer

_DTYPES = {
    "lut_dtype": ("float32", "float16", "uint8"),
    "internal_distance_dtype": ("float32", "float16"),
    "coarse_search_dtype": ("float32", "float16", "int8"),
}


@dataclass(frozen=True, kw_only=True)
class IndexParams(IvfIndexParams):
    """How to build; names and meanings as in cuVS.

    Parameters
    ----------
    n_lists : int, default 1024
        Inverted lists; about sqrt(n_rows) to 4 sqrt(n_rows).
    metric : {"sqeuclidean", "euclidean", "inner_product", "cosine"}, default "sqeuclidean"
    kmeans_n_iters : int, default 20
        For the centres, and for the codebooks.
    kmeans_trainset_fraction : float, default 0.5
        Share of the rows that trains the centres ...
    max_train_points_per_cluster : int, default 256
        ... but at most so many a list (or what the codes want, if that is more), and 256 MiB.
    balanced : bool, default False
        Even the lists out while the centres are trained: small ones take a part of large ones.
    pq_bits : int, default 8
        Bits of a code, 4 to 8: codebooks have 2^pq_bits entries.
    pq_dim : int, default 0
        Codes per row, pq_dim * pq_bits / 8 bytes; pq_len = ceil(dim / pq_dim), rows padded with
        zeros. 0 chooses as cuVS does: half of dim from 128 up, rounded down to a multiple of 32.
    rotation : {"none", "random", "opq"}, default "none"
        Turn rows before they are cut: evenly drawn, which spreads their variance over the codes, or
        learnt with the codebooks (OPQ), which finds more at the same size.
    force_random_rotation : bool, default False
        cuVS's name for rotation="random".
    max_train_points_per_pq_code : int, default 256
        Rows per codebook entry, at most, that train the codebooks.
    seed : int, default 0
    add_data_on_build : bool, default True
        False: the rows only train, and the index has none until `extend` brings them.
    metric_arg : float, default 2.0
    adaptive_centers : bool, default False
    codebook_kind : {"subspace"}, default "subspace"
    codes_layout : {"interleaved", "flat"}, default "interleaved"
    conservative_memory_allocation : bool, default False
        cuVS's: the last two without effect, the others at these values only.
    """

    pq_bits: int = 8
    pq_dim: int = 0
    rotation: str = "none"
    force_random_rotation: bool = False
    max_train_points_per_pq_code: int = 256
    codebook_kind: str = field(default="subspace", repr=False)
    codes_layout: str = field(default="interleaved", repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        where = self._where()
        keep_integer(self, where, "pq_bits", 4, 8)
        keep_integer(self, where, "pq_dim", 0)
        validate.one_of(where, "rotation", self.rotation, training.ROTATIONS)
        if self.force_random_rotation and self.rotation == "opq":
            rule, way_out = "be False with a learnt rotation", 'use rotation="random"'
            raise bad_value(where, "force_random_rotation", rule, True, way_out)
        if self.force_random_rotation:
            object.__setattr__(self, "rotation", "random")
        keep_integer(self, where, "max_train_points_per_pq_code", 1)
        way_out = "codebooks are for each piece of a row, not for each list: leave it out"
        validate.only(where, "codebook_kind", self.codebook_kind, "subspace", way_out)
        validate.one_of(where, "codes_layout", self.codes_layout, ("interleaved", "flat"))


@dataclass(frozen=True, kw_only=True)
class SearchParams(IvfSearchParams):
    """How to search.

    Parameters
    ----------
    n_probes : int, default 20
        Lists visited per query; more than n_lists means all of them.
    workspace_limit : int, default 1073741824
        Bytes that a search may take beside its result, and some 20 MB a thread.
    lut_dtype : {"float32", "float16", "uint8"}, default "float32"
    internal_distance_dtype : {"float32", "float16"}, default "float32"
    coarse_search_dtype : {"float32", "float16", "int8"}, default "float32"
    max_internal_batch_size : int, default 4096
        cuVS's, as NumPy's dtypes or their names, and without effect: what is stored in between
        changes no answer here.
    """

    lut_dtype: Any = field(default="float32", repr=False)
    internal_distance_dtype: Any = field(default="float32", repr=False)
    coarse_search_dtype: Any = field(default="float32", repr=False)
    max_internal_batch_size: int = field(default=4096, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        where = "ivf_pq.SearchParams"
        for name, allowed in _DTYPES.items():
            validate.dtype_among(where, name, getattr(self, name), allowed)
        keep_integer(self, where, "max_internal_batch_size", 1)


class Index(IvfIndex):
    """A built IVF-PQ index: immutable."""

    @property
    def _codebooks(self) -> Any:
        return cast("PqPayload", self.core.payload).codebooks

    @property
    def pq_dim(self) -> int:
        """Codes per row."""
        return len(self._codebooks)

    @property
    def pq_len(self) -> int:
        """Components of a codebook entry."""
        return int(self._codebooks.shape[2])

    @property
    def pq_bits(self) -> int:
        """Bits of a code."""
        return packing.bits_of(self._codebooks.shape[1])

    @property
    def rotation_matrix(self) -> Any:
        """(pq_dim * pq_len, dim) float32 that rows are turned by, None where they are not."""
        rotation = self.core.coarse.axes.rotation
        with self.core.backend.active():
            return None if rotation is None else rotation.copy()

    @property
    def centers_rot(self) -> Any:
        """Coarse centres (n_lists, pq_dim * pq_len) float32, turned and padded."""
        with self.core.backend.active():
            return self.core.coarse.centers.copy()

    @property
    def pq_centers(self) -> Any:
        """Codebooks (pq_dim, 2^pq_bits, pq_len) float32. cuVS has the last two axes swapped."""
        with self.core.backend.active():
            return self._codebooks.copy()

    def __repr__(self) -> str:
        return self._describe(
            f"pq_dim {self.pq_dim}", f"pq_len {self.pq_len}", f"pq_bits {self.pq_bits}"
        )


@annotate("ivf_pq.build")
def build(
    index_params: IndexParams,
    dataset: Any,
    *,
    device: str | None = None,
    progress: bool = False,
    resources: None = None,
) -> Index:
    """Train the quantisers on a sample and store every row as a PQ code of its residual.

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
    Cost   2 * n_rows * n_lists * dim flop to assign, 2^(pq_bits + 1) * n_rows * dim to encode;
           training is kmeans_n_iters times that for the sample.
    Memory the index (pq_dim * pq_bits / 8 + 12 bytes a row, centres, codebooks), the sample as
           float32, one chunk in flight.
    Order  same seed, same data: same bytes. inner_product trains its centres in L2.

    References
    ----------
    Jegou, Douze, Schmid, "Product quantization for nearest neighbor search", PAMI 2011.
    """
    where = "ivf_pq.build"
    validate.no_resources(where, resources)
    validate.instance(where, "index_params", index_params, IndexParams)
    backend, rows, how = open_rows(where, index_params, dataset, device)
    shape = code_shape(where, index_params, rows.dim)
    models = training.train(backend, rows, index_params, how, shape, progress=progress)
    rows = rows_to_store(index_params, rows)
    core = training.build_part(backend, models, rows, progress=progress)
    return warned(where, Index(core, rows.n_rows))


@annotate("ivf_pq.build_precomputed")
def build_precomputed(
    index_params: IndexParams,
    dataset: Any,
    centers: Any,
    pq_centers: Any,
    *,
    rotation_matrix: Any = None,
    device: str | None = None,
    progress: bool = False,
) -> Index:
    """Encode every row with given quantisers.

    dataset as in `build`; centers (n_lists, dim) float32; pq_centers (pq_dim, 2^pq_bits, pq_len)
    float32, codebooks of residuals; rotation_matrix (pq_dim * pq_len, dim), orthonormal columns,
    that rows, centres and residuals are turned by. Under cosine all are those of normalised rows.
    """
    where = "ivf_pq.build_precomputed"
    validate.instance(where, "index_params", index_params, IndexParams)
    backend, rows, how = open_rows(where, index_params, dataset, device)
    shape = code_shape(where, index_params, rows.dim)
    given = centers, pq_centers, rotation_matrix
    models = given_pq.models(where, index_params, shape, rows.dim, how, *given)
    rows = rows_to_store(index_params, rows)
    return Index(training.build_part(backend, models, rows, progress=progress), rows.n_rows)


@annotate("ivf_pq.search")
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
    where = "ivf_pq.search"
    validate.no_resources(where, resources)
    validate.instance(where, "search_params", search_params, SearchParams)
    validate.instance(where, "index", index, Index)
    return search_ivf(where, search_params, index, queries, k, neighbors, distances, filter)


def code_shape(where: str, params: IndexParams, dim: int) -> training.CodeShape:
    """For rows of `dim` components."""
    pq_dim = params.pq_dim or pq.default_pq_dim(dim)
    if pq_dim > dim:
        raise bad_value(where, "pq_dim", f"be at most dim, {dim}", pq_dim)
    most = params.max_train_points_per_pq_code
    shape = pq_dim, -(-dim // pq_dim), 1 << params.pq_bits
    return training.CodeShape(*shape, params.rotation, most)
