"""A shard as one file: all its arrays and its models."""

from pathlib import Path
from typing import Any

import numpy as np

from gpuann import kinds, metric, storage
from gpuann.arrays import HostArray
from gpuann.backends import packing
from gpuann.backends.seam import FlatPayload, Lists, Payload
from gpuann.codecs import payloads
from gpuann.distributed import sound
from gpuann.distributed.shard import Shard
from gpuann.errors import bad_value
from gpuann.trained import TrainedModels
from gpuann.validate import DTYPES

KIND = "index"
REFINED = "refined index"  # with the rows beside it, as `dataset`
ROWS = ("ids", "norms", *payloads.ROWS)  # one entry a row: the large ones
_MODELS = ("centers", "shift", "codebooks", "bounds", "scalar", "rotation")  # of TrainedModels


def save_shard(path: Path, shard: Shard) -> None:
    """Write a shard's file."""
    storage.write(path, KIND, about(shard), arrays_of(shard))


def save_refined(path: Path, shard: Shard, dataset: HostArray) -> None:
    """Write the file of a shard and its rows (n_rows, dim), ascending by id."""
    storage.write(path, REFINED, about(shard), {**arrays_of(shard), "dataset": dataset})


def about(shard: Shard) -> dict[str, Any]:
    """What a file says of its shard beside the arrays."""
    return {
        "kind": kinds.name_of(shard.models),
        "metric": shard.metric,
        "dim": shard.dim,
        "fingerprint": shard.fingerprint,
        "n_dropped": shard.n_dropped,
        "next_id": shard.next_id,
        "by_residual": shard.models is None or shard.models.by_residual,
        "parameters": _parameters(shard),
    }


def _parameters(shard: Shard) -> dict[str, Any]:
    """What its build was asked for, as far as the arrays show it: for people who look inside."""
    models = shard.models
    if models is None:
        return {}
    found: dict[str, Any] = {"n_lists": models.n_lists}
    if models.codebooks is not None:
        pq_dim, pq_book_size, pq_len = models.codebooks.shape
        found |= {"pq_dim": pq_dim, "pq_bits": packing.bits_of(pq_book_size), "pq_len": pq_len}
        found["rotation"] = models.rotation is not None
    return found


def arrays_of(shard: Shard) -> dict[str, HostArray]:
    """Every array of a shard by the name that its file gives it."""
    named: dict[str, Any] = {**shard.lists._asdict(), **payloads.rows_of(shard.payload)}
    if shard.models is None:
        named["shift"] = shard.payload[2]
    else:
        for name in _MODELS:
            named[name] = getattr(shard.models, name)
    return {name: array for name, array in named.items() if array is not None}


def read_shard(where: str, path: Path, *, mapped: bool, verify: bool = True) -> Shard:
    """A shard from its file, every checksum compared; `mapped` leaves its rows in the file, whose
    checksums are only looked at with `verify`.
    """
    file = storage.StoredFile(where, path, KIND)
    return _shard(where, path, file.about, _read(file, mapped, verify))


def read_index(where: str, path: Path, *, mapped: bool) -> tuple[Shard, HostArray | None]:
    """`read_shard` of a file that may have the rows beside it, which are None where it has not."""
    file = storage.StoredFile(where, path, KIND, REFINED)
    read = _read(file, mapped, verify=True)
    dataset = read.pop("dataset", None) if file.kind == REFINED else None
    shard = _shard(where, path, file.about, read)
    if file.kind == REFINED:
        shape = None if dataset is None else dataset.shape
        if dataset is None or shape != (len(shard), shard.dim) or str(dataset.dtype) not in DTYPES:
            raise damaged(where, path, f"rows of shape {shape} for ({len(shard)}, {shard.dim})")
    return shard, dataset


def read_head(where: str, file: storage.StoredFile) -> Shard:
    """All of a shard's file but its rows: a shard that has none, with the offsets of the file."""
    large = {name: entry for name, entry in file.entries.items() if name in ROWS}
    small = {name: file.read(name) for name in file.entries if name not in large}
    _check(where, file.path, file.about, {**small, **large})
    none = {name: np.empty((0, *e.shape[1:]), e.dtype) for name, e in large.items()}
    return _made(where, file.path, file.about, {**small, **none})


def _read(file: storage.StoredFile, mapped: bool, verify: bool) -> dict[str, HostArray]:
    if mapped and verify:
        file.verify()
    large = {*ROWS, "dataset"}
    return {
        name: file.map(name) if mapped and name in large else file.read(name)
        for name in file.entries
    }


def read_ids(where: str, path: Path) -> HostArray:
    """The ids of a shard's file (n_rows,) int64."""
    return storage.StoredFile(where, path, KIND).read("ids")


def models_in(file: storage.StoredFile) -> TrainedModels | None:
    """The models of a shard's file, None for brute force."""
    named = {name: file.read(name) for name in _MODELS if name in file.entries}
    return _models(file.about, named)


def _models(said: dict[str, Any], read: dict[str, HostArray]) -> TrainedModels | None:
    if "centers" not in read:
        return None
    how = metric.check("distributed", said["metric"])
    named: Any = {name: read.get(name) for name in _MODELS}
    residual = said.get("by_residual", True)  # files of before scalar codes do not say
    return TrainedModels(how, said["dim"], by_residual=residual, **named)


def _shard(where: str, path: Path, said: dict[str, Any], read: dict[str, HostArray]) -> Shard:
    _check(where, path, said, read)
    return _made(where, path, said, read)


def _check(where: str, path: Path, said: dict[str, Any], arrays: sound.Arrays) -> None:
    wrong = sound.why_not(said, arrays)
    if wrong is not None:
        raise damaged(where, path, wrong)


def damaged(where: str, path: Path, how: str) -> ValueError:
    """That the arrays of a file make no index."""
    return bad_value(where, str(path), "hold an index", f"a damaged one: {how}")


def _made(where: str, path: Path, said: dict[str, Any], read: dict[str, HostArray]) -> Shard:
    how, dim, models = metric.check(where, said["metric"]), said["dim"], _models(said, read)
    lists = Lists(*(read[name] for name in Lists._fields))
    if models is not None:
        payload: Payload = payloads.of_models(models, read)
    else:
        payload = FlatPayload(read["vectors"], read.get("scale"), read.get("shift"))
    n_dropped, next_id = int(said.get("n_dropped", 0)), said.get("next_id", 0)  # not in old files
    shard = Shard(how, dim, models, payload, lists, n_dropped, next_id)
    if shard.fingerprint != said.get("fingerprint"):
        raise damaged(where, path, "quantisers of another fingerprint")
    return shard
