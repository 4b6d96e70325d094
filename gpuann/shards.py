"""One index over several devices: a partition of the rows on each, results merged on the host.

    index = shards.build(params, rows, devices=["cuda:0", "cuda:1"])
    distances, ids = shards.search(search_params, index, queries, k)

The quantisers are trained once, on the first device, and shared: a row has the same code, a query
the same lists and a pair the same distance on every partition. So each partition's k best, merged
by (distance, id), are those of the single index, bit for bit, however the rows are split. Asking a
partition for fewer than k would lose neighbours.

With n_replicas=R every partition is held R times, on as many devices: a batch is cut over the
replicas, and a call that comes alone goes to the one with the least work.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from gpuann import arrays, backends, kinds, training, validate
from gpuann import metric as metrics
from gpuann._nvtx import annotate
from gpuann.arrays import HostArray
from gpuann.backends import Backend
from gpuann.distributed.shard import Shard
from gpuann.engine.plan import cut_evenly
from gpuann.errors import bad_value
from gpuann.index import given_filter, open_rows
from gpuann.indexes import brute_force
from gpuann.metric import Metric
from gpuann.params import WORKSPACE_LIMIT, IvfIndexParams, IvfSearchParams
from gpuann.partitioned import sharded
from gpuann.partitioned.lookups import range_search, search_preassigned
from gpuann.partitioned.on_disk import extend, load, save
from gpuann.partitioned.partitions import Asked, Found, gather
from gpuann.partitioned.sharded import ShardedIndex
from gpuann.trained import TrainedModels

__all__ = [
    "ShardedIndex",
    "build",
    "extend",
    "from_shards",
    "load",
    "range_search",
    "save",
    "search",
    "search_preassigned",
]


@annotate("shards.build")
def build(
    index_params: IvfIndexParams | str,
    dataset: Any,
    devices: Sequence[str],
    *,
    n_replicas: int = 1,
    scope: str = "shared",
    centers: Any = None,
    pq_centers: Any = None,
    bounds: Any = None,
    progress: bool = False,
) -> ShardedIndex:
    """Train on the first device, store a part of the rows on each.

    Parameters
    ----------
    index_params : IndexParams of ivf_flat, ivf_pq or ivf_sq, or a metric's name for brute force
    dataset : array (n_rows, dim), as the builds of those take it
    devices : list of {"cpu", "cuda", "cuda:N"}; a device may come several times
    n_replicas : int, default 1
        Devices that hold each partition; len(devices) for copies of the whole index. With S
        partitions, devices[i] holds partition i % S.
    scope : {"shared", "independent"}, default "shared"
        One model for all partitions, or one each, trained on its rows, with n_lists of its own. The
        price of independence is that neighbours are found where each partition probes, so the
        answer is not that of a single index; distances are comparable all the same.
    centers, pq_centers, bounds : quantisers (n_lists, dim), (pq_dim, 256, pq_len) and (2, dim)
        float32, optional, as `build_precomputed` takes them, instead of trained ones
    progress : bool, default False; bars, if standard error is a terminal

    Returns
    -------
    ShardedIndex : row i of the data set has id i

    Notes
    -----
    Cost   training on one device; each device assigns and encodes its rows, all at once.
    Memory a device holds its rows' share of the index, the centres and the codebooks.
    """
    where = "shards.build"
    places = sharded.backends_of(where, devices, n_replicas)
    n_shards = len(places) // n_replicas
    validate.one_of(where, "scope", scope, ("shared", "independent"))
    if isinstance(index_params, str):
        how = metrics.check(where, index_params)
        rows = arrays.Rows(where, "dataset", dataset)
        rows.check()
    else:
        kinds.check_build(where, index_params)
        _, rows, how = open_rows(where, index_params, dataset, places[0].device)
    if n_shards > rows.n_rows:
        raise bad_value(where, "devices", f"be at most the {rows.n_rows} rows", n_shards)
    parts = cut_evenly(rows.n_rows, n_shards)
    for name, given in (("pq_centers", pq_centers), ("bounds", bounds)):
        if centers is None and given is not None:
            raise bad_value(where, name, "come with centers", "them alone")
    n_lists = 1 if isinstance(index_params, str) else index_params.n_lists
    fewest = min(cut.stop - cut.start for cut in parts)
    if scope == "independent" and n_lists > fewest:
        raise bad_value(where, "n_lists", f"be at most the {fewest} rows of a partition", n_lists)

    def train(backend: Backend, part: arrays.Rows, quiet: bool) -> TrainedModels | None:
        show = progress and not quiet
        given = centers, pq_centers, bounds
        return _models(where, index_params, backend, part, how, given, show)

    if scope == "shared":
        trained = [train(places[0], rows, quiet=False)] * n_shards
    else:  # once for each partition, whatever its replicas
        own = [rows.part(cut.start, cut.stop) for cut in parts]
        with ThreadPoolExecutor(n_shards) as pool:
            work = [pool.submit(train, places[s], own[s], quiet=s > 0) for s in range(n_shards)]
            names = [f"training of partition {s} on {places[s].device}" for s in range(n_shards)]
            trained = gather(where, names, work)

    def fill(place: int, shard: int) -> sharded.Made:
        backend, cut, models = places[place], parts[shard], trained[shard]
        part, ids = rows.part(cut.start, cut.stop), np.arange(cut.start, cut.stop)
        if models is None:
            return brute_force.build_part(backend, part, how, ids), None
        show = progress and place == 0
        return training.build_part(backend, models, part, ids, progress=show), models

    on = [[s + r * n_shards for r in range(n_replicas)] for s in range(n_shards)]
    return sharded.assemble(
        where, how, rows.dim, places, on, fill, rows.n_rows, at_once=len(places)
    )


@annotate("shards.from_shards")
def from_shards(
    shards: Sequence[Shard],
    devices: Sequence[str],
    *,
    n_replicas: int = 1,
    scope: str = "shared",
) -> ShardedIndex:
    """An index of shards that were built apart, on any number of devices.

    Parameters
    ----------
    shards : sequence of distributed.Shard, with distinct ids
    devices : list of {"cpu", "cuda", "cuda:N"}; a device may come several times
    n_replicas : int, default 1
        Devices that hold each partition, as in `build`.
    scope : {"shared", "independent"}, default "shared"
        Shared: all shards have the same models, else they are refused; where there are not as many
        partitions as shards, rows move and ids stay. Independent: shards of one kind, metric and
        dim with models of their own, each a partition, in turn on the devices; see `build` for the
        price. Distances are comparable in both.

    Notes
    -----
    Memory one partition at a time on the host, beside the shards and the index.
    """
    return sharded.place("shards.from_shards", shards, devices, n_replicas, scope)


def _models(
    where: str,
    params: IvfIndexParams | str,
    backend: Backend,
    rows: arrays.Rows,
    how: Metric,
    given: tuple[Any, Any, Any],
    progress: bool,
) -> TrainedModels | None:
    """Given or trained quantisers; None for brute force, which has none."""
    if isinstance(params, str):
        return None
    if given[0] is not None:
        return kinds.given_models(where, params, rows.dim, how, *given)
    shape = kinds.code_shape(where, params, rows.dim)
    return training.train(backend, rows, params, how, shape, progress=progress)


@annotate("shards.search")
def search(
    search_params: IvfSearchParams | None,
    index: ShardedIndex,
    queries: Any,
    k: int,
    neighbors: Any = None,
    distances: Any = None,
    filter: Any = None,
) -> tuple[Any, Any]:
    """The k nearest rows of all partitions: the answer of the single index.

    Parameters
    ----------
    search_params : SearchParams of the kind of index; None for brute force
    index : ShardedIndex
    queries : array (n_queries, dim), host or device; or chunks of such rows
    k : int
    neighbors : array (n_queries, k) int64, optional, to write the ids into
    distances : array (n_queries, k) float32, optional, to write the distances into; both are
        where the queries are
    filter : ids that may be returned, as in `ivf_flat.search`

    Returns
    -------
    distances (n_queries, k) float32, ids (n_queries, k) int64
        As the searches of the single indexes give them, to the last bit.

    Raises
    ------
    BackendError
        If a device fails: it is named, the others' work is waited for and dropped.

    Notes
    -----
    Cost   the queries go to every partition through the host, each returns n_queries * k results.
    """
    where = "shards.search"
    validate.instance(where, "index", index, ShardedIndex)
    kinds.check_search(where, search_params, index.models[0])
    n_probes = search_params.n_probes if search_params else 1
    limit = search_params.workspace_limit if search_params else WORKSPACE_LIMIT
    cpu = backends.choose(where, "cpu")

    kept = given_filter(where, "filter", filter, queries, index)
    shape = index.models[0], len(index), index.dim
    exhaustive = kept is not None and sharded.is_exhaustive(*shape, kept, n_probes)

    def run(x: HostArray, k: int) -> Found:
        asked = Asked(k, n_probes, limit, len(x), len(index), kept, exhaustive)
        return sharded.search(cpu, index, x, asked)

    return sharded.answer(where, cpu, index, queries, k, neighbors, distances, run)
