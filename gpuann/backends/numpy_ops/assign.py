"""assign: nearest centre of every row, for a batch of independent problems.

    label[b, i] = argmin_c |x[b, i] - centers[b, c]|^2        ties: the smaller c

One product gives all scores |c|^2 - 2 x.c of a tile of rows. The best and the second best tell
whether rounding could have swapped them; only then the close centres are rescored canonically. So
labels are exact at the price of one float32 product.

Rounding moves a score by at most g (|x| + |c|)^2 <= 2 g (|x|^2 + |c|^2), with g of
`_slack.rounding`. The part of c is taken off its score beforehand: what the product gives is then a
lower bound of every centre, but for 2 g |x|^2, and only centres whose lower bound lies under the
best one's upper bound are close. A far centre cannot make near ones uncertain.

Cost: 2 B N C (D + 1) flop by BLAS plus about 0.15 ns per (row, centre) and 100 ns per row; memory a
tile per thread.
"""

from typing import NamedTuple

import numpy as np

from gpuann._nvtx import annotate
from gpuann.backends.numpy_ops import _canonical, _survivors, _threads
from gpuann.backends.numpy_ops._slack import NEVER, rounding
from gpuann.backends.seam import Array

TILE_PAIRS = 1 << 19  # scores of one product: 2 MiB, or 64 rows
_MAX_ROWS = 16384  # rows that one thread takes at a time
_CENTERS_AT_ONCE = 4096


class _Problem(NamedTuple):
    """One of the B problems, its origin moved to the median of the centres."""

    x: Array  # (N, D) float32
    centers: Array  # (C, D) float32
    shift: Array  # (D,) float32
    table: Array  # (D + 1, C) float32: -2 (c - shift), and |c - shift|^2 less its rounding error
    error: Array  # (C,) float32, 4 g |c - shift|^2: from the lower to the upper bound


@annotate("assign")
def assign(x: Array, centers: Array, rescore: bool = True) -> tuple[Array, Array]:
    """See `seam.Ops.assign`."""
    n_problems, n, dim = x.shape
    labels = np.empty((n_problems, n), np.int32)
    dists = np.empty((n_problems, n), np.float32)
    problems = [_prepare(x[b], centers[b]) for b in range(n_problems)]
    rows = _rows_of_a_tile(n, dim)
    tiles = [(b, start) for b in range(n_problems) for start in range(0, n, rows)]

    def one(tile: tuple[int, int]) -> None:
        b, start = tile
        part = slice(start, start + rows)
        labels[b, part], dists[b, part] = _nearest(problems[b], problems[b].x[part], rescore)

    _threads.run(one, tiles)
    return labels, dists


def _rows_of_a_tile(n: int, dim: int) -> int:
    """So that the threads get the same number of tiles, of about the same size."""
    a_thread = max(1, -(-n // _threads.get_num_threads()))
    most = max(64, min(_MAX_ROWS, TILE_PAIRS // dim))
    return max(64, -(-a_thread // -(-a_thread // most)))


def _prepare(x: Array, centers: Array) -> _Problem:
    middle = len(centers) // 2  # a median: unlike the mean it stays where most centres are
    shift = np.partition(centers, middle, axis=0)[middle]
    moved = centers - shift
    norms = np.einsum("cd,cd->c", moved, moved, dtype=np.float64)
    error = 2 * rounding(centers.shape[1], norms)
    table = np.empty((centers.shape[1] + 1, len(centers)), np.float32)
    np.multiply(moved.T, -2, out=table[:-1])
    table[-1] = norms - error
    table[-1, _repeats(centers)] = NEVER  # a copy of an earlier centre cannot win: it ties
    return _Problem(x, centers, shift, table, (2 * error).astype(np.float32))


def _repeats(centers: Array) -> Array:
    """Which centres equal an earlier one, bit for bit -> (C,) bool."""
    centers = np.ascontiguousarray(centers)
    sums = centers.view(np.uint32).sum(axis=1, dtype=np.uint64)  # the same of a copy
    if len(np.unique(sums)) == len(sums):  # soon seen, and all but always so
        return np.zeros(len(centers), bool)
    as_bytes = centers.view(f"V{4 * centers.shape[1]}").reshape(-1)
    _, first = np.unique(as_bytes, return_index=True)
    repeats = np.ones(len(centers), bool)
    repeats[first] = False
    return repeats


def _nearest(problem: _Problem, x: Array, rescore: bool) -> tuple[Array, Array]:
    """Labels (n,) int64 and distances (n,) float32, canonical if asked for, of rows (n, D)."""
    n, dim = x.shape
    moved = _threads.scratch("rows", (n, dim + 1), np.float32)
    np.subtract(x, problem.shift, out=moved[:, :-1])
    moved[:, -1] = 1
    label, best, second = _best_two(problem, moved)
    # from the lower bound of the best to its upper bound, and the part of x for both
    square = _square_norms(moved[:, :-1])
    error = problem.error.take(label)
    ceiling = best + error + 4 * rounding(dim, square)
    unsure = np.flatnonzero(second <= ceiling)
    if len(unsure):
        step = max(1, TILE_PAIRS // problem.table.shape[1])
        for at in range(0, len(unsure), step):
            few = unsure[at : at + step]
            label[few] = _settle(problem, x[few], moved[few], ceiling[few])
    if not rescore:
        return label, np.maximum(best + error / 2 + square, 0)
    return label, _canonical.chunked(problem.centers, label, x)


def _square_norms(x: Array) -> Array:
    """|x|^2 of rows (n, D) float32 -> (n,) float32, to rounding."""
    if x.shape[1] > 16:
        return np.vecdot(x, x)
    square = x[:, 0] * x[:, 0]
    for d in range(1, x.shape[1]):  # on short rows a loop over columns beats one over rows
        square += x[:, d] * x[:, d]
    return square


def _best_two(problem: _Problem, moved: Array) -> tuple[Array, Array, Array]:
    """Label (n,) int64, its score and the next best score (n,) float32 of rows (n, D + 1)."""
    n, n_centers = len(moved), problem.table.shape[1]
    label = np.empty(n, np.int64)
    best, second = np.empty(n, np.float32), np.empty(n, np.float32)
    step = max(64, TILE_PAIRS // min(n_centers, _CENTERS_AT_ONCE))
    for at in range(0, n, step):
        part = slice(at, at + step)
        found = _best_two_of(problem, moved[part], 0)
        for first in range(_CENTERS_AT_ONCE, n_centers, _CENTERS_AT_ONCE):
            found = _merge(found, _best_two_of(problem, moved[part], first))
        label[part], best[part], second[part] = found
    return label, best, second


def _best_two_of(problem: _Problem, moved: Array, first: int) -> tuple[Array, Array, Array]:
    """As `_best_two`, among the centres from `first` on."""
    block = problem.table[:, first : first + _CENTERS_AT_ONCE]
    width = block.shape[1]
    scores = _threads.scratch("scores", (len(moved), width), np.float32)
    np.matmul(moved, block, out=scores)
    flat, starts = scores.reshape(-1), np.arange(0, scores.size, width)
    # argmin twice: on rows of a few hundred, min along them or a mask and its nonzeros take longer
    label = scores.argmin(axis=1)
    at = starts + label
    best = flat.take(at)
    flat[at] = np.inf
    at = scores.argmin(axis=1)
    return label + first, best, flat.take(at + starts)


def _merge(
    a: tuple[Array, Array, Array], b: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    """The best two of both; equal scores stay with a, whose centres are the smaller."""
    better = b[1] < a[1]
    second = np.where(better, np.minimum(a[1], b[2]), np.minimum(a[2], b[1]))
    return np.where(better, b[0], a[0]), np.where(better, b[1], a[1]), second


def _settle(problem: _Problem, x: Array, moved: Array, ceiling: Array) -> Array:
    """Exact labels of the few rows (n, D) whose best two scores are too close -> (n,) int64."""
    rows, columns = [], []
    for start in range(0, problem.table.shape[1], _CENTERS_AT_ONCE):
        scores = moved @ problem.table[:, start : start + _CENTERS_AT_ONCE]
        row, column = np.nonzero(scores <= ceiling[:, None])
        rows.append(row)
        columns.append(column + start)
    row, column = np.concatenate(rows), np.concatenate(columns)
    dists = _canonical.chunked(problem.centers, column, x, row)
    order = _survivors.best_first(row, dists, column)
    first = order[np.searchsorted(row.take(order), np.arange(len(x)))]
    return column.take(first)
