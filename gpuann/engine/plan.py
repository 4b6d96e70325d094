"""What runs at once and on which path: batches within the workspace, tables or lists."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

_TILES = 64 << 20  # of tiles, or of scores that are kept, whatever the batch
# pairs: their list, order, place and term, their copies while sorting, and what the coarse step,
# whose results they are, holds for each
_PER_PROBE = 128
_PER_COMPONENT = 16  # the query in float32, moved and scaled, and a spare


class Held(NamedTuple):
    """Bytes that a backend's scans hold beside what every search holds."""

    per_query: int
    per_result: int
    """For each of the k results of a query."""


def query_batches(
    n_queries: int, n_probes: int, dim: int, k: int, workspace_limit: int, held: Held
) -> Iterator[slice]:
    """Cut a search into batches that fit workspace_limit bytes beside the result."""
    each = held.per_query + held.per_result * k + _PER_PROBE * n_probes + _PER_COMPONENT * dim
    step = max(1, (workspace_limit - _TILES) // each)
    for start in range(0, n_queries, step):
        yield slice(start, min(start + step, n_queries))


def table_batches(n_queries: int, entries: int, workspace_limit: int) -> Iterator[slice]:
    """Cut a batch so that its tables, `entries` float32 a query, take half the workspace."""
    step = max(1, workspace_limit // 2 // (4 * entries))
    for start in range(0, n_queries, step):
        yield slice(start, min(start + step, n_queries))


def by_table(n_pairs: int, n_lists: int, lut_pairs_per_list: float) -> bool:
    """Whether PQ codes are better scanned query by query with look-up tables.

    Below the backend's mean number of queries a list, decoding a list is not repaid by its
    queries.
    """
    return n_pairs < lut_pairs_per_list * n_lists


def cut_evenly(n: int, n_parts: int) -> list[slice]:
    """[0, n) in n_parts pieces of about equal size."""
    ends = np.linspace(0, n, n_parts + 1).astype(np.int64).tolist()
    return [slice(start, stop) for start, stop in itertools.pairwise(ends)]
