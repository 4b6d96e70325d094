"""A sharded index, and how a batch is searched on all its partitions at once."""

import functools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from gpuann import arrays, backends, kinds, validate
from gpuann.arrays import HostArray
from gpuann.backends import Backend
from gpuann.codecs import vectors
from gpuann.distributed.file_parts import FileParts
from gpuann.distributed.reshard import check_same, given_shards, id_cuts, run_of_ids
from gpuann.distributed.shard import Part, Shard, distinct
from gpuann.engine import ivf, survivors
from gpuann.engine.plan import cut_evenly
from gpuann.errors import bad_value
from gpuann.filters import Filter
from gpuann.index import SearchShape
from gpuann.index import search as run_search
from gpuann.metric import Metric
from gpuann.partitioned.partitions import Asked, Found, Partition, gather, merged, scan_in_turn
from gpuann.trained import TrainedModels


@dataclass(frozen=True, eq=False, repr=False)
class ShardedIndex:
    """Partitions of one data set, each with its replicas: immutable."""

    metric: Metric
    dim: int
    shards: tuple[tuple[Partition, ...], ...]
    """shards[s][r]: replica r of partition s."""
    models: tuple[TrainedModels | None, ...]
    """Of each partition: the same object for all where they share one; None for brute force."""
    next_id: int
    """More than every id that a row of it ever had."""

    def __len__(self) -> int:
        return sum(len(replicas[0]) for replicas in self.shards)

    @property
    def has_one_model(self) -> bool:
        """Whether the lists that a query probes are the same on every partition."""
        return self.models[0] is not None and all(m is self.models[0] for m in self.models)

    @property
    def devices(self) -> list[list[str]]:
        """The devices of each partition's replicas."""
        return [[replica.backend.device for replica in replicas] for replicas in self.shards]

    def __repr__(self) -> str:
        rows = f"{len(self):,} rows, dim {self.dim}, {self.metric}"
        return f"shards.ShardedIndex({rows}, {self.devices})"


def place(
    where: str, shards: Iterable[Shard], devices: Sequence[str], n_replicas: int, scope: str
) -> ShardedIndex:
    """An index of shards on devices, see `shards.from_shards`."""
    shards = given_shards(where, shards)
    validate.one_of(where, "scope", scope, ("shared", "independent"))
    places = backends_of(where, devices, n_replicas)
    n_parts, first = len(places) // n_replicas, shards[0]
    distinct(where, np.concatenate([shard.ids for shard in shards]))
    runs: list[tuple[int, int]] = []
    if scope == "shared":
        check_same(where, shards)
        if n_parts != len(shards):
            runs = id_cuts(where, [shard.ids for shard in shards], n_parts)
    else:
        check_comparable(where, shards)
        if n_parts > len(shards):
            raise bad_value(where, "devices", f"be at most the {len(shards)} shards", n_parts)

    def fill(place: int, number: int) -> Made:
        shard = run_of_ids(shards, *runs[number]) if runs else shards[number]
        models = first.models if scope == "shared" else shard.models
        return shard.on(places[place]), models

    n_shards = n_parts if scope == "shared" else len(shards)
    on = [[s % n_parts + r * n_parts for r in range(n_replicas)] for s in range(n_shards)]
    shape, next_id = (first.metric, first.dim), max(shard.next_id for shard in shards)
    return assemble(where, *shape, places, on, fill, next_id, at_once=1)


def place_parts(
    where: str, parts: FileParts, places: list[Backend], n_replicas: int
) -> ShardedIndex:
    """An index of files in as many parts as there are places for, one read at a time."""
    n_parts, first = len(places) // n_replicas, parts.first
    held: dict[int, Shard] = {}  # the last one read: its replicas come one after the other

    def fill(place: int, number: int) -> Made:
        if number not in held:
            held.clear()
            held[number] = parts.read(number)
        return held[number].on(places[place]), first.models

    on = [[s + r * n_parts for r in range(n_replicas)] for s in range(n_parts)]
    shape = first.metric, first.dim
    return assemble(where, *shape, places, on, fill, parts.next_id, at_once=1)


Made = tuple[Part, TrainedModels | None]
"""A part of an index on a device, and its models."""


def assemble(
    where: str,
    how: Metric,
    dim: int,
    places: list[Backend],
    on: list[list[int]],
    fill: Callable[[int, int], Made],
    next_id: int,
    *,
    at_once: int,
) -> ShardedIndex:
    """fill(place, shard) for the places on[shard] of every shard, so many at once."""
    threads = {place.device: ThreadPoolExecutor(1, place.device) for place in places}
    work = [(place, shard) for shard, its_places in enumerate(on) for place in its_places]
    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(fill, *item) for item in work]
        names = [f"partition {shard} on {places[place].device}" for place, shard in work]
        made = gather(where, names, futures)
    held: list[list[Partition]] = [[] for _ in on]
    for (place, shard), (part, _) in zip(work, made, strict=True):
        backend = places[place]
        held[shard].append(Partition(backend, part, threads[backend.device]))
    models = {shard: its_own for (_, shard), (_, its_own) in zip(work, made, strict=True)}
    shards = tuple(tuple(replicas) for replicas in held)
    return ShardedIndex(how, dim, shards, tuple(models[s] for s in range(len(on))), next_id)


def check_comparable(where: str, shards: Sequence[Shard]) -> None:
    """Raise unless distances to the rows of all shards mean the same."""
    first = shards[0]
    want = kinds.name_of(first.models), first.metric, first.dim
    for number, shard in enumerate(shards):
        got = kinds.name_of(shard.models), shard.metric, shard.dim
        if got != want:
            rule = "be {}, {}, dim {}, as the first".format(*want)
            raise bad_value(where, f"shard {number}", rule, "{}, {}, dim {}".format(*got))


def backends_of(where: str, devices: Sequence[str], n_replicas: Any) -> list[Backend]:
    """The devices by their names, so many of them that every shard is held n_replicas times."""
    n_replicas = validate.integer(where, "n_replicas", n_replicas, 1)
    if not isinstance(devices, list | tuple) or not devices:
        raise bad_value(where, "devices", 'be a list of devices, as ["cpu"]', repr(devices))
    if len(devices) % n_replicas:
        rule = f"be a multiple of n_replicas={n_replicas}"
        raise bad_value(where, "the number of devices", rule, len(devices))
    return [backends.choose(where, device) for device in devices]


def search(
    cpu: Backend, index: ShardedIndex, x: HostArray, asked: Asked, lists: HostArray | None = None
) -> Found:
    """All partitions at once -> merged scan distances (n, k), ids (n, k). lists (n, n_probes) int32
    are those of each query, if the caller chose them.
    """
    return whole(index.metric, x, scan(cpu, index, x, asked, lists))


def whole(how: Metric, x: HostArray, found: Found) -> Found:
    """What was merged of all parts of an index, as the answer to queries x (n, dim)."""
    if how == "cosine":  # after the merge: it makes ties of what was in order
        return found[0] + vectors.without_direction(x)[:, None], found[1]
    return found


def scan(
    cpu: Backend, index: ShardedIndex, x: HostArray, asked: Asked, lists: HostArray | None = None
) -> Found:
    """`search` of some of the partitions of an index, for who merges it with the others'."""
    probed = None
    if lists is not None:
        probed = _to_lists(index, x, lists)
    elif index.has_one_model and len(index.shards) > 1 and not asked.exhaustive:
        probed = _probe(index, x, asked.n_probes, asked.workspace_limit)
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
        own = None if probed is None else ivf.Probed(*(a[part] for a in probed))
        names.append(f"partition {', '.join(str(s) for s, _ in some)} on {device}")
        turns = [replica for _, replica in some]
        scan = functools.partial(scan_in_turn, cpu, turns, x[part], part, asked, own)
        futures.append(turns[0].submit(len(x[part]), scan, beside=turns[1:]))
    answers = gather("shards.search", names, futures)
    return merged(cpu, [cut for cut, _ in work], answers, len(parts), asked.k)


def is_exhaustive(
    models: TrainedModels | None, n_rows: int, dim: int, kept: Filter, n_probes: int
) -> bool:
    """Whether all rows that a filter keeps are compared, of an index of n_rows in parts, with the
    models of the first: the same on every partition.
    """
    n_lists, width = (1, dim) if models is None else models.centers.shape
    return survivors.is_exhaustive(kept, n_rows, width, n_lists, n_probes)


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


def _to_lists(index: ShardedIndex, x: HostArray, lists: HostArray) -> ivf.Probed:
    """The given lists of every query with their distances, which are the same on all partitions."""
    finder = index.shards[0][0]
    core, backend = cast("ivf.Core", finder.part), finder.backend

    def work() -> ivf.Probed:
        found = ivf.to_lists(core, x, backend.put(lists))
        return ivf.Probed(*(backend.get(a) for a in found))

    name = f"the distances to the lists on {backend.device}"
    probed: ivf.Probed = gather("shards.search", [name], [finder.submit(len(x), work)])[0]
    return probed


def answer(
    where: str,
    cpu: Backend,
    index: ShardedIndex,
    queries: Any,
    k: int,
    neighbors: Any,
    distances: Any,
    run: Callable[[HostArray, int], Found],
) -> tuple[Any, Any]:
    """Check a search's arguments, run it on the host's queries, answer where the queries are."""
    shape = SearchShape(cpu, index.metric, index.dim, len(index))
    there = holder(index, queries)
    if there is None:
        return run_search(where, shape, queries, k, neighbors, distances, run)
    wanted = *queries.shape[:1], validate.n_results(where, k)
    arrays.check_output(where, "distances", distances, wanted, np.float32, on_device=True)
    arrays.check_output(where, "neighbors", neighbors, wanted, np.int64, on_device=True)
    found = run_search(where, shape, queries, k, None, None, run)
    with there.active():
        dists, ids = there.put(found[0]), there.put(found[1])
        return arrays.output(distances, dists), arrays.output(neighbors, ids)


def holder(index: ShardedIndex, queries: Any) -> Backend | None:
    """The backend that device queries are on, None for host queries."""
    if not arrays.on_cuda(queries):
        return None
    held = [replica.backend for replicas in index.shards for replica in replicas]
    return next((backend for backend in held if backend.holds(queries)), None)
