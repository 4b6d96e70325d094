"""Searches of another shape over all partitions: within a radius, in given lists."""

from typing import Any, cast

from gpuann import backends, kinds, lookups, validate
from gpuann._nvtx import annotate
from gpuann.arrays import HostArray
from gpuann.errors import bad_type, bad_value
from gpuann.index import given_filter, query_rows
from gpuann.lookups import InRange
from gpuann.params import WORKSPACE_LIMIT, IvfSearchParams
from gpuann.partitioned import sharded
from gpuann.partitioned.partitions import Asked, Found
from gpuann.partitioned.sharded import ShardedIndex


@annotate("shards.range_search")
def range_search(
    search_params: IvfSearchParams | None,
    index: ShardedIndex,
    queries: Any,
    radius: float,
    filter: Any = None,
) -> InRange:
    """All rows of all partitions within a radius of each query, among the lists that are probed.

    Parameters
    ----------
    search_params : SearchParams of the kind of index; None for brute force
    index : ShardedIndex
    queries : array (n_queries, dim), float32, float16, int8 or uint8, host or device
    radius : float
        Of the metric: distances at most this, products of inner_product at least this.
    filter : ids that may be returned, optional; as in `search`

    Returns
    -------
    limits (n_queries + 1,) int64, distances (n_found,) float32, ids (n_found,) int64, on the host
        As `range_search` of the single index gives them, to the last bit.
    """
    where = "shards.range_search"
    validate.instance(where, "index", index, ShardedIndex)
    kinds.check_search(where, search_params, index.models[0])
    cpu = backends.choose(where, "cpu")
    n_probes = search_params.n_probes if search_params else 1
    limit = search_params.workspace_limit if search_params else WORKSPACE_LIMIT
    x = query_rows(where, cpu, queries, index.dim)
    kept = given_filter(where, "filter", filter, queries, index)
    shape = index.models[0], len(index), index.dim
    exhaustive = kept is not None and sharded.is_exhaustive(*shape, kept, n_probes)

    def scan(rows: HostArray, k: int, farthest: HostArray) -> Found:
        own = None if kept is None else kept.some(where, "filter", rows, len(x), len(index))
        asked = Asked(k, n_probes, limit, len(rows), len(index), own, exhaustive, farthest)
        return sharded.search(cpu, index, x[rows], asked)

    return lookups.within(where, index.metric, len(x), len(index), radius, scan)


@annotate("shards.search_preassigned")
def search_preassigned(
    search_params: IvfSearchParams,
    index: ShardedIndex,
    queries: Any,
    k: int,
    lists: Any,
    neighbors: Any = None,
    distances: Any = None,
    filter: Any = None,
) -> tuple[Any, Any]:
    """The k nearest rows of each query in lists that the caller chose, on all partitions.

    Parameters
    ----------
    search_params : SearchParams of the kind of index; n_probes is not looked at
    index : ShardedIndex whose partitions have one model, of lists
    queries : array (n_queries, dim), host or device
    k : int
    lists : array (n_queries, n_probes) of integers, the lists of each query, nearest first; each
        once
    neighbors, distances, filter : as in `search`; a filter is only applied

    Returns
    -------
    distances (n_queries, k) float32, ids (n_queries, k) int64, where the queries are
        As `search_preassigned` of the single index gives them, to the last bit.
    """
    where = "shards.search_preassigned"
    validate.instance(where, "index", index, ShardedIndex)
    if not index.has_one_model:
        got = "brute force" if index.models[0] is None else "a model each"
        raise bad_type(where, "index", "have one model for all partitions, with lists", got)
    kinds.check_search(where, search_params, index.models[0])
    n_lists = cast("Any", index.models[0]).n_lists
    chosen = lookups.given_lists(where, lists, n_lists)
    cpu, limit = backends.choose(where, "cpu"), search_params.workspace_limit
    kept = given_filter(where, "filter", filter, queries, index)

    def run(x: HostArray, k: int) -> Found:
        if len(x) != len(chosen):
            raise bad_value(where, "lists", f"have {len(x)} rows, as the queries", len(chosen))
        asked = Asked(k, chosen.shape[1], limit, len(x), len(index), kept)
        return sharded.search(cpu, index, x, asked, chosen)

    return sharded.answer(where, cpu, index, queries, k, neighbors, distances, run)
