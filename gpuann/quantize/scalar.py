"""A scalar quantiser: a byte a component. See `codecs.sq` for what a code stands for."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuann import training, validate
from gpuann._nvtx import annotate
from gpuann.arrays import HostArray
from gpuann.backends import choose
from gpuann.codecs import sq
from gpuann.params import keep_integer
from gpuann.quantize import _rows


@dataclass(frozen=True, kw_only=True)
class QuantizerParams:
    """How to fit.

    Parameters
    ----------
    quantile : float, default 1.0
        Share of a component's values, the middle ones, that its bounds hold; values beyond get the
        nearest code.
    max_train_points : int, default 1048576
        Rows that are looked at, at most, drawn evenly.
    seed : int, default 0
    """

    quantile: float = 1.0
    max_train_points: int = 1 << 20
    seed: int = 0

    def __post_init__(self) -> None:
        where = "quantize.scalar.QuantizerParams"
        share = validate.share(where, "quantile", self.quantile, zero=False)
        object.__setattr__(self, "quantile", share)
        keep_integer(self, where, "max_train_points", 1)
        keep_integer(self, where, "seed", 0)


@dataclass(frozen=True, eq=False)
class Quantizer:
    """Fitted: immutable, on the host."""

    step: HostArray
    """(dim,) float32; 0 where all rows have the same value."""
    middle: HostArray
    """(dim,) float32, what code 0 stands for: v = middle + step * code."""

    @property
    def dim(self) -> int:
        """Components of a row."""
        return len(self.step)

    def __repr__(self) -> str:
        return f"quantize.scalar.Quantizer(dim {self.dim}, int8)"


@annotate("quantize.scalar.fit")
def fit(params: QuantizerParams, dataset: Any, *, bounds: Any = None) -> Quantizer:
    """Learn the bounds of every component.

    Parameters
    ----------
    params : QuantizerParams
    dataset : array (n_rows, dim), float32, float16, int8 or uint8, host or device; or chunks of
        such rows
    bounds : array (2, dim), optional; smallest and largest values, instead of the data's
    """
    where = "quantize.scalar.fit"
    validate.instance(where, "params", params, QuantizerParams)
    rows = _rows.checked(where, dataset)
    if bounds is not None:
        found = training.checked_bounds(where, bounds, rows.dim)
    else:
        x = _rows.sample(rows, params.max_train_points, params.seed)
        beyond = (1 - params.quantile) / 2
        found = np.quantile(x, [beyond, 1 - beyond], axis=0).astype(np.float32)
    return Quantizer(*sq.steps_of(found))


@annotate("quantize.scalar.encode")
def encode(quantizer: Quantizer, dataset: Any, *, device: str | None = None) -> HostArray:
    """The codes of rows.

    quantizer from `fit`; dataset (n_rows, dim) as `fit` takes it -> codes (n_rows, dim) int8 on the
    host.
    """
    where = "quantize.scalar.encode"
    validate.instance(where, "quantizer", quantizer, Quantizer)
    backend, rows = choose(where, device), _rows.checked(where, dataset, quantizer.dim)
    with backend.active():
        steps = sq.Steps(backend.put(quantizer.step), backend.put(quantizer.middle))
    return _rows.each_chunk(backend, rows, lambda x: sq.encode(backend.xp, x, steps))


@annotate("quantize.scalar.decode")
def decode(quantizer: Quantizer, codes: Any) -> HostArray:
    """What codes stand for.

    quantizer from `fit`, codes (n, dim) int8 -> rows (n, dim) float32 on the host.
    """
    where = "quantize.scalar.decode"
    validate.instance(where, "quantizer", quantizer, Quantizer)
    array = _rows.given_codes(where, codes, quantizer.dim, np.int8)
    return sq.decode(np, array, sq.Steps(quantizer.step, quantizer.middle))


@annotate("quantize.scalar.error")
def error(quantizer: Quantizer, dataset: Any, *, device: str | None = None) -> float:
    """Mean squared length of what rows lose by being coded.

    quantizer from `fit`; dataset (n_rows, dim) as `fit` takes it.
    """
    where = "quantize.scalar.error"
    validate.instance(where, "quantizer", quantizer, Quantizer)
    rows = _rows.checked(where, dataset, quantizer.dim)

    def coded(x: HostArray) -> HostArray:
        return decode(quantizer, encode(quantizer, x, device=device))

    return _rows.mean_square_error(rows, coded)
