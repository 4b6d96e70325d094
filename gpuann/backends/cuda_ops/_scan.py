"""What the two scans share on the device: arguments, shared memory, how a query is split."""

from typing import Any

from gpuann.backends import packing
from gpuann.backends.cuda_ops import _select
from gpuann.backends.cuda_ops._sizes import BYTES_PER_PLACE, CHUNK, SCALE_BYTES
from gpuann.backends.cuda_ops.merge_topk import merge_topk
from gpuann.backends.seam import Array, Lists, Payload, PqPayload
from gpuann.cuda.launch import Arguments, Device, arguments, launch
from gpuann.cuda.source import Source
from gpuann.metric import ScanMetric

BUDGET = 1024  # rows that a query's first bound is made from, and at least 4 k
SURVIVORS = 1024  # places for the survivors of one query, and at least 4 k
MAX_SPLITS = 256  # of one query: their results are merged by one block
BLOCKS_PER_SM = 2  # that a launch should have, where it can be split

_SCRATCH = (
    *(
        "book_reach",
        "query_halves",
        "query_factor",
        "query_shift",
        "ceiling",
        "slack",
        "query_term",
    ),
    *("list_pairs", "pair_first", "item_first", "tickets", "pair_order"),
    *("n_survivors", "survivors", "scores", "kept", "kept_scores"),
)

# of payloads, beside the rows; none has all of them
_STORED = ("halves", "scale", "shift", "codebooks", "step", "middle", "centers")


class Plan:
    """Sizes of one call: of a table scan if `table_bytes`, else of one that holds the query."""

    def __init__(self, where: str, device: Device, dim: int, k: int, table_bytes: int = 0) -> None:
        _select.check_dim(where, dim)
        self.budget = max(BUDGET, 4 * k)
        query = 0 if table_bytes else query_bytes(dim)
        self.capacity = _select.capacity(where, device, k, query)
        walk = max(4 * (self.budget + CHUNK), BYTES_PER_PLACE * self.capacity)
        self.shared = max(SCALE_BYTES, query + walk)
        self.table_is_shared = (
            table_bytes > 0 and self.shared + table_bytes <= device.limits.shared_bytes
        )
        if self.table_is_shared:
            self.shared += table_bytes


def query_bytes(dim: int) -> int:
    """Of shared memory for a query, padded to a multiple of four components."""
    return -(-dim // 4) * 16


def split(device: Device, n_queries: int, n_rows: int) -> int:
    """Blocks that share one query, so that small batches fill the device too."""
    wanted = -(-BLOCKS_PER_SM * device.limits.n_sms // n_queries)
    return max(1, min(wanted, -(-n_rows // CHUNK), MAX_SPLITS))


def values(
    queries: Array,
    terms: Array | None,
    payload: Payload,
    lists: Lists,
    probes: Array,
    k: int,
    metric: ScanMetric,
    keep: Array | None,
    limit: Array | None,
    plan: Plan,
) -> dict[str, Any]:
    """Members of ScanArgs that both scans have; outputs and scratch are None."""
    pq_dim, pq_book_size, pq_len, code_bytes = 0, 0, 0, 0
    if isinstance(payload, PqPayload):
        pq_dim, pq_book_size, pq_len = payload.codebooks.shape
        code_bytes = payload.codes.shape[1]
    stored = payload._asdict()
    stored["rows"] = stored.pop("codes" if "codes" in stored else "vectors")
    return {
        **dict.fromkeys((*_SCRATCH, *_STORED)),
        **stored,
        "lut": None,
        "dists": None,
        "names": None,
        "queries": queries,
        "terms": terms,
        "offsets": lists.offsets,
        "ids": lists.ids,
        "norms": lists.norms,
        "radius": lists.radius,
        "probes": probes,
        "keep": keep,
        "limit": limit,
        "keep_words": 0 if keep is None else keep.shape[-1],
        "keep_per_query": int(keep is not None and keep.ndim == 2),
        "n_queries": len(queries),
        "n_probes": probes.shape[1],
        "n_lists": len(lists.radius),
        "k": k,
        "dim": queries.shape[1],
        "inner": int(metric == "inner_product"),
        "pq_dim": pq_dim,
        "pq_book_size": pq_book_size,
        "pq_len": pq_len,
        "pq_bits": packing.bits_of(pq_book_size),
        "code_bytes": code_bytes,
        "budget": plan.budget,
        "capacity": plan.capacity,
        "row_step": 1,
        "growth": 1,
        "is_first": 1,
        "epoch": 0,
        "n_epochs": 1,
        "turns": 1,
        "near_probes": 1,
        "near_turns": 1,
        "depth": 0,
        "words": 0,
        "bound_stride": _bound_stride(len(lists.radius), len(lists.ids), plan.budget),
        "n_splits": 1,
        "survivor_places": 0,
        "table_is_shared": int(plan.table_is_shared),
    }


def _bound_stride(n_lists: int, n_rows: int, budget: int) -> int:
    """Rows of an only list may lie in any order: those of its bound are spread over it."""
    return max(1, n_rows // budget) if n_lists == 1 else 1


def walk(
    device: Device, source: Source, entry: str, members: dict[str, Any], n_rows: int, shared: int
) -> tuple[Array, Array]:
    """Launch the query-major walk, split over blocks, and merge what the splits found."""
    xp, n, k = device.xp, members["n_queries"], members["k"]
    n_splits = split(device, n, n_rows)
    dists, names = xp.empty((n_splits, n, k), xp.float32), xp.empty((n_splits, n, k), xp.int64)
    members |= {"dists": dists, "names": names, "n_splits": n_splits}
    work: Arguments = arguments(device, source, **members)
    launch(work, entry, (n, n_splits), shared)
    if n_splits == 1:
        return dists[0], names[0]
    return merge_topk(dists, names, k)
