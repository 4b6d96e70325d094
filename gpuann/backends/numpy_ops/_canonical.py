"""The canonical distance (see `seam`): one value for a row and a query, however they met.

Everything here is elementwise NumPy in float64, in an order that is written down, so that the
bits are the same on every machine and a GPU can give them too.
"""

import numpy as np

from gpuann.backends.numpy_ops import _threads
from gpuann.backends.numpy_ops._tiles import decode, pick
from gpuann.backends.seam import Array, Payload
from gpuann.metric import ScanMetric

# differences of one chunk: 2 MiB of float64. More than L2, but in short calls threads wait for each
# other
_CHUNK_FLOATS = 1 << 18


def ordered_sum(x: Array) -> Array:
    """Sum each row of x (n, D) float64 in the canonical order -> (n,) float64.

    Up to 128 numbers: eight running sums take every eighth number, are added as
    ((0+1)+(2+3)) + ((4+5)+(6+7)), and what is beyond the last multiple of eight follows one by one
    (fewer than eight: one by one). More: the sum of two halves, the first of D / 2 numbers less
    D / 2 mod 8. This is NumPy's own pairwise reduction; a test holds it to the letter, so another
    NumPy cannot change it unseen.
    """
    return np.add.reduce(x, axis=1)


def distances(rows: Array, queries: Array, metric: ScanMetric) -> Array:
    """Canonical distance of rows[i] to queries[i] -> (n,) float64.

    rows (n, D) float32 or a stored dtype that float32 holds exactly, queries (n, D) float32.
    """
    a = _threads.scratch("differences", rows.shape, np.float64)
    a[:] = rows
    if metric == "inner_product":
        np.multiply(a, queries, out=a)
        return -ordered_sum(a)
    np.subtract(a, queries, out=a)
    np.multiply(a, a, out=a)
    return ordered_sum(a)


def score(
    payload: Payload,
    queries: Array,
    metric: ScanMetric,
    query_of: Array,
    position: Array,
    list_of: Array,
) -> Array:
    """Canonical float32 distance of n (query, storage row) pairs -> (n,) float32.

    queries (Q, D) float32; query_of, position, list_of (n,) integers: which query, which storage
    row, and the list that the row lies in.
    """
    n, dim = len(position), queries.shape[1]
    out = np.empty(n, np.float32)
    step = max(1, _CHUNK_FLOATS // dim)
    for start in range(0, n, step):
        part = slice(start, start + step)
        rows, zero = decode(payload, position[part], list_of[part])
        found = distances(rows, pick(queries, query_of[part], "asked"), metric)
        if zero is not None:
            # a zero row has no direction: it counts as a unit vector orthogonal to every query
            found += zero
        out[part] = found
    out += np.float32(0)  # -0.0 and 0.0 are one distance
    return out


def chunked(table: Array, row: Array, queries: Array, query_of: Array | None = None) -> Array:
    """Canonical squared L2 of table[row[i]] to queries[query_of[i]] -> (n,) float32.

    table (C, D) and queries (Q, D) float32; query_of None pairs row i with query i.
    """
    n, dim = len(row), table.shape[1]
    out = np.empty(n, np.float32)
    step = max(1, _CHUNK_FLOATS // dim)
    for start in range(0, n, step):
        part = slice(start, start + step)
        query = queries[part] if query_of is None else pick(queries, query_of[part], "asked")
        out[part] = distances(pick(table, row[part], "picked"), query, "sqeuclidean")
    return out
