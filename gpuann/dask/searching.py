"""Searches of an index on a cluster: of arrays here, and of a dask.array block by block."""

import dataclasses
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

from gpuann import arrays, kinds, validate
from gpuann._nvtx import annotate
from gpuann.arrays import HostArray
from gpuann.dask.holder import Question
from gpuann.dask.index import DaskIndex, Found
from gpuann.dask.params import ServeParams
from gpuann.errors import bad_type, bad_value
from gpuann.filters import Filter
from gpuann.index import given_filter
from gpuann.metric import reported
from gpuann.params import WORKSPACE_LIMIT, IvfSearchParams
from gpuann.partitioned import sharded

_AHEAD = 2  # blocks of queries that are there or being computed


@annotate("dask.search")
def search(
    search_params: IvfSearchParams | None,
    index: DaskIndex,
    queries: Any,
    k: int,
    filter: Any = None,
    *,
    on_loss: str | None = None,
    deadline: float | None = None,
) -> Any:
    """The k nearest rows of all shards: the answer of the single index, bit for bit.

    Parameters
    ----------
    search_params : SearchParams of the kind of index; None for brute force
    index : DaskIndex
    queries : array (n_queries, dim), host or device; or a dask.array, whose blocks are searched
        one after the other, the deadline being that of each
    k : int
    filter : ids that may be returned, as in `ivf_flat.search`; it travels with every call
    on_loss, deadline : optional; instead of those of the index' ServeParams

    Returns
    -------
    distances (n_queries, k) float32, ids (n_queries, k) int64
        On the host, with `coverage` beside them. Of an asynchronous client, what is awaited for
        them.

    Raises
    ------
    BackendError, if no replica of a shard is left and on_loss is "raise": the shard is named.
    TimeoutError, if a shard does not answer within the deadline.
    """
    where = "dask.search"
    validate.instance(where, "index", index, DaskIndex)
    kinds.check_search(where, search_params, index.models)
    if index.serving.closed:
        raise bad_value(where, "index", "be open", "a closed one", "load it again")
    params = index.serving.params
    given: dict[str, Any] = {"on_loss": on_loss, "deadline": deadline}
    params = dataclasses.replace(params, **{n: v for n, v in given.items() if v is not None})
    k = validate.n_results(where, k)
    asked = functools.partial(_prepared, where, index, search_params, k, filter, params)
    if hasattr(queries, "dask") and hasattr(queries, "to_delayed"):
        return index.client.sync(_of_blocks, where, index, queries, k, asked)
    if arrays.is_chunked(queries):
        raise bad_type(where, "queries", "be an array", type(queries).__name__, "search each chunk")
    return index.client.sync(asked(queries))


def _prepared(
    where: str,
    index: DaskIndex,
    search_params: IvfSearchParams | None,
    k: int,
    filter: Any,
    params: ServeParams,
    queries: Any,
) -> Callable[[], Awaitable[Found]]:
    """Queries (n, dim), checked at once and in the caller's thread -> what awaits their answer."""
    x = np.ascontiguousarray(arrays.queries(where, queries, index.dim))
    kept = given_filter(where, "filter", filter, queries, index)
    question = _question(index, search_params, k, kept)

    async def run() -> Found:
        async def whole(some: HostArray) -> tuple[HostArray, HostArray, float]:
            return await index.serving.search(some, question, params)

        if kept is None and params.deadline is None:
            kind = k, question.n_probes, question.workspace_limit, params.on_loss, x.dtype.str
            found = await index.batcher.ask(kind, x, params.batch_queries, whole)
        else:
            found = await whole(x)
        dists, ids, coverage = found
        return Found(reported(index.metric, dists), ids, coverage)

    return run


async def _of_blocks(
    where: str,
    index: DaskIndex,
    queries: Any,
    k: int,
    asked: Callable[[Any], Callable[[], Awaitable[Found]]],
) -> Found:
    """The answers for a dask.array (n, dim): its blocks come here one after the other, the next is
    computed while one is searched.
    """
    if queries.ndim != 2:
        raise bad_value(where, "queries", f"have shape (n, {index.dim})", queries.shape)
    blocks = queries.rechunk({1: -1}).to_delayed()[:, 0].tolist()
    ahead: list[Any] = []
    empty = np.empty((0, k), np.float32), np.empty((0, k), np.int64)
    found = [Found(*empty, 1.0)]
    for i in range(len(blocks)):
        ahead += index.client.compute(blocks[i + len(ahead) : i + _AHEAD])
        x = await ahead.pop(0)
        if len(x):
            found.append(await asked(x)())
    dists, ids = (np.concatenate([one[part] for one in found]) for part in (0, 1))
    return Found(dists, ids, min(one.coverage for one in found))


def _question(
    index: DaskIndex, search_params: IvfSearchParams | None, k: int, kept: Filter | None
) -> Question:
    n_probes = search_params.n_probes if search_params else 1
    limit = search_params.workspace_limit if search_params else WORKSPACE_LIMIT
    n_rows = len(index)
    if kept is None:
        return Question(k, n_probes, limit, n_rows)
    exhaustive = sharded.is_exhaustive(index.models, n_rows, index.dim, kept, n_probes)
    words = kept.words, kept.n_kept, kept.per_query
    return Question(k, n_probes, limit, n_rows, *words, exhaustive)
