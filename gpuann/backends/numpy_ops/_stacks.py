"""Tiles of about one shape side by side, so that one call of an array function serves them all.

A thread that comes back from such a call waits for the interpreter lock, and while it waits it
sleeps: short products, called one by one, are no faster on two threads than on one. So small tiles
are stacked, and padded to the largest of the stack; large ones stay alone, and their rows are read
where they are.
"""

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


class Tile(NamedTuple):
    """Storage rows [start, stop), all of list `list`, times the queries of pairs [begin, end)."""

    list: int
    start: int
    stop: int
    begin: int
    end: int
    is_part: bool
    """Other tiles have other rows of the list for these pairs: such a tile stays alone."""

    @property
    def n_rows(self) -> int:
        return self.stop - self.start

    @property
    def n_pairs(self) -> int:
        return self.end - self.begin


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


def stack(tiles: list[Tile], multiple: int) -> Stack:
    """Tiles side by side; n_rows becomes a multiple of `multiple`."""
    of_list, start, stop, begin, end, _ = np.array(tiles, np.int64).T
    n_pairs, n_rows = int((end - begin).max()), int((stop - start).max())
    pairs = begin[:, None] + np.arange(n_pairs)
    is_pair = pairs < end[:, None]
    np.minimum(pairs, end[:, None] - 1, out=pairs)
    n_rows = -(-n_rows // multiple) * multiple
    return Stack(of_list, start, stop, n_pairs, n_rows, pairs.reshape(-1), is_pair.reshape(-1))


def stacks(batch: Batch, tiles: list[Tile], multiple: int = 1) -> list[Stack]:
    """All tiles, large ones first, in their order."""
    width = batch.scaled.shape[1]
    alone: list[Tile] = []
    small: list[Tile] = []
    for tile in tiles:
        is_large = tile.n_rows * tile.n_pairs * width >= ALONE
        (alone if is_large or tile.is_part else small).append(tile)
    small.sort(key=lambda tile: (tile.n_rows // _ALIKE, tile.n_pairs), reverse=True)
    groups = [[tile] for tile in alone]
    group: list[Tile] = []
    rows = pairs = wanted = 0
    for tile in small:
        rows, pairs = max(rows, tile.n_rows), max(pairs, tile.n_pairs)
        wanted += tile.n_rows * tile.n_pairs
        padded, n = (len(group) + 1) * rows * pairs, len(group) + 1
        too_large = padded * width > WORK or n * max(rows, pairs) * width > FLOATS
        if group and (too_large or padded > min(FLOATS, PADDING * wanted)):
            groups.append(group)
            group = []
            rows, pairs, wanted = tile.n_rows, tile.n_pairs, tile.n_rows * tile.n_pairs
        group.append(tile)
    if group:
        groups.append(group)
    return [stack(group, multiple) for group in groups]


def cut(batch: Batch, l: int, rows: range, pairs: range) -> list[Tile]:
    """Rows of one list with some of its pairs, in tiles of about equal size."""
    most = TILE_FLOATS // batch.scaled.shape[1]
    # a multiple of 8 rows, so that the groups of pass 1 do not cross tiles
    n_rows = -(-_even(len(rows), max(64, min(_TILE_ROWS, most))) // 8) * 8
    n_pairs = _even(len(pairs), max(64, min(TILE_SCORES // n_rows, most)))
    is_part = n_rows < len(rows)
    return [
        Tile(l, row, min(row + n_rows, rows.stop), pair, min(pair + n_pairs, pairs.stop), is_part)
        for row in range(rows.start, rows.stop, n_rows)
        for pair in range(pairs.start, pairs.stop, n_pairs)
    ]


def _even(n: int, most: int) -> int:
    """Size of the pieces when n is cut into as few about equal ones of at most `most`."""
    return -(-n // -(-n // most))


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
