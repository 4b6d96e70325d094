"""IVF-PQ: product-quantised residuals in inverted lists; small, approximate, refined if wanted."""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from gpuann import arrays, backends, training, validate
from gpuann._nvtx import annotate
from gpuann.arrays import HostArray
from gpuann.backends import packing
from gpuann.backends.seam import PqPayload
from gpuann.codecs import axes, pq
from gpuann.codecs.axes import Axes
from gpuann.errors import bad_type, bad_value
from gpuann.index import IvfIndex, open_rows, search_ivf, warned
from gpuann.metric import Metric
from gpuann.params import IvfIndexParams, IvfSearchParams, keep_integer
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
        For the centres, and for the codebooks.
    kmeans_trainset_fraction : float, default 0.5
        Share of the rows that trains the centres ...
    max_train_points_per_cluster : int, default 256
        ... but at most so many for each list (or what the codes want, where lists are few),
        and 256 MiB of them as float32.
    balanced : bool, default False
        Even the lists out while the centres are trained: small ones take a part of large ones.
    pq_bits : int, default 8
        Bits of a code, 4 to 8: codebooks have 2^pq_bits entries.
    pq_dim : int, default 0
        Codes per row, which take pq_dim * pq_bits / 8 bytes; pq_len = ceil(dim / pq_dim), rows
        padded with zeros. 0 chooses as cuVS does: half of dim from 128 up, rounded down to a
        multiple of 32.
    rotation : {"none", "random", "opq"}, default "none"
        Turn rows before they are cut: evenly drawn, which spreads their variance over the codes, or
        learnt with the codebooks (OPQ), which finds more at the same size.
    force_random_rotation : bool, default False
        cuVS's name for rotation="random".
    max_train_points_per_pq_code : int, default 256
        Rows per codebook entry, at most, that train the codebooks.
    seed : int, default 0
    """

    pq_bits: int = 8
    pq_dim: int = 0
    rotation: str = "none"
    force_random_rotation: bool = False
    max_train_points_per_pq_code: int = 256

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


@dataclass(frozen=True, kw_only=True)
class SearchParams(IvfSearchParams):
    __doc__ = IvfSearchParams.__doc__


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
) -> Index:
    """Train the quantisers on a sample and store every row as a PQ code of its residual.

    Parameters
    ----------
    index_params : IndexParams
    dataset : array (n_rows, dim), float32, float16, int8 or uint8, host or device; a memory-map; or
        chunks of rows: a list of arrays, a function that returns an iterator, or an iterator
    device : {"cpu", "cuda", "cuda:N"}, optional; default: CUDA if there is one
    progress : bool, default False; bars, if standard error is a terminal

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
    validate.instance(where, "index_params", index_params, IndexParams)
    backend, rows, how = open_rows(where, index_params, dataset, device)
    shape = code_shape(where, index_params, rows.dim)
    models = training.train(backend, rows, index_params, how, shape, progress=progress)
    return warned(where, Index(training.build_part(backend, models, rows, progress=progress)))


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
    given = centers, pq_centers, rotation_matrix
    models = given_models(where, index_params, rows.dim, how, *given)
    return Index(training.build_part(backend, models, rows, progress=progress))


def given_models(
    where: str,
    params: IndexParams,
    dim: int,
    how: Metric,
    centers: Any,
    pq_centers: Any,
    rotation: Any = None,
) -> TrainedModels:
    """Centres (n_lists, dim), codebooks (pq_dim, 2^pq_bits, pq_len) and a rotation (width, dim)
    float32 that a caller brings, checked.
    """
    pq_dim, pq_len, pq_book_size = code_shape(where, params, dim)[:3]
    given, shift = training.given_centers(where, centers, dim, params.n_lists, how)
    codebooks = arrays.as_host(where, "pq_centers", pq_centers)
    if codebooks.shape != (pq_dim, pq_book_size, pq_len):
        rule = f"have shape ({pq_dim}, {pq_book_size}, {pq_len})"
        raise bad_value(where, "pq_centers", rule, codebooks.shape)
    if codebooks.dtype != np.float32:
        raise bad_type(where, "pq_centers", "be float32", codebooks.dtype)
    validate.finite(where, "pq_centers", codebooks.reshape(-1, pq_len))
    turn = Axes(
        None, _given_rotation(where, params, dim, pq_dim * pq_len, rotation), pq_dim * pq_len
    )
    found = turn.of(backends.choose(where, "cpu"), given), shift, np.ascontiguousarray(codebooks)
    return TrainedModels(how, dim, *found, rotation=turn.rotation)


def _given_rotation(
    where: str, params: IndexParams, dim: int, width: int, rotation: Any
) -> HostArray | None:
    """A rotation (width, dim) that a caller brings, checked, in the units of `codecs.axes`."""
    if rotation is None:
        if params.rotation == "opq":
            raise bad_value(where, "rotation_matrix", "be given, as rotation is", '"opq"')
        return axes.random(width, dim, params.seed) if params.rotation == "random" else None
    array = arrays.as_host(where, "rotation_matrix", rotation)
    if array.shape != (width, dim):
        raise bad_value(where, "rotation_matrix", f"have shape ({width}, {dim})", array.shape)
    if array.dtype.kind != "f":
        raise bad_type(where, "rotation_matrix", "be of floats", array.dtype)
    validate.finite(where, "rotation_matrix", array)
    x = array.astype(np.float64)
    error = float(np.abs(x.T @ x - np.eye(dim)).max())
    if error > 1e-3:
        rule = "have orthonormal columns, to 0.001"
        raise bad_value(where, "rotation_matrix", rule, f"an error of {error:.3g}")
    return axes.in_units(array)


@annotate("ivf_pq.search")
def search(
    search_params: SearchParams,
    index: Index,
    queries: Any,
    k: int,
    neighbors: HostArray | None = None,
    distances: HostArray | None = None,
    filter: Any = None,
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
