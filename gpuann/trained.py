"""What training comes to: the quantisers that every row and query of an index is put through."""

import functools
import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuann.arrays import HostArray
from gpuann.metric import Metric


@dataclass(frozen=True, eq=False)
class TrainedModels:
    """Trained quantisers, on the host: immutable."""

    metric: Metric
    dim: int
    centers: HostArray
    """(n_lists, width) float32, shifted; turned, or zero-padded, to pq_dim * pq_len for PQ."""
    shift: HostArray | None
    """(dim,) float32 or None, see `codecs.vectors.choose_shift`."""
    codebooks: HostArray | None
    """(pq_dim, pq_book_size, pq_len) float32, or None where rows are stored whole."""
    bounds: HostArray | None = None
    """(2, dim) float32, smallest and largest value of each component of the training rows; None
    where nothing asked for them."""
    scalar: HostArray | None = None
    """(2, dim) float32, step and middle of a scalar quantiser, see `codecs.sq`; else None."""
    by_residual: bool = True
    """Whether the scalar quantiser codes residuals, or the rows themselves."""

    rotation: HostArray | None = None
    """(width, dim) float32, see `codecs.axes`; None: rows are not turned."""

    @functools.cached_property
    def fingerprint(self) -> str:
        """32 hexadecimal digits of what decides lists and codes (all but the bounds): equal for
        equal models, on any machine.
        """
        parts: tuple[Any, ...] = self.metric, self.dim, self.centers, self.shift, self.codebooks
        if self.scalar is not None:
            parts += (self.scalar, self.by_residual)
        if self.rotation is not None:
            parts += (self.rotation,)
        return fingerprint(*parts)

    @property
    def n_lists(self) -> int:
        """Number of inverted lists."""
        return len(self.centers)


def fingerprint(*parts: Any) -> str:
    """32 hexadecimal digits (BLAKE2b) of host arrays, numbers, texts and None, in this order."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str}{part.shape};".encode())
            digest.update(np.ascontiguousarray(part).data)
        else:
            digest.update(f"{type(part).__name__}:{part};".encode())
    return digest.hexdigest()
