"""How far a scan score can lie from the canonical distance: the width of every filter.

A float32 sum of n products in any order, fused or not, errs by at most n u sum |a_i b_i| with
u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, 3.1), and the sum of the
|a_i b_i| is at most |a| |b|. With C = |c_l| and V = |c_l + r(v)|, so |r| <= C + V, that is at most
(|q| + C)^2 for the term A(q, l) and 2 |q| (C + V) + V^2 for N - 2 q.r; together no more than
(|q| + R)^2 with R = 2 C + V, the `radius` of `Lists`; for inner product 2 |q| R. Rounding the
terms, the norm, the shifted rows and the canonical distance itself adds a few more u; `_MARGIN`
counts them generously.
"""

import numpy as np

from gpuann.backends.seam import Array, Lists
from gpuann.metric import ScanMetric

_UNIT = 2.0**-24
_MARGIN = 16
# The norm of rows that must not be found: finite, since inf would meet the zeros that BLAS pads
# tiles with, and beyond every score (components are at most 2^50, see `validate`).
NEVER = np.float32(2.0**126)
_HIGHEST = np.float32(2.0**125)  # a ceiling that lets every row pass but those

_TINY = 2.0**-126  # below this products lose bits to underflow, by less than this each


def slack(squares: Array, dim: int, lists: Lists, probes: Array, metric: ScanMetric) -> Array:
    """Bound of |scan score - canonical distance| per query -> (Q,) float64.

    squares (Q,) float32: |q|^2 of the queries as scanned (shifted), to rounding; probes (Q, P).
    """
    # at least |q|: what float32 sums lose to rounding, and to underflow below 2^-63
    norm = np.sqrt(squares.astype(np.float64) * (1 + 2 * dim * _UNIT) + dim * 2.0**-126)
    radius = lists.radius.take(probes).max(axis=1, initial=0).astype(np.float64)
    size = 2 * norm * radius if metric == "inner_product" else (norm + radius) ** 2
    return rounding(dim, size)


def rounding(dim: int, size: Array) -> Array:
    """Error of a score over `dim` components whose products sum to at most `size`, in modulus."""
    return (dim + _MARGIN) * (_UNIT * size + _TINY)


def round_up(x: Array) -> Array:
    """float64 -> the next float32 at or above it, but always below NEVER."""
    return np.nextafter(np.minimum(x, _HIGHEST).astype(np.float32), NEVER)
