"""Rows stored whole, in the dtype they came in."""

from dataclasses import dataclass
from typing import Any

from gpuann.backends import Backend
from gpuann.backends.seam import Array, FlatPayload
from gpuann.codecs import vectors
from gpuann.metric import Metric


@dataclass(frozen=True, eq=False)
class FlatCodec:
    """Nothing to train: a row is its own code."""

    metric: Metric
    shift: Array | None
    """(dim,) float32 or None, see `vectors.choose_shift`."""

    def allocate(self, backend: Backend, n_rows: int, dim: int, dtype: Any) -> FlatPayload:
        """An empty payload for n_rows rows of the data's own dtype."""
        scale = backend.xp.empty(n_rows, backend.xp.float32) if self.metric == "cosine" else None
        return FlatPayload(backend.xp.empty((n_rows, dim), dtype), scale, self.shift)

    def encode(
        self, backend: Backend, payload: FlatPayload, rows: Array, labels: Array, position: Array
    ) -> tuple[Array, Array]:
        """Store rows (n, dim) at `position` -> norms (n,) float32, reach (n,) float32.

        norms is N(v) and reach at least |v|, as `Lists` has them.
        """
        xp = backend.xp
        payload.vectors[position] = rows
        x = rows.astype(xp.float32, copy=False)
        if payload.scale is not None:
            scale = vectors.cosine_scale(xp, rows)
            payload.scale[position] = scale
            x = x * scale[:, None]
        x = vectors.moved(x, self.shift)
        reach = vectors.lengths(xp, x)
        if self.metric == "inner_product":
            return xp.zeros_like(reach), reach
        norms = vectors.square_norms(xp, x)
        if payload.scale is not None:  # a zero row counts as a unit vector orthogonal to all
            norms += scale == 0
            reach += scale == 0
        return norms.astype(xp.float32), reach
