"""From FAISS: what its objects hold, as an index."""

from typing import Any

import numpy as np

from gpuann import backends, validate
from gpuann._nvtx import annotate
from gpuann.arrays import HostArray
from gpuann.backends.seam import FlatPayload, Lists
from gpuann.codecs import axes, payloads, vectors
from gpuann.distributed import reshard
from gpuann.distributed.shard import Shard, names_of
from gpuann.errors import BackendError, bad_value, message
from gpuann.indexes import refined
from gpuann.metric import Metric
from gpuann.trained import TrainedModels
from gpuann.updates import as_index

HALF = 128  # of a byte: FAISS' codes are unsigned


def import_faiss(where: str) -> Any:
    """The package, or BackendError."""
    try:
        import faiss
    except ImportError:
        rule, way_out = "be installed", "pip install faiss-cpu"
        raise BackendError(message(where, "faiss", rule, "no such package", way_out)) from None
    return faiss


@annotate("from_faiss")
def from_faiss(index: Any, *, device: str | None = None) -> Any:
    """The index of a faiss one, its rows in the lists that they have there.

    Parameters
    ----------
    index : faiss.IndexFlat, IndexIDMap of one, IndexIVFFlat, IndexIVFPQ (4 to 8 bits, by residual),
        IndexIVFScalarQuantizer (8 bits), or an IndexPreTransform with one linear transform (OPQ, a
        random rotation) before IndexIVFPQ; or an IndexRefineFlat of one of these; on the CPU
    device : {"cpu", "cuda", "cuda:N"}, optional; default: CUDA if there is one

    Returns
    -------
    Index of brute_force, ivf_flat, ivf_pq, ivf_sq or refined, of metric sqeuclidean or
    inner_product

    Notes
    -----
    Distances of faiss are squared too. Refused with its name: whatever has no counterpart here.
    """
    where = "from_faiss"
    faiss = import_faiss(where)
    if not isinstance(index, faiss.Index):
        raise bad_value(where, "index", "be an index of faiss", type(index).__name__)
    backend = backends.choose(where, device)
    given, transform = faiss.downcast_index(index), None
    if type(given) is faiss.IndexRefineFlat:
        inner = from_faiss(given.base_index, device=device)
        rows = faiss.downcast_index(given.refine_index).reconstruct_n(0, given.ntotal)
        return refined.build(inner, rows)
    if type(given) is faiss.IndexPreTransform:
        if given.chain.size() != 1:
            raise bad_value(where, "index", "have one transform", given.chain.size())
        transform = faiss.downcast_VectorTransform(given.chain.at(0))
        given = faiss.downcast_index(given.index)
    how = _metric_of(where, faiss, given)
    flat = (faiss.IndexFlat, faiss.IndexFlatL2, faiss.IndexFlatIP)
    if type(given) in (faiss.IndexIDMap, faiss.IndexIDMap2, *flat) and transform is None:
        return _from_flat(where, faiss, given, flat, how, backend)
    # of these very types: what is derived from them stores other things in the same places
    lists = (faiss.IndexIVFFlat, faiss.IndexIVFPQ, faiss.IndexIVFScalarQuantizer)
    if type(given) not in lists:
        rule = "be IndexFlat, IndexIVFFlat, IndexIVFPQ or IndexIVFScalarQuantizer"
        way_out = "build one of its rows, index.reconstruct_n(0, index.ntotal)"
        raise bad_value(where, "index", rule, type(given).__name__, way_out)
    if not given.is_trained or given.ntotal == 0:
        raise bad_value(where, "index", "have rows", given.ntotal)
    if transform is not None and not isinstance(given, faiss.IndexIVFPQ):
        rule = "have a transform before IndexIVFPQ only"
        raise bad_value(where, "index", rule, type(given).__name__)
    centers = given.quantizer.reconstruct_n(0, given.nlist).astype(np.float32)
    offsets, ids, codes = _lists_of(faiss, given)
    names_of(where, "ids", ids, len(ids))
    validate.finite(where, "centroids", centers)
    shard = _shard(where, faiss, given, how, transform, centers, offsets, ids, codes)
    return as_index(shard, backend)


def _metric_of(where: str, faiss: Any, index: Any) -> Metric:
    named: dict[int, Metric] = {
        faiss.METRIC_L2: "sqeuclidean",
        faiss.METRIC_INNER_PRODUCT: "inner_product",
    }
    if index.metric_type not in named:
        raise bad_value(where, "metric", "be L2 or inner product", index.metric_type)
    return named[index.metric_type]


def _from_flat(
    where: str, faiss: Any, given: Any, flat: tuple[type, ...], how: Metric, backend: Any
) -> Any:
    ids = None
    if isinstance(given, faiss.IndexIDMap):
        ids = faiss.vector_to_array(given.id_map).astype(np.int64)
        given = faiss.downcast_index(given.index)
    if type(given) not in flat or given.ntotal == 0:
        got = f"{type(given).__name__} of {given.ntotal} rows"
        rule, way_out = "be IndexFlat with rows", None
        if ids is not None:
            rule = "be IndexIDMap of IndexFlat with rows"
            way_out = "take faiss.downcast_index(index.index): its ids are places in index.id_map"
        raise bad_value(where, "index", rule, got, way_out)
    rows = given.reconstruct_n(0, given.ntotal)
    validate.finite(where, "rows", rows)
    names = names_of(where, "ids", 0 if ids is None else ids, len(rows))
    lists = Lists(np.array([0, len(rows)]), names, np.zeros(0, np.float32), np.zeros(0, np.float32))
    shard = Shard(how, given.d, None, FlatPayload(rows, None, None), lists)
    return as_index(reshard.merge([shard]), backend)  # which makes norms and radius anew


def _lists_of(faiss: Any, index: Any) -> tuple[HostArray, HostArray, HostArray]:
    """offsets (n_lists + 1,), ids (n,) int64, codes (n, code_size) uint8."""
    lists, width = index.invlists, index.invlists.code_size
    sizes = np.array([lists.list_size(l) for l in range(index.nlist)], np.int64)
    ids, codes = [np.zeros(0, np.int64)], [np.zeros((0, width), np.uint8)]
    for l in np.flatnonzero(sizes).tolist():
        n = int(sizes[l])
        ids.append(faiss.rev_swig_ptr(lists.get_ids(l), n).copy())
        found = faiss.rev_swig_ptr(lists.get_codes(l), n * width)
        codes.append(found.reshape(n, width).copy())
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return offsets, np.concatenate(ids), np.concatenate(codes)


def _shard(
    where: str,
    faiss: Any,
    given: Any,
    how: Metric,
    transform: Any,
    centers: HostArray,
    offsets: HostArray,
    ids: HostArray,
    codes: HostArray,
) -> Shard:
    dim = given.d if transform is None else transform.d_in
    payload: Any
    if isinstance(given, faiss.IndexIVFFlat):
        shift = vectors.choose_shift(centers, how)
        models = TrainedModels(how, dim, vectors.moved(centers, shift), shift, None)
        validate.finite(where, "rows", codes.view(np.float32))
        payload = FlatPayload(codes.view(np.float32), None, shift)
    elif isinstance(given, faiss.IndexIVFPQ):
        models = _pq_models(where, faiss, given, how, dim, transform, centers)
        payload = payloads.of_models(models, {"codes": codes})
    elif isinstance(given, faiss.IndexIVFScalarQuantizer):
        scalar = np.stack(_scalar_of(where, faiss, given.sq, dim))
        models = TrainedModels(how, dim, centers, None, None, scalar=scalar)
        models = models if given.by_residual else _whole(models)
        payload = payloads.of_models(models, {"codes": (codes ^ HALF).view(np.int8)})
    else:
        rule = "be IndexIVFFlat, IndexIVFPQ or IndexIVFScalarQuantizer"
        raise bad_value(where, "index", rule, type(given).__name__)
    return reshard.measured(how, dim, models, payload, offsets, ids)


def _whole(models: TrainedModels) -> TrainedModels:
    parts = models.metric, models.dim, models.centers, models.shift, None
    return TrainedModels(*parts, scalar=models.scalar, by_residual=False)


def _pq_models(
    where: str, faiss: Any, given: Any, how: Metric, dim: int, transform: Any, centers: HostArray
) -> TrainedModels:
    quantizer = given.pq
    if not given.by_residual:
        raise bad_value(where, "index", "code residuals", "by_residual=False")
    if not 4 <= quantizer.nbits <= 8:
        raise bad_value(where, "index", "have codes of 4 to 8 bits", quantizer.nbits)
    shape = quantizer.M, quantizer.ksub, quantizer.dsub
    books = faiss.vector_to_array(quantizer.centroids).reshape(shape).astype(np.float32)
    if transform is None:
        return TrainedModels(how, dim, centers, None, books)
    shift, rotation = _turn_of(where, faiss, transform, how)
    return TrainedModels(how, dim, centers, shift, books, rotation=rotation)


def _turn_of(
    where: str, faiss: Any, transform: Any, how: Metric
) -> tuple[HostArray | None, HostArray]:
    """Shift (dim,) and rotation (width, dim) of a transform y = A x + b."""
    if not isinstance(transform, faiss.LinearTransform) or transform.d_out < transform.d_in:
        got = f"{type(transform).__name__}, {transform.d_in} to {transform.d_out} components"
        raise bad_value(where, "transform", "be linear and keep all components", got)
    a = faiss.vector_to_array(transform.A).reshape(transform.d_out, transform.d_in)
    error = float(np.abs(a.T.astype(np.float64) @ a - np.eye(transform.d_in)).max())
    if error > 1e-3:
        raise bad_value(where, "transform", "keep lengths, to 0.001", f"an error of {error:.3g}")
    rotation = axes.in_units(a)
    if not transform.have_bias:
        return None, rotation
    if how == "inner_product":
        raise bad_value(where, "transform", "have no bias for inner products", "one")
    b = faiss.vector_to_array(transform.b).astype(np.float64)
    return (-b @ a).astype(np.float32), rotation


def _scalar_of(where: str, faiss: Any, quantizer: Any, dim: int) -> tuple[HostArray, HostArray]:
    """Step and middle (dim,) float32: faiss has vmin + (code + 0.5) / 255 * vdiff, 8 bits."""
    kinds_of = faiss.ScalarQuantizer
    if quantizer.qtype == kinds_of.QT_8bit_direct:
        return np.ones(dim, np.float32), np.full(dim, HALF, np.float32)
    if quantizer.qtype not in (kinds_of.QT_8bit, kinds_of.QT_8bit_uniform):
        rule = "be of QT_8bit, QT_8bit_uniform or QT_8bit_direct"
        raise bad_value(where, "scalar quantizer", rule, quantizer.qtype)
    low, width = np.split(faiss.vector_to_array(quantizer.trained).astype(np.float64), 2)
    step = np.broadcast_to(width / 255, dim)
    return step.astype(np.float32), (low + (HALF + 0.5) * step).astype(np.float32)
