"""Rows stored whole, in the dtype they came in."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from gpuann.backends import Backend
from gpuann.backends.seam import Array, FlatPayload
from gpuann.codecs import vectors
from gpuann.metric import Metric


class Measured(NamedTuple):
    """Of n rows, what is stored beside them."""

    scale: Array | None
    """(n,) float32 under cosine, see `FlatPayload`; else None."""
    norms: Array
    """(n,) float32, N(v)."""
    reach: Array
    """(n,) float32, at least |v|."""


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

        def one(part: slice) -> Measured:
            payload.vectors[position[part]] = rows[part]
            return self._measured(backend, rows[part])

        parts = backend.over_rows(one, *rows.shape)
        scale, norms, reach = vectors.joined(backend.xp, parts)
        if payload.scale is not None:
            payload.scale[position] = scale
        return norms, reach

    def measure(self, backend: Backend, rows: Array) -> Measured:
        """What the scan needs beside rows (n, dim) of any stored dtype."""
        parts = backend.over_rows(lambda part: self._measured(backend, rows[part]), *rows.shape)
        return Measured(*vectors.joined(backend.xp, parts))

    def _measured(self, backend: Backend, rows: Array) -> Measured:
        xp = backend.xp
        x, scale = rows.astype(xp.float32, copy=False), None
        if self.metric == "cosine":
            scale = vectors.cosine_scale(xp, rows)
            x = x * scale[:, None]
        norms = vectors.square_norms(xp, vectors.moved(x, self.shift))
        reach = vectors.lengths_of(xp, norms)
        if self.metric == "inner_product":
            return Measured(scale, xp.zeros_like(reach), reach)
        if scale is not None:  # a zero row counts as a unit vector orthogonal to all
            norms += scale == 0
            reach += scale == 0
        return Measured(scale, norms.astype(xp.float32), reach)
