"""Tiles of about one shape side by side, so that one call of an array function serves them all.

A thread that comes back from such a call waits for the interpreter lock, and while it waits it
sleeps: short products, called one by one, are no faster on two threads than on one. So small tiles
are stacked, and padded to the largest of the stack; large ones stay alone, and their rows are read
where they are.
"""

import itertools
from typing import NamedTuple

import numpy as np

from gpuann.backends.numpy_ops import _batch, _filter, _slack, _threads, _tiles
from gpuann.backends.numpy_ops._batch import Batch
from gpuann.backends.seam import Array

ALONE = 1 << 24  # multiply-adds from which a tile is not stacked
WORK = 1 << 25  # of a stack, at most ...
FLOATS = 1 << 20  # ... and of its rows, queries, or scores: 4 MiB
PADDING = 1.25  # padded scores over those asked for, at most
TILE_FLOATS = 1 << 21  # of a tile of rows, or of queries: 8 MiB
TILE_SCORES = 1 << 21  # of a tile: 8 MiB
_TILE_ROWS = 2048
_ALIKE = 16  # rows by which tiles of a stack may differ before their pairs are looked at


class Tiles(NamedTuple):
    """n tiles: storage rows [start, stop), all of list `list`, times the queries of pairs
    [begin, end).
    """

    list: Array
    """(n,) int64, and so are the others but the last."""
    start: Array
    stop: Array
    begin: Array
    end: Array
    is_part: Array
    """(n,) bool: other tiles have other rows of the list for these pairs. They stay alone."""

    def take(self, which: Array | slice) -> "Tiles":
        """Some of them."""
        return Tiles(*(column[which] for column in self))


class Stack(NamedTuple):
    """g tiles, padded to n_pairs x n_rows."""

    list: Array
    """(g,) int64, and so are the others."""
    start: Array
    stop: Array
    n_pairs: int
    n_rows: int
    pairs: Array
    """(g * n_pairs,) int64; what is padding repeats a tile's last one ..."""
    is_pair: Array
    """(g * n_pairs,) bool: ... and is False here."""


def stack(tiles: Tiles, multiple: int) -> Stack:
    """Tiles side by side; n_rows becomes a multiple of `multiple`."""
    end = tiles.end[:, None]
    n_pairs, n_rows = int((tiles.end - tiles.begin).max()), int((tiles.stop - tiles.start).max())
    pairs = tiles.begin[:, None] + np.arange(n_pairs)
    is_pair = pairs < end
    np.minimum(pairs, end - 1, out=pairs)
    n_rows = -(-n_rows // multiple) * multiple
    side_by_side = tiles.list, tiles.start, tiles.stop
    return Stack(*side_by_side, n_pairs, n_rows, pairs.reshape(-1), is_pair.reshape(-1))


def stacks(batch: Batch, tiles: Tiles, multiple: int = 1) -> list[Stack]:
    """All tiles, large ones first, in their order."""
    width = batch.scaled.shape[1]
    n_rows, n_pairs = tiles.stop - tiles.start, tiles.end - tiles.begin
    is_alone = tiles.is_part | (n_rows * n_pairs * width >= ALONE)
    alone, small = np.flatnonzero(is_alone), np.flatnonzero(~is_alone)
    small = small[np.lexsort((-n_pairs[small], -(n_rows[small] // _ALIKE)))]
    ordered = tiles.take(small)
    cuts = _cuts(n_rows[small].tolist(), n_pairs[small].tolist(), width)
    groups = [ordered.take(slice(*cut)) for cut in itertools.pairwise(cuts)]
    return [stack(group, multiple) for group in [*map(tiles.take, alone[:, None]), *groups]]


def _cuts(n_rows: list[int], n_pairs: list[int], width: int) -> list[int]:
    """Where stacks of such tiles begin, and where the last one ends."""
    cuts = [0]
    rows = pairs = wanted = 0
    for i, (r, p) in enumerate(zip(n_rows, n_pairs, strict=True)):
        rows, pairs, n = max(rows, r), max(pairs, p), i + 1 - cuts[-1]
        wanted += r * p
        padded = n * rows * pairs
        too_large = padded * width > WORK or n * max(rows, pairs) * width > FLOATS
        if n > 1 and (too_large or padded > min(FLOATS, PADDING * wanted)):
            cuts.append(i)
            rows, pairs, wanted = r, p, r * p
    return [*cuts, len(n_rows)] if n_rows else cuts


def cut(batch: Batch, whole: Tiles) -> Tiles:
    """Rows of each list times its pairs, as tiles of about equal size."""
    most = TILE_FLOATS // batch.scaled.shape[1]
    n_rows, n_pairs = whole.stop - whole.start, whole.end - whole.begin
    # a multiple of 8 rows, so that the groups of pass 1 do not cross tiles
    rows = -(-_even(n_rows, max(64, min(_TILE_ROWS, most))) // 8) * 8
    pairs = _even(n_pairs, np.maximum(64, np.minimum(TILE_SCORES // rows, most)))
    across = -(-n_pairs // pairs)
    count = -(-n_rows // rows) * across
    of = np.repeat(np.arange(len(count)), count)
    number = np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count)
    row, pair = np.divmod(number, across[of])
    tiles, rows, pairs = whole.take(of), rows[of], pairs[of]
    start, begin = tiles.start + row * rows, tiles.begin + pair * pairs
    stop, end = np.minimum(start + rows, tiles.stop), np.minimum(begin + pairs, tiles.end)
    return Tiles(tiles.list, start, stop, begin, end, rows < tiles.stop - tiles.start)


def _even(n: Array, most: Array | int) -> Array:
    """Size of the pieces when each of n is cut into as few about equal ones of at most `most`."""
    even: Array = -(-n // -(-n // most))
    return even


def multiply(batch: Batch, stack: Stack, query: Array) -> Array:
    """N - q.r of all tiles -> (g * n_pairs, n_rows) float32, scratch, C- or F-contiguous.

    query (g * n_pairs,) int64. Columns of padding and rows that the filter drops are about NEVER;
    rows of padding repeat another.
    """
    n, n_rows = len(stack.list), stack.n_rows
    if n == 1:
        return _batch.multiply(batch, int(stack.start[0]), int(stack.stop[0]), query, n_rows)
    index = stack.start[:, None] + np.arange(n_rows)
    beyond = index >= stack.stop[:, None]
    np.minimum(index, stack.stop[:, None] - 1, out=index)
    rows = _tiles.rows(batch.payload, index.reshape(-1)).reshape(n, n_rows, -1)
    width = batch.scaled.shape[1]
    queries = _threads.scratch("queries", (len(query), width), np.float32)
    batch.scaled.take(query, axis=0, out=queries, mode="clip")
    queries = queries.reshape(n, stack.n_pairs, width)[:, :, :-1]
    scores = _threads.scratch("scores", (n, stack.n_pairs, n_rows), np.float32)
    np.matmul(queries, rows.transpose(0, 2, 1), out=scores)
    norms = batch.lists.norms.take(index)
    norms[beyond] = _slack.NEVER
    if batch.keep is not None and batch.keep.ndim == 1:
        norms[~batch.allowed(batch.keep, index)] = _slack.NEVER
    scores += norms[:, None]
    if batch.keep is not None and batch.keep.ndim == 2:
        ids = batch.lists.ids.take(index)[:, None]
        kept = _filter.allowed_pairs(batch.keep, query.reshape(n, -1, 1), ids)
        scores[~kept] = _slack.NEVER
    return scores.reshape(-1, n_rows)
