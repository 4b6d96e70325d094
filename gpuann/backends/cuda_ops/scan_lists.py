"""scan_lists: each list times all of its queries; query by query where a list has hardly any."""

import math
from typing import Any, NamedTuple

from gpuann._nvtx import annotate
from gpuann.backends import packing
from gpuann.backends.cuda_ops import _scan
from gpuann.backends.cuda_ops._halves import half_words, tile_shape
from gpuann.backends.cuda_ops._sizes import ROWS, filter_bytes
from gpuann.backends.seam import Array, FlatPayload, Lists, Payload, PqPayload
from gpuann.cuda import devices, variants
from gpuann.cuda.launch import Arguments, Device, arguments, launch
from gpuann.cuda.source import Source
from gpuann.cuda.variants import Codec, RowsAs
from gpuann.metric import ScanMetric

# mean pairs of a list under which its queries walk it one by one: a guess, no GPU has measured it
FEW_PER_LIST = 2
# from which a tile has 128 of them, for then the mean list fills one: with fewer it would be the
# work of 64 on half the blocks. A guess too
MANY_PER_LIST = 128
TURNS = (8, 32)  # of 32 rows in an item, at least and at most: a block does eight at a time
ITEMS_PER_BLOCK = 4  # that there should be, so that blocks end together


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
    """See `seam.Ops.scan_lists`. Distances are canonical, with `rescore` or without."""
    device = devices.of(queries)
    xp = device.xp
    if len(queries) == 0:
        return xp.empty((0, k), xp.float32), xp.empty((0, k), xp.int64)
    plan = _scan.Plan("scan_lists", device, queries.shape[1], k)
    members = _scan.values(queries, terms, payload, lists, probes, k, metric, keep, limit, plan)
    tile = _tile(device, payload, members)
    source = _source(payload, tile)
    if probes.size < FEW_PER_LIST * len(lists.radius):
        n_rows = len(lists.ids)
        return _scan.walk(device, source, "scan_queries", members, n_rows, plan.shared)
    return _by_list(device, source, members, plan, tile)


def _source(payload: Payload, tile: "Tile") -> Source:
    """The variant for what is stored."""
    rows_as, packed = _rows_as(payload), _packed(payload, tile)
    if isinstance(payload, FlatPayload):
        codec, dtype = Codec.WHOLE, payload.vectors.dtype
    else:
        codec = Codec.PQ if isinstance(payload, PqPayload) else Codec.SQ
        dtype = payload.codes.dtype
    return variants.scan_lists(
        codec, dtype, pq_len=tile.pq_len, packed=packed, rows_as=rows_as, tile=tile.rows
    )


def _rows_as(payload: Payload) -> RowsAs:
    """Bytes need no copy, but under cosine a scale that fp16 would round."""
    if isinstance(payload, FlatPayload):
        if payload.vectors.dtype.itemsize == 1 and payload.scale is None:
            return RowsAs.BYTES
        return RowsAs.CONVERTED if payload.halves is None else RowsAs.HALVES
    return RowsAs.CONVERTED if isinstance(payload, PqPayload) else RowsAs.BYTES


def _packed(payload: Payload, tile: "Tile") -> bool:
    """Codes in shared memory's codebooks that have less than 8 bits."""
    if not isinstance(payload, PqPayload) or tile.pq_len == 0:
        return False
    return packing.bits_of(payload.codebooks.shape[1]) < 8


class Tile:
    """A tile of queries in shared memory, and whether the codebooks are there beside it."""

    def __init__(self, device: Device, dim: int, pq_len: int, pq_book_size: int, rows: int) -> None:
        self.rows, self.words = rows, half_words(dim)
        self.depth, tile_bytes = tile_shape(dim, rows)
        self.shared = filter_bytes(rows) + (1 if dim <= self.depth else 2) * tile_bytes
        books = -(-dim * pq_book_size // 8) * 16
        fits = self.shared + books <= device.limits.shared_bytes
        self.pq_len = pq_len if pq_len in variants.PQ_LENGTHS and fits else 0
        if self.pq_len:
            self.shared += books


def _tile(device: Device, payload: Payload, members: dict[str, Any]) -> Tile:
    """Of 128 queries where there are so many, it pays, and they fit; else of 64."""
    shape = (members["dim"], members["pq_len"], members["pq_book_size"])
    narrow, wide = (Tile(device, *shape, rows) for rows in variants.TILES)
    many = members["n_queries"] * members["n_probes"] >= MANY_PER_LIST * members["n_lists"]
    pays = variants.has_wide_tile(narrow.pq_len, _packed(payload, narrow), _rows_as(payload))
    fits = wide.shared <= device.limits.shared_bytes and wide.pq_len == narrow.pq_len
    return wide if many and pays and fits else narrow


def _by_list(
    device: Device, source: Source, members: dict[str, Any], plan: _scan.Plan, tile: Tile
) -> tuple[Array, Array]:
    """The two passes: bound, pairs by list, filter in epochs, finish."""
    xp = device.xp
    n, n_lists, k = members["n_queries"], members["n_lists"], members["k"]
    n_pairs, n_rows = n * members["n_probes"], len(members["ids"])
    places = max(_scan.SURVIVORS, 4 * k)
    dists, names = xp.empty((n, k), xp.float32), xp.empty((n, k), xp.int64)

    def scratch(name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        return device.scratch(f"scan.{name}", shape, dtype)

    rows = [scratch(f"survivors{i}", (n, places), xp.int64) for i in range(2)]
    scores = [scratch(f"scores{i}", (n, places), xp.float32) for i in range(2)]
    probed = n_rows * members["n_probes"] // n_lists
    growth, steps = epochs(probed, k, plan.budget, places)
    rounded = -(-n // tile.rows)
    tiles = rounded if n_lists == 1 else n_pairs // tile.rows + min(n_lists, n_pairs)
    promised = dict(source.budgets)["scan_filter"].blocks
    per_sm = max(1, min(promised, device.limits.shared_bytes // tile.shared))
    grid, turns = _filter_grid(per_sm * device.limits.n_sms, tiles, n_rows, n_lists)
    near = near_rows(n_rows, n_lists, members["n_probes"], plan.budget)
    members |= {
        "dists": dists,
        "names": names,
        "query_halves": scratch("query_halves", (n, tile.words), xp.uint32),
        "query_factor": scratch("query_factor", (n,), xp.float32),
        "ceiling": scratch("ceiling", (n,), xp.float64),
        "slack": scratch("slack", (n,), xp.float64),
        "query_term": scratch("query_term", (n,), xp.float32),
        "n_survivors": scratch("n_survivors", (n,), xp.int32),
        "survivor_places": places,
        "tickets": scratch("tickets", (len(steps) + 1,), xp.uint64),
        "n_epochs": len(steps),
        "growth": growth,
        "turns": turns,
        "near_probes": near.probes,
        "near_turns": near.turns,
        "depth": tile.depth,
        "words": tile.words,
    }
    if members["rows"].dtype.itemsize == 1:
        members["query_shift"] = scratch("query_shift", (n,), xp.float32)
    if members["pq_dim"]:
        members["book_reach"] = scratch("book_reach", (members["pq_dim"],), xp.float32)
    if n_lists > 1:
        members["list_pairs"] = scratch("list_pairs", (2 * n_lists,), xp.int32)
        members["pair_first"] = scratch("pair_first", (2 * n_lists + 1,), xp.int64)
        members["item_first"] = scratch("item_first", (len(steps) + 1, n_lists + 1), xp.int64)
        members["pair_order"] = scratch("pair_order", (n_pairs,), xp.int64)

    def packed(epoch: int) -> Arguments:
        """The struct of one epoch: tightening moves the survivors from one buffer to the other."""
        now, then = epoch % 2, (epoch + 1) % 2
        buffers = {"survivors": rows[now], "scores": scores[now]}
        buffers |= {"kept": rows[then], "kept_scores": scores[then]}
        step = steps[epoch - 1] if epoch else near.row_step
        which = {"epoch": epoch, "row_step": step, "is_first": int(epoch < 2)}
        return arguments(device, source, **members | buffers | which)

    work = packed(0)
    if n_lists > 1 or members["pq_dim"]:
        launch(work, "scan_begin", (max(-(-2 * n_lists // source.block), members["pq_dim"]),))
    launch(work, "scan_measure", (n,), plan.shared)
    if n_lists > 1:
        launch(work, "scan_plan", (1,))
        launch(work, "scan_group", (-(-n_pairs // source.block),))
    launch(work, "scan_filter", (grid,), tile.shared)
    launch(work, "scan_bound", (n,), plan.shared)
    for epoch in range(1, len(steps) + 1):
        if epoch > 1:
            launch(work, "scan_tighten", (n,), 4 * places)
        work = packed(epoch)
        launch(work, "scan_filter", (grid,), tile.shared)
    launch(work, "scan_finish", (n,), plan.shared)
    return dists, names


class Near(NamedTuple):
    """What the first ceiling is made from: about `budget` rows of every query."""

    probes: int
    """Of each query, its nearest: their lists are looked at ..."""
    turns: int
    """... and of each list as many turns, for lists differ in length."""
    row_step: int
    """Of an only list, whose rows may lie in any order, every so many rows."""


def near_rows(n_rows: int, n_lists: int, n_probes: int, budget: int) -> Near:
    """Of lists that are as long as in the mean."""
    if n_lists == 1:  # at least ROWS of them, so that the last turn ends within the list
        row_step = max(1, n_rows // max(budget, ROWS))
        return Near(1, max(1, n_rows // (row_step * ROWS)), row_step)
    probes = min(n_probes, -(-budget * n_lists // max(1, n_rows)))
    return Near(probes, -(-2 * budget // (probes * ROWS)), 1)


def epochs(n_probed: int, k: int, budget: int, places: int) -> tuple[int, list[int]]:
    """How the rows that a query probes are filtered -> growth, and every how many turns an epoch
    takes.

    The first ceiling is the k-th of `budget` rows, so of n rows like them n / budget times a number
    pass that is k in the mean (gamma distributed), and more than `most` once in a million. The
    first epoch takes so many rows as then fit the places; each later one goes `growth` times as
    far, with the k-th score of what was seen before as its ceiling.
    """
    most = k + 5 * math.isqrt(k) + 8
    growth = max(2, 1 << (max(1, places // most).bit_length() - 1))
    first, steps = budget * places // most, [1]
    while steps[0] * first < n_probed:
        steps.insert(0, steps[0] * growth)
    return growth, steps


def _filter_grid(blocks: int, tiles: int, n_rows: int, n_lists: int) -> tuple[int, int]:
    """How many of the blocks stay until all items are done, and turns of an item. There are at most
    `tiles` of pairs; how many, the device alone knows.
    """
    turns = -(-n_rows // ROWS // n_lists)  # of a list, in the mean
    wanted = turns * tiles // max(1, ITEMS_PER_BLOCK * blocks)
    turns = min(max(wanted, TURNS[0]), TURNS[1])
    items = tiles * (-(-n_rows // (ROWS * turns)) + n_lists)  # at most: each list ends one
    return max(1, min(blocks, items)), turns
