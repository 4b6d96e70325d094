"""An index on a cluster: loaded from a folder onto workers, searched, moved."""

import asyncio
import dataclasses
from typing import Any

from distributed import Client

from gpuann import kinds, validate
from gpuann._nvtx import annotate
from gpuann.arrays import HostArray
from gpuann.dask import clients
from gpuann.dask.batching import Batcher
from gpuann.dask.holder import Stored
from gpuann.dask.params import ServeParams
from gpuann.dask.serving import Serving, workers_of
from gpuann.dask.sources import cut
from gpuann.distributed.folder import given_folder
from gpuann.distributed.manifest import read_manifest
from gpuann.distributed.shard_file import KIND, models_in
from gpuann.metric import Metric, check
from gpuann.partitioned import sharded
from gpuann.partitioned.sharded import ShardedIndex
from gpuann.storage import StoredFile
from gpuann.trained import TrainedModels


class Found(tuple[Any, Any]):
    """(distances, ids), and how much of the index they are of."""

    coverage: float
    """Share of the rows that was searched: below 1 where shards were lost and `on_loss` allows."""

    def __new__(cls, distances: HostArray, ids: HostArray, coverage: float) -> "Found":
        """As a tuple of two."""
        made = super().__new__(cls, (distances, ids))
        made.coverage = coverage
        return made


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class DaskIndex:
    """Shards on the workers of a cluster, each n_replicas times."""

    client: Client
    metric: Metric
    dim: int
    models: TrainedModels | None
    """None for brute force; of the first shard where each has its own."""
    next_id: int
    """More than every id that a row of it has."""
    serving: Serving
    sources: tuple[Stored, ...]
    scope: str
    batcher: Batcher = dataclasses.field(default_factory=Batcher)

    def __len__(self) -> int:
        return sum(shard.n_rows for shard in self.serving.shards)

    def __repr__(self) -> str:
        rows = f"{len(self):,} rows, dim {self.dim}, {self.metric}"
        n_shards = len(self.serving.shards)
        kind = kinds.name_of(self.models)
        return f"dask.DaskIndex({kind}, {rows}, {n_shards} shards x {self.n_replicas})"

    @property
    def n_replicas(self) -> int:
        """Workers that are to hold each shard."""
        return self.serving.n_replicas

    @property
    def workers(self) -> list[list[str]]:
        """The workers that hold each shard now."""
        return [[one.worker for one in shard.alive] for shard in self.serving.shards]

    def stats(self) -> dict[str, Any]:
        """Calls, hedges, retries, lost and reloaded replicas, latencies of each shard."""
        return self.serving.counters.as_dict()

    def rebalance(self, n_replicas: int | None = None, workers: Any = None) -> Any:
        """Place the shards anew on the workers that are there now, or on the given ones.

        Workers may have come or gone. Replicas stay where they are as far as loads stay even, ids
        and answers do not change, and searches go on. Name the workers that stay before some are
        retired: Dask cannot retire one that holds an actor.
        """
        n = self.n_replicas if n_replicas is None else n_replicas
        n = validate.integer("dask.rebalance", "n_replicas", n, 1)

        async def run() -> None:
            there = await workers_of(self.client)
            await self.serving.rebalance(clients.among("dask.rebalance", workers, there), n)

        return self.client.sync(run)

    def settled(self) -> Any:
        """Wait for replicas that are loaded in the background in place of lost ones."""
        return self.client.sync(self.serving.settled)

    def close(self) -> Any:
        """Let the workers go of the shards. The cluster and the folder stay."""
        return self.client.sync(self.serving.close)

    def to_local(self, devices: Any = ("cpu",), *, n_replicas: int = 1) -> ShardedIndex:
        """The same index in this process, on any number of devices; see `shards.from_shards`."""
        where = "dask.DaskIndex.to_local"
        clients.outside_the_loop(where, self.client)
        some: list[Any] = []
        for source in self.sources:
            some += source.read()
        return sharded.place(where, some, list(devices), n_replicas, self.scope)


@annotate("dask.load")
def load(
    folder: Any,
    *,
    client: Client | None = None,
    n_shards: int | None = None,
    n_replicas: int = 1,
    device: str | None = None,
    serve: ServeParams | None = None,
    workers: Any = None,
) -> Any:
    """The index of a folder on the workers of a cluster, whatever their number.

    Parameters
    ----------
    folder : path that every worker sees; as `shards.save`, `streamed.build` or
        `distributed.commit` wrote it. Its files are read again when a worker is lost, so they stay.
    client : distributed.Client, optional; default: the one that is there
    n_shards : int, optional
        Parts that are searched at the same time; default: as many as workers. Whole files are put
        together, or cut by ids where there are fewer; answers do not depend on it. Of files with a
        model each (scope "independent") every one is a shard.
    n_replicas : int, default 1
        Workers that hold each shard, different ones.
    device : {"cpu", "cuda", "cuda:N"}, optional; default: CUDA on the workers that have it
    serve : ServeParams, optional; when to ask a second replica, what to do when none is left
    workers : list of addresses, optional; default: all

    Returns
    -------
    DaskIndex; of an asynchronous client, what is awaited for it

    Notes
    -----
    Memory a worker holds its shards in memory of its own, outside of Dask's store, so that they
           are never spilled. The client holds the models and no rows; where files are to be cut,
           it reads the ids of all rows once.
    """
    where = "dask.load"
    there = clients.given_client(where, client)
    place, params = given_folder(where, folder).absolute(), serve or ServeParams()
    validate.instance(where, "serve", params, ServeParams)
    n_replicas = validate.integer(where, "n_replicas", n_replicas, 1)
    if n_shards is not None:
        n_shards = validate.integer(where, "n_shards", n_shards, 1)
    manifest = read_manifest(where, place)

    about = manifest.shards[0]
    how, models = check(where, about.metric), models_in(StoredFile(where, place / about.file, KIND))

    async def run() -> DaskIndex:
        told = await there.run(clients.about_worker, device, place, on_error="return")
        found = clients.sound_workers(where, told, place)
        used = clients.among(where, workers, found)
        # beside the loop: ids of files that are cut are read
        sources, rows = await asyncio.to_thread(cut, where, place, manifest, n_shards, len(used))
        serving = Serving(there, how, sources, device, params)
        await serving.start(rows, n_replicas, used)
        shape = how, about.dim, models, manifest.next_id
        return DaskIndex(there, *shape, serving, tuple(sources), manifest.scope)

    return there.sync(run)
