"""Product quantisation of residuals: Jegou, Douze, Schmid, "Product quantization for nearest
neighbor search", PAMI 2011.

A residual r = x - c_l is cut into pq_dim pieces of pq_len components; each piece is replaced by the
nearest of pq_book_size entries of its codebook. Rows are zero-padded to pq_dim * pq_len.
"""

from dataclasses import dataclass
from typing import Any

from gpuann import kmeans
from gpuann.backends import Backend, packing
from gpuann.backends.seam import Array, PqPayload
from gpuann.codecs import vectors
from gpuann.codecs.axes import Axes
from gpuann.metric import Metric


def default_pq_dim(dim: int) -> int:
    """pq_dim=0 as cuVS chooses: half of dim from 128 up, then down to a multiple of 32, or to a
    power of two where that is less than 32.
    """
    half = dim // 2 if dim >= 128 else dim
    if half >= 32:
        return half // 32 * 32
    return 1 << (half.bit_length() - 1)


def pieces(backend: Backend, x: Array, pq_dim: int) -> Array:
    """Rows (n, pq_dim * pq_len) -> sub-vectors (pq_dim, n, pq_len), C-contiguous."""
    out = backend.xp.empty((pq_dim, len(x), x.shape[1] // pq_dim), x.dtype)
    for at in range(0, len(x), backend.rows_at_once):
        part = x[at : at + backend.rows_at_once]
        out[:, at : at + len(part)] = part.reshape(len(part), pq_dim, -1).transpose(1, 0, 2)
    return out


def nearest_entries(backend: Backend, x: Array, codebooks: Array) -> Array:
    """Codes of rows (n, pq_dim * pq_len) -> (n, pq_dim) uint8."""
    labels, _ = backend.ops.assign(pieces(backend, x, len(codebooks)), codebooks, rescore=False)
    return backend.xp.ascontiguousarray(labels.T.astype(backend.xp.uint8))


def train(
    backend: Backend,
    residuals: Array,
    pq_dim: int,
    pq_book_size: int,
    n_iters: int,
    seed: int,
    *,
    progress: bool,
) -> Array:
    """Codebooks from residuals (n, pq_dim * pq_len) -> (pq_dim, pq_book_size, pq_len) float32.

    All sub-quantisers are trained at once, as a batch of k-means problems.
    """
    x = pieces(backend, residuals, pq_dim)
    start = kmeans.random_rows(x.shape[1], pq_book_size, seed)
    return kmeans.lloyd(
        backend, x, x[:, backend.put(start)], n_iters, progress=progress, name="codebooks"
    ).centers


@dataclass(frozen=True, eq=False)
class PqCodec:
    """Trained codebooks over coarse centres."""

    metric: Metric
    axes: Axes
    centers: Array
    """(n_lists, pq_dim * pq_len) float32, in these axes."""
    codebooks: Array
    """(pq_dim, pq_book_size, pq_len) float32."""

    @property
    def bits(self) -> int:
        """Of a code."""
        return packing.bits_of(self.codebooks.shape[1])

    def allocate(self, backend: Backend, n_rows: int, dim: int, dtype: Any) -> PqPayload:
        """An empty payload for n_rows rows."""
        width = packing.row_bytes(len(self.codebooks), self.bits)
        codes = backend.xp.empty((n_rows, width), backend.xp.uint8)
        return PqPayload(codes, self.codebooks, self.centers)

    def encode(
        self, backend: Backend, payload: PqPayload, rows: Array, labels: Array, position: Array
    ) -> tuple[Array, Array]:
        """Store the codes of rows (n, dim) at `position` -> norms (n,) float32, reach (n,) float32.

        norms is N(v) of the decoded row and reach at least 2 |c_l| + |v|, as `Lists` has them.
        """
        xp, pq_dim = backend.xp, len(self.codebooks)
        center = self.centers[labels]
        x = self.axes.of(backend, vectors.as_float(xp, rows, self.metric))
        codes = nearest_entries(backend, x - center, self.codebooks)
        payload.codes[position] = packing.pack(xp, codes, self.bits)
        decoded = center + self.codebooks[xp.arange(pq_dim), codes].reshape(len(codes), -1)
        norms = vectors.square_norms(xp, decoded)
        reach = 2 * vectors.lengths(xp, center) + vectors.lengths_of(xp, norms)
        if self.metric == "inner_product":
            return xp.zeros_like(reach), reach
        return norms.astype(xp.float32), reach
