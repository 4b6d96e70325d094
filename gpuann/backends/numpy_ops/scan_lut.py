"""scan_lut: one query at a time over its lists, by look-up table; for small batches.

    score(q, v) = A(q, l) + N(v) - sum_m lut[q, m, code[v, m]]

The k-th smallest score plus twice the slack bounds what is rescored canonically, so the answer is
the same as that of `scan_lists`.

Cost: pq_dim look-ups per row, about 0.8 ns each. Source: ADC, Jegou, Douze, Schmid, "Product
quantization for nearest neighbor search", PAMI 2011; the table without its list term is our own.
"""

import numpy as np

from gpuann._nvtx import annotate
from gpuann.backends.numpy_ops import _batch, _select, _slack, _threads, _tiles
from gpuann.backends.numpy_ops._batch import Batch
from gpuann.backends.numpy_ops._survivors import Scorer, Wanted
from gpuann.backends.seam import Array, Lists, PqPayload
from gpuann.metric import ScanMetric

_ROWS_AT_ONCE = 2048  # table entries of so many rows stay in L2
_QUERIES_AT_ONCE = 32  # whose codes and scores are held at a time ...
_SCORES_AT_ONCE = 1 << 22  # ... and the scores of those at most, or one query's
_HALF_UNIT = 2.0**-11  # rounding error of a float16, relative
_HALF_TINY = 2.0**-24  # and absolute, where it is subnormal


@annotate("scan_lut")
def scan_lut(
    lut: Array,
    queries: Array,
    terms: Array,
    payload: PqPayload,
    lists: Lists,
    probes: Array,
    k: int,
    metric: ScanMetric,
    keep: Array | None = None,
    limit: Array | None = None,
) -> tuple[Array, Array]:
    """See `seam.Ops.scan_lut`."""
    batch = _batch.make(queries, terms, payload, lists, probes, metric, keep)
    slack = _slack.slack(batch.squares, queries.shape[1], lists, probes, metric)
    if lut.dtype == np.float16:
        largest = np.abs(lut).max(axis=2).astype(np.float64)
        slack = slack + (2 * _HALF_UNIT * largest + _HALF_TINY).sum(axis=1)
        if np.isinf(slack).any():  # products beyond float16: no score counts, every row passes
            lut = np.nan_to_num(lut, posinf=0.0, neginf=0.0)
    wanted = Wanted(k, slack, limit, rescore=True)
    scorer = Scorer(payload, queries, lists.ids, metric)
    dists, ids = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    longest = int(np.diff(lists.offsets)[probes].sum(axis=1).max(initial=1))
    step = max(1, min(_QUERIES_AT_ONCE, _SCORES_AT_ONCE // longest))
    for start in range(0, len(queries), step):
        these = range(start, min(start + step, len(queries)))
        sums, part = _look_up(lut, batch, payload, these), slice(these.start, these.stop)
        dists[part], ids[part] = _select.select(batch, scorer, wanted, these, sums)
    return dists, ids


def _look_up(lut: Array, batch: Batch, payload: PqPayload, queries: range) -> Array:
    """-sum of table entries of every row that some queries probe, query by query and probe by probe
    -> (total,) float32.
    """
    codes = [_probed_codes(payload, batch.lists, batch.probes[q]) for q in queries]
    begin = np.cumsum([0] + [len(c) for c in codes]).tolist()
    sums = np.empty(begin[-1], np.float32)

    def some(piece: tuple[int, int]) -> None:
        i, at = piece
        found = _table_sums(lut[queries[i]], codes[i][at : at + _ROWS_AT_ONCE])
        sums[begin[i] + at : begin[i] + at + len(found)] = found

    pieces = [(i, at) for i, c in enumerate(codes) for at in range(0, len(c), _ROWS_AT_ONCE)]
    _threads.run(some, pieces)
    return sums


def _probed_codes(payload: PqPayload, lists: Lists, probes: Array) -> Array:
    """Codes of the rows of the probed lists, one list after another -> (n, row_bytes) uint8."""
    starts, stops = lists.offsets.take(probes).tolist(), lists.offsets.take(probes + 1).tolist()
    return np.concatenate([payload.codes[a:b] for a, b in zip(starts, stops, strict=True)])


def _table_sums(lut: Array, codes: Array) -> Array:
    """-sum_m lut[m, codes[:, m]]: lut (M, J), codes (n, row_bytes) uint8 -> (n,) float32."""
    pq_dim, pq_book_size = lut.shape
    picked = lut.reshape(-1).take(_tiles.entries(codes, pq_dim, pq_book_size))
    return picked.astype(np.float32, copy=False) @ np.full(pq_dim, -1, np.float32)
