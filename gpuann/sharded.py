"""A sharded index, and how a batch is searched on all its partitions at once."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuann import arrays, ivf
from gpuann.arrays import HostArray
from gpuann.backends import Backend
from gpuann.metric import Metric
from gpuann.partitions import Found, Partition, cut_evenly, gather, merged, scan_in_turn
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


def search(
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


def holder(index: ShardedIndex, queries: Any) -> Backend | None:
    """The backend that device queries are on, None for host queries."""
    if not arrays.on_cuda(queries):
        return None
    held = [replica.backend for replicas in index.shards for replica in replicas]
    return next((backend for backend in held if backend.holds(queries)), None)
