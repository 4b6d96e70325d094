"""What the workers do in a build: functions that can be pickled, of one part or one shard each."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gpuann import arrays, backends
from gpuann._version import __version__
from gpuann.arrays import HostArray
from gpuann.dask.inputs import opened
from gpuann.distributed.folder import entry_of
from gpuann.distributed.manifest import ShardEntry
from gpuann.distributed.reshard import merge
from gpuann.distributed.sampling import Sample, merge_bounds, sample_part, usable
from gpuann.distributed.shard import Shard, names_of, store
from gpuann.distributed.shard_file import save_shard
from gpuann.distributed.train import train_local
from gpuann.params import IvfIndexParams
from gpuann.trained import TrainedModels

WHERE = "dask.build"


class Given(NamedTuple):
    """What a build was asked for, as far as a part's tasks want it."""

    metric: str
    non_finite: str
    device: str | None


def about(device: str | None, mark: Path) -> dict[str, Any]:
    """Where a worker is: its version of gpuann, and whether it sees the folder; raises if it has
    not got the device or cannot write there.
    """
    backends.choose(WHERE, device)
    seen = mark.exists()
    if seen:
        with mark.open("ab"):
            pass
    return {"version": __version__, "folder": seen}


def check(handle: Any, first: int) -> None:
    """Raise at the first row of a part that is not finite; it is named by its number of all."""
    arrays.Rows(WHERE, "dataset", opened(handle)).check(first)


def draw(handle: Any, first: int, part: int, n_rows: int, seed: int, given: Given) -> Sample:
    """The training rows of a part."""
    if given.non_finite == "raise":
        check(handle, first)
    return sample_part(opened(handle), n_rows, metric=given.metric, part=part, seed=seed)


def join(samples: list[Sample]) -> Sample:
    """Samples of neighbours as one."""
    x = np.concatenate([sample.x for sample in samples])
    n_dropped = sum(sample.n_dropped for sample in samples)
    bounds = merge_bounds([sample.bounds for sample in samples])
    return Sample(samples[0].metric, x, bounds, n_dropped)


def train(samples: list[Sample], index_params: IvfIndexParams, device: str | None) -> TrainedModels:
    """The models, in one place."""
    return train_local(index_params, samples, device=device)


def encode(
    handle: Any, models: TrainedModels | str, names: HostArray | int, first: int, given: Given
) -> Shard | None:
    """A part, stored; None where no row of it is left. `names` are its ids, or the first one."""
    rows = arrays.Rows(WHERE, "dataset", opened(handle))
    drop = given.non_finite == "drop"
    if not drop:
        rows.check(first)
    elif not any(usable(chunk).any() for _, chunk in rows.chunks()):
        return None
    ids = names_of(WHERE, "ids", names, rows.n_rows)
    backend = backends.choose(WHERE, given.device)
    return store(WHERE, backend, models, rows, ids, drop=drop)


def write(parts: list[Shard | None], folder: Path, name: str) -> ShardEntry | None:
    """The parts of a shard put together and written; None where no row is left. It can be done
    again: the file has the same name and is there in one step.
    """
    some = [part for part in parts if part is not None]
    if not some:
        return None
    shard = some[0] if len(some) == 1 else merge(some)
    save_shard(folder / name, shard)
    return entry_of(name, shard)
