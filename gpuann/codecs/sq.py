"""Scalar quantisation: a byte a component, in steps of the component's own size.

    code = round((r - middle) / step), held to -128 .. 127        r(v) = middle + step * code

r is the row, or its residual to the list's centre, whose bounds are tighter.
Source: IndexIVFScalarQuantizer of FAISS (QT_8bit); there codes are 128 more.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gpuann.arrays import HostArray
from gpuann.backends import Backend
from gpuann.backends.seam import Array, SqPayload
from gpuann.codecs import vectors
from gpuann.codecs.axes import Axes
from gpuann.metric import Metric

_LOWEST, _HIGHEST = -128, 127


class Steps(NamedTuple):
    """How components become codes."""

    step: Array
    """(dim,) float32; 0 where all rows have the same value."""
    middle: Array
    """(dim,) float32, what code 0 stands for."""


def steps_of(bounds: HostArray) -> Steps:
    """From the smallest and the largest value of each component, (2, dim) float32 on the host."""
    low, high = bounds.astype(np.float64)
    step = ((high - low) / (_HIGHEST - _LOWEST)).astype(np.float32)
    return Steps(step, (low - _LOWEST * step.astype(np.float64)).astype(np.float32))


def encode(xp: Any, x: Array, steps: Steps) -> Array:
    """Values (n, dim) float32 -> codes (n, dim) int8; those beyond the bounds get the nearest."""
    code = x - steps.middle
    code /= xp.where(steps.step > 0, steps.step, xp.ones_like(steps.step))
    xp.rint(code, out=code)
    return xp.clip(code, _LOWEST, _HIGHEST).astype(xp.int8)


def decode(xp: Any, codes: Array, steps: Steps) -> Array:
    """Codes (n, dim) int8 -> values (n, dim) float32, every operation rounded."""
    x = codes.astype(xp.float32)
    x *= steps.step
    x += steps.middle
    return x


@dataclass(frozen=True, eq=False)
class SqCodec:
    """Trained steps over coarse centres."""

    metric: Metric
    axes: Axes
    centers: Array | None
    """(n_lists, dim) float32, in these axes: residuals to them are coded; None: rows are."""
    steps: Steps

    def allocate(self, backend: Backend, n_rows: int, dim: int, dtype: Any) -> SqPayload:
        """An empty payload for n_rows rows."""
        codes = backend.xp.empty((n_rows, dim), backend.xp.int8)
        return SqPayload(codes, *self.steps, self.centers)

    def encode(
        self, backend: Backend, payload: SqPayload, rows: Array, labels: Array, position: Array
    ) -> tuple[Array, Array]:
        """Store the codes of rows (n, dim) at `position` -> norms (n,) float32, reach (n,) float32.

        norms is N(v) of the decoded row and reach at least 2 |c_l| + |v|, as `Lists` has them.
        """
        xp = backend.xp
        of_center = None if self.centers is None else vectors.lengths(xp, self.centers)

        def one(part: slice) -> tuple[Array, Array]:
            x = self.axes.of(backend, vectors.as_float(xp, rows[part], self.metric))
            center = None if self.centers is None else self.centers[labels[part]]
            codes = encode(xp, x if center is None else x - center, self.steps)
            payload.codes[position[part]] = codes
            decoded = decode(xp, codes, self.steps)
            if center is not None:
                decoded += center
            norms = vectors.square_norms(xp, decoded)
            reach = vectors.lengths_of(xp, norms)
            if of_center is not None:
                reach += 2 * of_center[labels[part]]
            if self.metric == "inner_product":
                return xp.zeros_like(reach), reach
            return norms.astype(xp.float32), reach

        norms, reach = vectors.joined(xp, backend.over_rows(one, *rows.shape))
        return norms, reach
