"""assign: nearest centre of every row, for a batch of independent problems.

    label[b, i] = argmin_c |x[b, i] - centers[b, c]|^2        ties: the smaller c

One product gives all scores |c|^2 - 2 x.c of a tile of rows; the best and the second best tell
whether the best is certain. Only where they lie within twice the rounding error are the close
ones rescored canonically, so the labels are exact at the price of one float32 product.

Cost: 2 B N C (D + 1) flop by BLAS plus about 0.2 ns per (row, centre); memory a tile per thread.
"""

from typing import NamedTuple

import numpy as np

from gpuann.backends.numpy_ops import _canonical, _survivors, _threads
from gpuann.backends.numpy_ops._slack import NEVER, rounding
from gpuann.backends.seam import Array

TILE_PAIRS = 1 << 20  # of a tile of scores: 4 MiB
_CENTERS_AT_ONCE = 4096
_MAX_ROWS = 4096


class _Problem(NamedTuple):
    """One of the B problems, its origin moved to the mean of the centres."""

    x: Array  # (N, D) float32
    centers: Array  # (C, D) float32
    shift: Array  # (D,) float32
    table: Array  # (C, D + 1) float32: -2 (c - shift) and |c - shift|^2
    radius: float  # largest |c - shift|


def assign(x: Array, centers: Array) -> tuple[Array, Array]:
    """See `seam.Ops.assign`."""
    n_problems, n, _ = x.shape
    labels = np.empty((n_problems, n), np.int32)
    dists = np.empty((n_problems, n), np.float32)
    problems = [_prepare(x[b], centers[b]) for b in range(n_problems)]
    rows = int(np.clip(TILE_PAIRS // min(centers.shape[1], _CENTERS_AT_ONCE), 64, _MAX_ROWS))
    tiles = [(b, start) for b in range(n_problems) for start in range(0, n, rows)]

    def one(tile: tuple[int, int]) -> None:
        b, start = tile
        part = slice(start, start + rows)
        labels[b, part], dists[b, part] = _nearest(problems[b], problems[b].x[part])

    _threads.run(one, tiles)
    return labels, dists


def _prepare(x: Array, centers: Array) -> _Problem:
    shift = centers.mean(axis=0, dtype=np.float64).astype(np.float32)
    moved = centers - shift
    norms = np.einsum("cd,cd->c", moved, moved, dtype=np.float64)
    table = np.concatenate([-2 * moved, norms[:, None].astype(np.float32)], axis=1)
    table[_repeats(centers), -1] = NEVER  # a copy of an earlier centre cannot win: it ties
    return _Problem(x, centers, shift, table, float(np.sqrt(norms.max())))


def _repeats(centers: Array) -> Array:
    """Which centres equal an earlier one, bit for bit -> (C,) bool."""
    as_bytes = np.ascontiguousarray(centers).view(f"V{4 * centers.shape[1]}").reshape(-1)
    _, first = np.unique(as_bytes, return_index=True)
    repeats = np.ones(len(centers), bool)
    repeats[first] = False
    return repeats


def _nearest(problem: _Problem, x: Array) -> tuple[Array, Array]:
    """Labels (n,) int32 and canonical distances (n,) float32 of one tile of rows (n, D)."""
    n, dim = x.shape
    moved = _threads.scratch("rows", (n, dim + 1), np.float32)
    np.subtract(x, problem.shift, out=moved[:, :-1])
    moved[:, -1] = 1
    norm = np.sqrt(np.einsum("nd,nd->n", moved[:, :-1], moved[:, :-1]), dtype=np.float64)
    error = rounding(dim, (norm * 1.001 + problem.radius) ** 2)

    label, best, second = _best_two(problem, moved)
    unsure = np.flatnonzero(second <= best + 2 * error)
    if len(unsure):
        ceiling = best[unsure] + 2 * error[unsure]
        label[unsure] = _settle(problem, x[unsure], moved[unsure], ceiling)
    dists = _canonical.chunked(problem.centers, label, x)
    return label.astype(np.int32), dists


def _best_two(problem: _Problem, moved: Array) -> tuple[Array, Array, Array]:
    """Label (n,) int64, its score and the next best score (n,) float32 of rows (n, D + 1)."""
    n, n_centers = len(moved), len(problem.table)
    label = np.zeros(n, np.int64)
    best = np.full(n, np.inf, np.float32)
    second = np.full(n, np.inf, np.float32)
    each = np.arange(n)
    for start in range(0, n_centers, _CENTERS_AT_ONCE):
        block = problem.table[start : start + _CENTERS_AT_ONCE]
        scores = _threads.scratch("scores", (n, len(block)), np.float32)
        np.matmul(moved, block.T, out=scores)
        at = scores.argmin(axis=1)
        lowest = scores[each, at]
        scores[each, at] = np.inf
        runner_up = scores[each, scores.argmin(axis=1)]  # twice as fast as min on short rows
        better = lowest < best
        second = np.where(better, np.minimum(best, runner_up), np.minimum(second, lowest))
        label = np.where(better, at + start, label)
        best = np.where(better, lowest, best)
    return label, best, second


def _settle(problem: _Problem, x: Array, moved: Array, ceiling: Array) -> Array:
    """Exact labels of the few rows (n, D) whose best two scores are too close -> (n,) int64."""
    rows, columns = [], []
    for start in range(0, len(problem.table), _CENTERS_AT_ONCE):
        scores = moved @ problem.table[start : start + _CENTERS_AT_ONCE].T
        row, column = np.nonzero(scores <= ceiling[:, None])
        rows.append(row)
        columns.append(column + start)
    row, column = np.concatenate(rows), np.concatenate(columns)
    dists = _canonical.chunked(problem.centers, column, x, row)
    order = _survivors.best_first(row, dists, column)
    first = order[np.searchsorted(row.take(order), np.arange(len(x)))]
    return column.take(first)
