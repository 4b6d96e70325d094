"""What the codecs store, told apart in one place: which arrays have an entry a row, and how they
are put together with the models of an index.
"""

from collections.abc import Mapping
from typing import Any

from gpuann.backends import Backend, packing
from gpuann.backends.seam import Array, FlatPayload, Payload, PqPayload, SqPayload
from gpuann.codecs import sq, vectors
from gpuann.codecs.axes import Axes
from gpuann.codecs.flat import FlatCodec
from gpuann.codecs.pq import PqCodec
from gpuann.codecs.sq import SqCodec, Steps
from gpuann.metric import Metric
from gpuann.trained import TrainedModels

Codec = FlatCodec | PqCodec | SqCodec

ROWS = ("codes", "vectors", "scale")
"""Names of the arrays that have one entry a row; which of them, the payload's kind says."""


def is_whole(payload: Payload) -> bool:
    """Whether rows are stored as they were given."""
    return isinstance(payload, FlatPayload)


def rows_of(payload: Payload) -> dict[str, Any]:
    """The arrays of a payload with one entry a row, by name."""
    named = payload._asdict()
    return {name: named[name] for name in ROWS if named.get(name) is not None}


def with_rows(payload: Payload, rows: Mapping[str, Any], centers: Any = None) -> Payload:
    """The payload with other rows, in lists with other `centers`."""
    held: Any = payload
    named: dict[str, Any] = {name: rows.get(name) for name in ROWS if hasattr(held, name)}
    if centers is not None and getattr(held, "centers", None) is not None:
        named["centers"] = centers
    made: Payload = held._replace(**named)
    return made


def decoded(backend: Backend, payload: Payload, rows: Array, list_of: Array) -> Array:
    """Storage rows (n,) int64 of these lists, as they count for the distance but for a scale
    -> (n, width) float32.
    """
    xp = backend.xp
    if isinstance(payload, FlatPayload):
        return payload.vectors[rows].astype(xp.float32, copy=False)
    codes = payload.codes[rows]
    if isinstance(payload, PqPayload):
        pq_dim, pq_book_size, pq_len = payload.codebooks.shape
        entry = packing.unpack(xp, codes, pq_dim, packing.bits_of(pq_book_size))
        x = payload.codebooks[xp.arange(pq_dim), entry].reshape(len(codes), pq_dim * pq_len)
    else:
        x = sq.decode(xp, codes, Steps(payload.step, payload.middle))
    return x if payload.centers is None else x + payload.centers[list_of]


def measure(
    backend: Backend, how: Metric, payload: Payload, rows: Array, list_of: Array, of_center: Array
) -> tuple[Array, Array]:
    """Of storage rows (n,), what `Lists` has of them: N(v) (n,) float32, and at least 2 |c_l| + |v|
    (n,) float32; of_center (n_lists,) float32, at least |c_l|.
    """
    xp = backend.xp
    x = decoded(backend, payload, rows, list_of)
    zero = None
    if isinstance(payload, FlatPayload):
        if payload.scale is not None:
            x, zero = x * payload.scale[rows][:, None], payload.scale[rows] == 0
        x = vectors.moved(x, payload.shift)
    norms = vectors.square_norms(xp, x)
    reach = vectors.lengths_of(xp, norms)
    if zero is not None:  # counts as a unit vector, see FlatCodec
        norms, reach = norms + zero, reach + zero
    if not isinstance(payload, FlatPayload) and payload.centers is not None:
        reach = reach + 2 * of_center[list_of]
    if how == "inner_product":
        norms = xp.zeros_like(norms)
    return norms.astype(xp.float32), reach


def whole_rows(backend: Backend, payload: Payload, rows: Array, list_of: Array) -> FlatPayload:
    """Storage rows (n,) int64 of these lists stored whole, at the same canonical distances."""
    if not isinstance(payload, FlatPayload):
        return FlatPayload(decoded(backend, payload, rows, list_of), None, None)
    scale = None if payload.scale is None else payload.scale[rows]
    return FlatPayload(payload.vectors[rows], scale, payload.shift)


def of_models(models: TrainedModels, rows: Mapping[str, Any]) -> Payload:
    """Rows on the host that were stored with these models; whole ones as of `models.shift`."""
    if models.codebooks is not None:
        return PqPayload(rows["codes"], models.codebooks, models.centers)
    if models.scalar is not None:
        step, middle = models.scalar
        centers = models.centers if models.by_residual else None
        return SqPayload(rows["codes"], step, middle, centers)
    return FlatPayload(rows["vectors"], rows.get("scale"), models.shift)


def row_bytes(models: TrainedModels, whole: int) -> int:
    """Bytes of a row stored with these models, of `whole` bytes by itself."""
    if models.codebooks is not None:
        pq_dim, pq_book_size, _ = models.codebooks.shape
        return packing.row_bytes(pq_dim, packing.bits_of(pq_book_size))
    return whole if models.scalar is None else models.dim


def axes_of(backend: Backend, models: TrainedModels) -> Axes:
    """The coordinates of these models, on the device."""
    shift, rotation = models.shift, models.rotation
    return Axes(
        None if shift is None else backend.put(shift),
        None if rotation is None else backend.put(rotation),
        models.centers.shape[1],
    )


def codec_of(backend: Backend, models: TrainedModels, centers: Array, axes: Axes) -> Codec:
    """What stores rows with these models; their centres and axes are on the device already."""
    if models.codebooks is not None:
        return PqCodec(models.metric, axes, centers, backend.put(models.codebooks))
    if models.scalar is not None:
        step, middle = models.scalar
        steps = Steps(backend.put(step), backend.put(middle))
        return SqCodec(models.metric, axes, centers if models.by_residual else None, steps)
    return FlatCodec(models.metric, axes.shift)
