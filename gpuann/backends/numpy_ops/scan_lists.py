"""scan_lists: the batch turned round. Each list is decoded once, times all of its queries.

    score(q, v) = A(q, l) + N(v) - q'.r(v)        q' = 2q for L2, q for inner product

Large batches go through two passes (`_tiled`): a bound from the nearest rows, then every tile
filtered with it, small ones side by side (`_stacks`). Where scores are few they are all kept
(`_dense`). The survivors of either get their canonical distance (`_rescore`) and are sorted by
(distance, id), so the answer does not depend on the path.

Cost: 2 * pairs * list_len * (dim + 1) flop by BLAS plus about 0.3 ns per (query, row) pair for
compare and count. Memory: a few tiles or a stack of them per thread plus the survivors (28 bytes
each, at most 2^20 or 4 Q k of them), or KEPT scores of 4 bytes and 20 MB a thread.
Source: list-major order as in FAISS contrib/big_batch_search; bound and filter are our own.
"""

import numpy as np

from gpuann._nvtx import annotate
from gpuann.backends.numpy_ops import _batch, _dense, _slack, _threads, _tiled
from gpuann.backends.numpy_ops._batch import Batch
from gpuann.backends.numpy_ops._survivors import Scorer, Wanted
from gpuann.backends.seam import Array, FlatPayload, Lists, Payload
from gpuann.metric import ScanMetric

ONE_LIST_ROWS = 1 << 13  # a single list up to this long is seen whole by each tile of queries
ONE_LIST_FLOATS = 1 << 22  # ... and of so many components
KEPT = 1 << 24  # scores up to which every one is kept, 64 MiB: the workspace has room for them ...
LONGEST = 1 << 20  # ... of one query, as it is selected at a time ...
FEW_PER_LIST = 128  # ... if the mean list has no more queries than this


@annotate("scan_lists")
def scan_lists(
    queries: Array,
    terms: Array | None,
    payload: Payload,
    lists: Lists,
    probes: Array,
    k: int,
    metric: ScanMetric,
    keep: Array | None = None,
    limit: Array | None = None,
    rescore: bool = True,
) -> tuple[Array, Array]:
    """See `seam.Ops.scan_lists`."""
    moved = queries
    if isinstance(payload, FlatPayload) and payload.shift is not None:
        moved = queries - payload.shift
    with _threads.single_thread_blas():  # once, and not for each step
        batch = _batch.make(moved, terms, payload, lists, probes, metric, keep)
        slack = _slack.slack(batch.squares, moved.shape[1], lists, probes, metric)
        scorer = Scorer(payload, queries, lists.ids, metric)
        return _scan(batch, scorer, Wanted(k, slack, limit, rescore))


def _scan(batch: Batch, scorer: Scorer, wanted: Wanted) -> tuple[Array, Array]:
    """Along the path that is best for it -> dists (Q, k) float32, ids (Q, k) int64."""
    sizes, width = np.diff(batch.lists.offsets), batch.scaled.shape[1]
    if len(sizes) == 1 and sizes[0] <= ONE_LIST_ROWS and sizes[0] * width <= ONE_LIST_FLOATS:
        return _dense.scan_one_list(batch, scorer, wanted)
    if batch.probes.size <= FEW_PER_LIST * len(sizes):
        longest = int(sizes[batch.probes].sum(axis=1).max(initial=0))
        if longest <= LONGEST and len(batch.probes) * longest <= KEPT:
            return _dense.scan_few(batch, scorer, wanted)
    return _tiled.scan_tiled(batch, scorer, wanted)
