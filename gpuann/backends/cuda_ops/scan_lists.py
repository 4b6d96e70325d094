"""scan_lists: each list times all of its queries; query by query where a list has hardly any."""

import math
from typing import Any

from gpuann._nvtx import annotate
from gpuann.backends.cuda_ops import _scan
from gpuann.backends.cuda_ops._sizes import TILE
from gpuann.backends.seam import Array, FlatPayload, Lists, Payload
from gpuann.cuda import devices, variants
from gpuann.cuda.launch import MAX_GRID, Arguments, Device, arguments, launch
from gpuann.cuda.source import Source
from gpuann.metric import ScanMetric

# mean pairs of a list under which its queries walk it one by one: a guess, no GPU has measured it
FEW_PER_LIST = 2
ROWS_PER_SPLIT = 8 * TILE  # of a list, at least, for each block that shares a tile of pairs


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
    flat = isinstance(payload, FlatPayload)
    source = variants.scan_lists(members["rows"].dtype, pq=not flat)
    if probes.size < FEW_PER_LIST * len(lists.radius):
        n_rows = len(lists.ids)
        return _scan.walk(device, source, "scan_queries", members, n_rows, plan.shared)
    return _by_list(device, source, members, plan)


def _by_list(
    device: Device, source: Source, members: dict[str, Any], plan: _scan.Plan
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
    members |= {
        "dists": dists,
        "names": names,
        "ceiling": scratch("ceiling", (n,), xp.float64),
        "slack": scratch("slack", (n,), xp.float64),
        "query_term": scratch("query_term", (n,), xp.float32),
        "n_survivors": scratch("n_survivors", (n,), xp.int32),
        "survivor_places": places,
    }
    if n_lists > 1:
        members["list_pairs"] = scratch("list_pairs", (n_lists,), xp.int32)
        members["list_pairs"].fill(0)
        members["pair_first"] = scratch("pair_first", (n_lists + 1,), xp.int64)
        members["tile_first"] = scratch("tile_first", (n_lists + 1,), xp.int64)
        members["pair_order"] = scratch("pair_order", (n_pairs,), xp.int64)

    def packed(epoch: int, step: int, growth: int) -> Arguments:
        """The struct of one epoch: tightening moves the survivors from one buffer to the other."""
        now, then = epoch % 2, (epoch + 1) % 2
        buffers = {"survivors": rows[now], "scores": scores[now]}
        buffers |= {"kept": rows[then], "kept_scores": scores[then]}
        which = {"row_step": step, "growth": growth, "is_first": int(epoch == 0)}
        return arguments(device, source, **members | buffers | which)

    probed = n_rows * members["n_probes"] // n_lists
    growth, steps = epochs(probed, k, plan.budget, places)
    grid = _filter_grid(device, n_pairs, n_lists, n_rows)
    work = packed(0, steps[0], growth)
    launch(work, "scan_bound", (n,), plan.shared)
    if n_lists > 1:
        launch(work, "scan_plan", (1,))
        launch(work, "scan_group", (-(-n_pairs // source.block),))
    launch(work, "scan_filter", grid)
    for epoch, step in enumerate(steps[1:], 1):
        launch(work, "scan_tighten", (n,), 4 * places)
        work = packed(epoch, step, growth)
        launch(work, "scan_filter", grid)
    launch(work, "scan_finish", (n,), plan.shared)
    return dists, names


def epochs(n_probed: int, k: int, budget: int, places: int) -> tuple[int, list[int]]:
    """How the rows that a query probes are filtered -> growth, and every how many tiles an epoch
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


def _filter_grid(device: Device, n_pairs: int, n_lists: int, n_rows: int) -> tuple[int, int]:
    """Tiles of pairs at most (how many there are, the device alone knows), and row splits."""
    tiles = -(-n_pairs // TILE) if n_lists == 1 else n_pairs // TILE + min(n_lists, n_pairs)
    wanted = -(-_scan.BLOCKS_PER_SM * device.limits.n_sms // tiles)
    return tiles, max(1, min(wanted, -(-n_rows // ROWS_PER_SPLIT), MAX_GRID[1]))
