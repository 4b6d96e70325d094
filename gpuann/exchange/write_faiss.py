"""To FAISS: an index as objects of its package."""

from typing import Any

import numpy as np

from gpuann import kinds
from gpuann._nvtx import annotate
from gpuann.arrays import HostArray
from gpuann.backends import packing
from gpuann.backends.seam import PqPayload, SqPayload
from gpuann.codecs.vectors import cosine_scale
from gpuann.distributed.shard import Shard
from gpuann.errors import bad_value
from gpuann.exchange.read_faiss import HALF, import_faiss
from gpuann.indexes import refined
from gpuann.trained import TrainedModels
from gpuann.updates import AnyIndex, as_shard


@annotate("to_faiss")
def to_faiss(index: AnyIndex | refined.Index) -> Any:
    """A faiss index with the same rows in the same lists, on the CPU.

    Parameters
    ----------
    index : Index of brute_force, ivf_flat, ivf_pq, ivf_sq; or refined, with ids from 0 without gaps

    Returns
    -------
    faiss.IndexIDMap of IndexFlat, IndexIVFFlat, IndexIVFPQ (with a linear transform before it,
    where rows are turned or padded) or IndexIVFScalarQuantizer; nprobe is 1, as faiss has it; or
    IndexRefineFlat of one of these

    Notes
    -----
    Under cosine rows are those of length 1, compared by squared distance: give it such queries, and
    half of what it says is 1 - cos. euclidean is squared there as well. Rows of other dtypes become
    float32.
    """
    where = "to_faiss"
    faiss = import_faiss(where)
    if isinstance(index, refined.Index):
        return _refined(where, faiss, index)
    kinds.check_index(where, index)
    shard = as_shard(index)
    inner = shard.metric == "inner_product"
    measure = faiss.METRIC_INNER_PRODUCT if inner else faiss.METRIC_L2
    payload, models = shard.payload, shard.models
    if models is None:
        flat = faiss.IndexFlat(shard.dim, measure)
        made = faiss.IndexIDMap(flat)
        made.add_with_ids(_float_rows(payload), shard.ids)
        return _own(made, flat)
    centers, shift = models.centers.astype(np.float32), models.shift
    if isinstance(payload, PqPayload) and (models.rotation is not None or _is_padded(models)):
        quantizer = _quantizer(faiss, centers, measure)
        ivf = _ivf_pq(faiss, payload, quantizer, measure)
        _fill(faiss, ivf, shard, payload.codes)
        transform = _transform(faiss, models)
        return _own(faiss.IndexPreTransform(transform, ivf), transform, _own(ivf, quantizer))
    quantizer = _quantizer(faiss, centers if shift is None else centers + shift, measure)
    if isinstance(payload, PqPayload):
        ivf, codes = _ivf_pq(faiss, payload, quantizer, measure), payload.codes
    elif isinstance(payload, SqPayload):
        ivf, codes = _ivf_sq(faiss, payload, models, quantizer, measure)
    else:
        ivf = faiss.IndexIVFFlat(quantizer, shard.dim, models.n_lists, measure)
        codes = _float_rows(payload).view(np.uint8)
    _fill(faiss, ivf, shard, codes)
    return _own(ivf, quantizer)


def _refined(where: str, faiss: Any, index: refined.Index) -> Any:
    """faiss has a row's number for its id."""
    if (index.ids != np.arange(len(index))).any():
        got = f"{int(index.ids[-1])} for the last of {len(index)} rows"
        raise bad_value(where, "ids", "be 0, 1, ... with IndexRefineFlat", got, "use index.inner")
    base = to_faiss(index.inner)
    rows = np.ascontiguousarray(index.dataset, np.float32)
    if index.metric == "cosine":
        rows = rows * cosine_scale(np, rows)[:, None]
    return _own(faiss.IndexRefineFlat(base, faiss.swig_ptr(rows)), base)


def _is_padded(models: TrainedModels) -> bool:
    return bool(models.centers.shape[1] != models.dim)


def _own(made: Any, *parts: Any) -> Any:
    """faiss' objects refer to their parts without holding them, unless they are told to."""
    made.own_fields = True
    for part in parts:
        part.this.disown()
    return made


def _float_rows(payload: Any) -> HostArray:
    rows = payload.vectors.astype(np.float32)
    if payload.scale is not None:
        rows *= payload.scale[:, None]
    return np.ascontiguousarray(rows)


def _quantizer(faiss: Any, centers: HostArray, measure: int) -> Any:
    quantizer = faiss.IndexFlat(centers.shape[1], measure)
    quantizer.add(np.ascontiguousarray(centers, np.float32))
    return quantizer


def _ivf_pq(faiss: Any, payload: PqPayload, quantizer: Any, measure: int) -> Any:
    pq_dim, pq_book_size, _ = payload.codebooks.shape
    n_lists, width = payload.centers.shape
    bits = packing.bits_of(pq_book_size)
    made = faiss.IndexIVFPQ(quantizer, width, n_lists, pq_dim, bits, measure)
    faiss.copy_array_to_vector(payload.codebooks.reshape(-1), made.pq.centroids)
    return made


def _ivf_sq(
    faiss: Any, payload: SqPayload, models: TrainedModels, quantizer: Any, measure: int
) -> tuple[Any, HostArray]:
    of, by_residual = faiss.ScalarQuantizer.QT_8bit, payload.centers is not None
    shape = models.dim, models.n_lists
    made = faiss.IndexIVFScalarQuantizer(quantizer, *shape, of, measure, by_residual)
    step, middle = payload.step.astype(np.float64), payload.middle.astype(np.float64)
    if models.shift is not None and not by_residual:
        middle = middle + models.shift
    low = middle - (HALF + 0.5) * step
    trained = np.concatenate([low, 255 * step]).astype(np.float32)
    faiss.copy_array_to_vector(trained, made.sq.trained)
    return made, payload.codes.view(np.uint8) ^ HALF


def _transform(faiss: Any, models: TrainedModels) -> Any:
    """y = R (x - shift), or zeros behind x - shift."""
    width = models.centers.shape[1]
    rotation = np.eye(width, models.dim) if models.rotation is None else models.rotation
    made = faiss.LinearTransform(models.dim, width, models.shift is not None)
    faiss.copy_array_to_vector(rotation.astype(np.float32).reshape(-1), made.A)
    if models.shift is not None:
        bias = -(rotation.astype(np.float64) @ models.shift)
        faiss.copy_array_to_vector(bias.astype(np.float32), made.b)
    made.is_trained = True
    made.set_is_orthonormal()
    return made


def _fill(faiss: Any, ivf: Any, shard: Shard, codes: HostArray) -> None:
    """Rows into the lists that they have here."""
    ivf.is_trained = True
    offsets = shard.lists.offsets.tolist()
    for l in range(ivf.nlist):
        part = slice(offsets[l], offsets[l + 1])
        if offsets[l] < offsets[l + 1]:
            ids = np.ascontiguousarray(shard.ids[part])
            own = np.ascontiguousarray(codes[part])
            n = len(ids)
            ivf.invlists.add_entries(l, n, faiss.swig_ptr(ids), faiss.swig_ptr(own))
    ivf.ntotal = len(shard)
