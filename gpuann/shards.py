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
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuann import arrays, backends, brute_force, ivf, kinds, training, validate
from gpuann import metric as metrics
from gpuann._nvtx import annotate
from gpuann.arrays import HostArray
from gpuann.backends import Backend
from gpuann.errors import bad_value
from gpuann.index import SearchShape, open_rows
from gpuann.index import search as run_search
from gpuann.metric import Metric
from gpuann.params import WORKSPACE_LIMIT, IvfIndexParams, IvfSearchParams
from gpuann.partitions import Found, Partition, cut_evenly, gather, merged, scan_in_turn
from gpuann.trained import TrainedModels


@dataclass(frozen=True, eq=False, repr=False)
class ShardedIndex:
    """Partitions of one data set, each with its replicas: immutable."""

    metric: Metric
    dim: int
    shards: tuple[tuple[Partition, ...], ...]
    """shards[s][r]: replica r of partition s."""
    searched_with: type
    """What `search` takes: IvfSearchParams' subclass of the kind, or NoneType for brute force."""
    has_one_model: bool
    """Whether the lists that a query probes are the same on every partition."""

    def __len__(self) -> int:
        return sum(len(replicas[0]) for replicas in self.shards)

    @property
    def devices(self) -> list[list[str]]:
        """The devices of each partition's replicas."""
        return [[replica.backend.device for replica in replicas] for replicas in self.shards]

    def __repr__(self) -> str:
        rows = f"{len(self):,} rows, dim {self.dim}, {self.metric}"
        return f"shards.ShardedIndex({rows}, {self.devices})"


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
    progress: bool = False,
) -> ShardedIndex:
    """Train on the first device, store a part of the rows on each.

    Parameters
    ----------
    index_params : ivf_flat.IndexParams, ivf_pq.IndexParams, or a metric's name for brute force
    dataset : array (n_rows, dim), as the builds of those take it
    devices : list of {"cpu", "cuda", "cuda:N"}; a device may come several times
    n_replicas : int, default 1
        Devices that hold each partition; len(devices) for copies of the whole index. With S
        partitions, devices[i] holds partition i % S.
    scope : {"shared", "independent"}, default "shared"
        One model for all partitions, or one each, trained on its rows, with n_lists of its own. The
        price of independence is that neighbours are found where each partition probes, so the
        answer is not that of a single index; distances are comparable all the same.
    centers, pq_centers : quantisers (n_lists, dim) and (pq_dim, 256, pq_len) float32, optional, as
        `build_precomputed` takes them, instead of trained ones
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
    places = _devices(where, devices, n_replicas)
    n_shards = len(places) // n_replicas
    validate.one_of(where, "scope", scope, ("shared", "independent"))
    if isinstance(index_params, str):
        how, kind = metrics.check(where, index_params), type(None)
        rows = arrays.Rows(where, "dataset", dataset)
        rows.check()
    else:
        kind = kinds.searched_with(where, index_params)
        _, rows, how = open_rows(where, index_params, dataset, places[0].device)
    if n_shards > rows.n_rows:
        raise bad_value(where, "devices", f"be at most the {rows.n_rows} rows", n_shards)
    parts = cut_evenly(rows.n_rows, n_shards)

    def train(backend: Backend, part: arrays.Rows, quiet: bool) -> TrainedModels | None:
        show = progress and not quiet
        return _models(where, index_params, backend, part, how, centers, pq_centers, show)

    shared = train(places[0], rows, quiet=False) if scope == "shared" else None
    threads = {place.device: ThreadPoolExecutor(1, place.device) for place in places}

    def fill(place: int) -> Partition:
        backend, cut = places[place], parts[place % n_shards]
        part, ids = rows.part(cut.start, cut.stop), np.arange(cut.start, cut.stop)
        models = shared if scope == "shared" else train(backend, part, quiet=place > 0)
        if models is None:
            whole = brute_force.build_part(backend, part, how, ids)
            return Partition(backend, whole, threads[backend.device])
        core = training.build_part(backend, models, part, ids, progress=progress and place == 0)
        return Partition(backend, core, threads[backend.device])

    with ThreadPoolExecutor(len(places)) as pool:
        futures = [pool.submit(fill, place) for place in range(len(places))]
        names = [f"partition {i % n_shards} on {place.device}" for i, place in enumerate(places)]
        made = gather(where, names, futures)
    shards = tuple(tuple(made[s::n_shards]) for s in range(n_shards))
    return ShardedIndex(how, rows.dim, shards, kind, shared is not None)


def _models(
    where: str,
    params: IvfIndexParams | str,
    backend: Backend,
    rows: arrays.Rows,
    how: Metric,
    centers: Any,
    pq_centers: Any,
    progress: bool,
) -> TrainedModels | None:
    """Given or trained quantisers; None for brute force, which has none."""
    if isinstance(params, str):
        return None
    if centers is not None:
        return kinds.given_models(where, params, rows.dim, how, centers, pq_centers)
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
    validate.instance(where, "search_params", search_params, index.searched_with)
    n_probes = search_params.n_probes if search_params else 1
    limit = search_params.workspace_limit if search_params else WORKSPACE_LIMIT
    cpu = backends.choose(where, "cpu")

    def run(x: HostArray, k: int) -> Found:
        return _search(cpu, index, x, k, n_probes, limit)

    shape = SearchShape(cpu, index.metric, index.dim, len(index))
    there = _holder(index, queries)
    if there is None:
        return run_search(where, shape, queries, k, neighbors, distances, run)
    wanted = *queries.shape[:1], validate.n_results(where, k)
    arrays.check_output(where, "distances", distances, wanted, np.float32, on_device=True)
    arrays.check_output(where, "neighbors", neighbors, wanted, np.int64, on_device=True)
    found = run_search(where, shape, queries, k, None, None, run)
    with there.active():
        dists, ids = there.put(found[0]), there.put(found[1])
        return arrays.output(distances, dists), arrays.output(neighbors, ids)


def _search(
    cpu: Backend, index: ShardedIndex, x: HostArray, k: int, n_probes: int, limit: int
) -> Found:
    """All partitions at once -> merged scan distances (n, k), ids (n, k)."""
    probed = None
    if index.has_one_model and len(index.shards) > 1:
        probed = _probe(index, x, n_probes, limit)
    parts = cut_evenly(len(x), min(len(index.shards[0]), max(1, len(x))))
    # partitions of one device take turns with the same queries, so each helps the next
    work: dict[tuple[int, str], list[tuple[int, Partition]]] = {}
    for s, replicas in enumerate(index.shards):
        idle_first = sorted(replicas, key=lambda replica: replica.busy)
        for cut, replica in zip(range(len(parts)), idle_first, strict=False):
            work.setdefault((cut, replica.backend.device), []).append((s, replica))
    names, futures = [], []
    for (cut, device), some in work.items():
        part = parts[cut]
        lists = None if probed is None else ivf.Probed(*(a[part] for a in probed))
        names.append(f"partition {', '.join(str(s) for s, _ in some)} on {device}")
        turns = [replica for _, replica in some]
        futures.append(scan_in_turn(cpu, turns, x[part], k, n_probes, limit, lists))
    answers = gather("shards.search", names, futures)
    return merged(cpu, [cut for cut, _ in work], answers, len(parts), k)


def _probe(index: ShardedIndex, x: HostArray, n_probes: int, limit: int) -> ivf.Probed:
    """The lists of every query, found once: each device looks for some of the queries."""
    by_device = {replica.backend.device: replica for shard in index.shards for replica in shard}
    finders = list(by_device.values())
    parts = cut_evenly(len(x), min(len(finders), max(1, len(x))))
    used = finders[: len(parts)]
    futures = [
        finder.probe(x[part], n_probes, limit) for finder, part in zip(used, parts, strict=True)
    ]
    names = [f"the search for lists on {finder.backend.device}" for finder in used]
    found = gather("shards.search", names, futures)
    columns = zip(*found, strict=True)
    return ivf.Probed(*(np.concatenate(column) for column in columns))


def _devices(where: str, devices: Sequence[str], n_replicas: Any) -> list[Backend]:
    n_replicas = validate.integer(where, "n_replicas", n_replicas, 1)
    if isinstance(devices, str) or not len(devices):
        raise bad_value(where, "devices", "be a list of devices", repr(devices))
    if len(devices) % n_replicas:
        rule = f"be a multiple of n_replicas={n_replicas}"
        raise bad_value(where, "the number of devices", rule, len(devices))
    return [backends.choose(where, device) for device in devices]


def _holder(index: ShardedIndex, queries: Any) -> Backend | None:
    """The backend that device queries are on, None for host queries."""
    if not arrays.on_cuda(queries):
        return None
    held = [replica.backend for replicas in index.shards for replica in replicas]
    return next((backend for backend in held if backend.holds(queries)), None)
