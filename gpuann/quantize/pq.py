"""A product quantiser: pq_dim codes of pq_bits a row. See `codecs.pq`.

Sources: Jegou, Douze, Schmid, "Product quantization for nearest neighbor search", PAMI 2011; Ge et
al., "Optimized product quantization", PAMI 2014.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuann import training, validate
from gpuann._nvtx import annotate
from gpuann.arrays import HostArray
from gpuann.backends import Backend, choose, packing
from gpuann.backends.seam import Array
from gpuann.codecs import pq
from gpuann.codecs.axes import Axes, back
from gpuann.errors import bad_value
from gpuann.params import keep_integer
from gpuann.quantize import _rows


@dataclass(frozen=True, kw_only=True)
class QuantizerParams:
    """How to fit; names as in cuVS.

    Parameters
    ----------
    pq_bits : int, default 8
        Bits of a code, 4 to 8.
    pq_dim : int, default 0
        Codes per row; 0 chooses as `ivf_pq.IndexParams` does.
    rotation : {"none", "random", "opq"}, default "none"
        Turn rows before they are cut.
    kmeans_n_iters : int, default 25
    max_train_points_per_pq_code : int, default 256
        Rows per codebook entry, at most, that train the codebooks.
    seed : int, default 0
    """

    pq_bits: int = 8
    pq_dim: int = 0
    rotation: str = "none"
    kmeans_n_iters: int = 25
    max_train_points_per_pq_code: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        where = "quantize.pq.QuantizerParams"
        keep_integer(self, where, "pq_bits", 4, 8)
        keep_integer(self, where, "pq_dim", 0)
        validate.one_of(where, "rotation", self.rotation, training.ROTATIONS)
        keep_integer(self, where, "kmeans_n_iters", 1)
        keep_integer(self, where, "max_train_points_per_pq_code", 1)
        keep_integer(self, where, "seed", 0)


@dataclass(frozen=True, eq=False)
class Quantizer:
    """Fitted: immutable, on the host."""

    dim: int
    codebooks: HostArray
    """(pq_dim, 2^pq_bits, pq_len) float32."""
    rotation: HostArray | None
    """(pq_dim * pq_len, dim) float32, or None."""

    @property
    def pq_dim(self) -> int:
        """Codes per row."""
        return len(self.codebooks)

    @property
    def pq_len(self) -> int:
        """Components of a codebook entry."""
        return int(self.codebooks.shape[2])

    @property
    def pq_bits(self) -> int:
        """Bits of a code."""
        return packing.bits_of(self.codebooks.shape[1])

    @property
    def code_bytes(self) -> int:
        """Of a row's codes, side by side."""
        return packing.row_bytes(self.pq_dim, self.pq_bits)

    def __repr__(self) -> str:
        turned = "" if self.rotation is None else ", turned"
        shape = f"pq_dim {self.pq_dim}, pq_len {self.pq_len}, pq_bits {self.pq_bits}"
        return f"quantize.pq.Quantizer(dim {self.dim}, {shape}{turned})"


def _axes(backend: Backend, rotation: HostArray | None, width: int) -> Axes:
    """The coordinates that rows are cut in, on the device."""
    return Axes(None, None if rotation is None else backend.put(rotation), width)


@annotate("quantize.pq.fit")
def fit(
    params: QuantizerParams, dataset: Any, *, device: str | None = None, progress: bool = False
) -> Quantizer:
    """Learn codebooks, and a rotation if there is to be one, from a sample of the rows.

    Parameters
    ----------
    params : QuantizerParams
    dataset : array (n_rows, dim), float32, float16, int8 or uint8, host or device; or chunks of
        such rows
    device : {"cpu", "cuda", "cuda:N"}, optional; default: CUDA if there is one
    progress : bool, default False; a bar, if standard error is a terminal
    """
    where = "quantize.pq.fit"
    validate.instance(where, "params", params, QuantizerParams)
    backend, rows = choose(where, device), _rows.checked(where, dataset)
    pq_dim = params.pq_dim or pq.default_pq_dim(rows.dim)
    if pq_dim > rows.dim:
        raise bad_value(where, "pq_dim", f"be at most dim, {rows.dim}", pq_dim)
    shape = training.CodeShape(
        *(pq_dim, -(-rows.dim // pq_dim), 1 << params.pq_bits),
        *(params.rotation, params.max_train_points_per_pq_code),
    )
    most = shape.max_train_points_per_pq_code * shape.pq_book_size
    x = _rows.sample(rows, most, params.seed)
    with backend.active():
        rotation = training.learn_rotation(backend, shape, rows.dim, params.seed, lambda: x)
        books = pq.train(
            backend,
            _axes(backend, rotation, pq_dim * shape.pq_len).of(backend, backend.put(x)),
            *(pq_dim, shape.pq_book_size, params.kmeans_n_iters, params.seed),
            progress=progress,
        )
        return Quantizer(rows.dim, backend.get(books), rotation)


@annotate("quantize.pq.encode")
def encode(quantizer: Quantizer, dataset: Any, *, device: str | None = None) -> HostArray:
    """The codes of rows, packed under 8 bits.

    quantizer from `fit`; dataset (n_rows, dim), and device, as `fit` takes them -> codes (n_rows,
    code_bytes) uint8 on the host.
    """
    where = "quantize.pq.encode"
    validate.instance(where, "quantizer", quantizer, Quantizer)
    backend, rows = choose(where, device), _rows.checked(where, dataset, quantizer.dim)
    with backend.active():
        books = backend.put(quantizer.codebooks)
        axes = _axes(backend, quantizer.rotation, quantizer.pq_dim * quantizer.pq_len)

    def run(x: Array) -> Array:
        codes = pq.nearest_entries(backend, axes.of(backend, x), books)
        return packing.pack(backend.xp, codes, quantizer.pq_bits)

    return _rows.each_chunk(backend, rows, run)


@annotate("quantize.pq.decode")
def decode(quantizer: Quantizer, codes: Any) -> HostArray:
    """What codes stand for.

    quantizer from `fit`, codes (n, code_bytes) uint8 -> rows (n, dim) float32 on the host.
    """
    where = "quantize.pq.decode"
    validate.instance(where, "quantizer", quantizer, Quantizer)
    packed = _rows.given_codes(where, codes, quantizer.code_bytes, np.uint8)
    entry = packing.unpack(np, packed, quantizer.pq_dim, quantizer.pq_bits)
    decoded = quantizer.codebooks[np.arange(quantizer.pq_dim), entry].reshape(len(packed), -1)
    return back(decoded, quantizer.rotation, quantizer.dim)


@annotate("quantize.pq.error")
def error(quantizer: Quantizer, dataset: Any, *, device: str | None = None) -> float:
    """Mean squared length of what rows lose by being coded.

    quantizer from `fit`; dataset (n_rows, dim), and device, as `fit` takes them.
    """
    where = "quantize.pq.error"
    validate.instance(where, "quantizer", quantizer, Quantizer)
    rows = _rows.checked(where, dataset, quantizer.dim)

    def coded(x: HostArray) -> HostArray:
        return decode(quantizer, encode(quantizer, x, device=device))

    return _rows.mean_square_error(rows, coded)
