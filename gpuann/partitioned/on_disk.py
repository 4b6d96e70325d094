"""A sharded index in a folder: saved, loaded onto any number of devices, extended."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpuann import validate
from gpuann._nvtx import annotate
from gpuann.arrays import HostArray
from gpuann.distributed.file_parts import FileParts
from gpuann.distributed.folder import (
    change,
    given_folder,
    no_index_yet,
    open_files,
    open_shard,
    write_each,
    write_shard,
)
from gpuann.distributed.manifest import Manifest, exists, read_manifest, reading
from gpuann.distributed.shard import Shard, build_part, shard_of
from gpuann.distributed.shard_file import KIND, REFINED, models_in
from gpuann.errors import bad_value
from gpuann.partitioned import sharded
from gpuann.partitioned.sharded import ShardedIndex
from gpuann.storage import StoredFile


@annotate("shards.save")
def save(folder: Any, index: ShardedIndex, *, replace: bool = False) -> None:
    """Write an index into a folder: a file for each partition and a manifest.

    Parameters
    ----------
    folder : path, made if it is not there
    index : ShardedIndex
    replace : bool, default False
        Whether an index that is there already may be replaced: readers see one or the other.

    Notes
    -----
    Any number of devices loads it. What is cut off in the middle leaves the folder as it was.
    """
    where = "shards.save"
    validate.instance(where, "index", index, ShardedIndex)
    place = given_folder(where, folder)
    if exists(place) and not replace:
        raise no_index_yet(where, place)
    parts = zip(index.models, index.shards, strict=True)
    made = (shard_of(models, replicas[0].part, next_id=index.next_id) for models, replicas in parts)
    shared = index.has_one_model or index.models[0] is None
    scope = "shared" if shared else "independent"
    change(where, place, write_each(place, made), scope, of_all=replace, fresh=not replace)


@annotate("shards.load")
def load(
    folder: Any, devices: Sequence[str], *, n_replicas: int = 1, verify: bool = True
) -> ShardedIndex:
    """The index of a folder, or of one index file, on any number of devices; see `from_shards`.

    Parameters
    ----------
    folder : path; that of a file which ivf_flat.save and the like wrote is cut by rows
    devices : list of {"cpu", "cuda", "cuda:N"}; a device may come several times
    n_replicas : int, default 1; devices that hold each partition
    verify : bool, default True; compare the checksums of all files first, which reads them once

    Notes
    -----
    Cost   with as many partitions as files each has one; else every list is cut evenly, and each
           partition's rows, and no others, are read from the files. A checksum is that of a whole
           array: with `verify` all files are read once more, 64 MiB at a time, whatever the number
           of devices. Without it those of the centres, codebooks and sizes of lists are compared.
    Memory one partition at a time on the host, beside the index.
    """
    where = "shards.load"
    places = sharded.backends_of(where, devices, n_replicas)
    n_parts = len(places) // n_replicas
    if isinstance(folder, str | Path) and Path(folder).is_file():
        file = StoredFile(where, Path(folder), KIND, REFINED)
        if file.kind == REFINED:
            way_out = "load it with gpuann.load, and save its `inner` by itself"
            raise bad_value(where, str(folder), "hold an index alone", "rows beside it", way_out)
        if verify:
            file.verify()
        return sharded.place_parts(where, FileParts(where, [file], n_parts), places, n_replicas)
    place = given_folder(where, folder)

    def read(manifest: Manifest) -> tuple[Manifest, list[Shard] | FileParts]:
        if manifest.scope == "shared" and n_parts != len(manifest.shards):
            files = open_files(where, place, manifest, verify=verify)
            return manifest, FileParts(where, files, n_parts)
        entries = manifest.shards
        return manifest, [open_shard(where, place, e, mapped=True, verify=verify) for e in entries]

    manifest, found = reading(where, place, read)
    if isinstance(found, FileParts):
        return sharded.place_parts(where, found, places, n_replicas)
    return sharded.place(where, found, devices, n_replicas, manifest.scope)


@annotate("shards.extend")
def extend(
    folder: Any,
    dataset: Any,
    ids: Any = None,
    *,
    non_finite: str = "raise",
    device: str | None = None,
    progress: bool = False,
) -> HostArray:
    """Add rows to the index of a folder, as one more shard of its models.

    Parameters
    ----------
    folder : path, of an index of scope "shared"
    dataset : array (n_rows, dim) or chunks of rows, as `distributed.build_part` takes them
    ids : array (n_rows,) of integers, optional
        Their names; one that is there already is refused. Default: on from the largest that a row
        of the index ever had.
    non_finite : {"raise", "drop"}, default "raise"; as in `distributed.build_part`
    device : {"cpu", "cuda", "cuda:N"}, optional; default: CUDA if there is one
    progress : bool, default False; bars, if standard error is a terminal

    Returns
    -------
    ids (n_rows,) int64, ascending, of the rows that were added

    Notes
    -----
    Readers see all of the rows or none; an index that is loaded does not see them: load it again.
    Every shard holds the models too, and many small ones make searches slower:
    `distributed.compact_folder` makes one of them, `distributed.rebalance_folder` a few.
    """
    where = "shards.extend"
    place = given_folder(where, folder)
    manifest = read_manifest(where, place)
    if manifest.scope != "shared":
        way_out = "train models, build_part and commit a shard of its own"
        raise bad_value(where, str(place), 'be of scope "shared"', f'"{manifest.scope}"', way_out)
    file = reading(where, place, lambda now: StoredFile(where, place / now.shards[0].file, KIND))
    first = reading(where, place, lambda now: _next_id(where, place, now))
    shard = build_part(
        models_in(file) or file.about["metric"],
        dataset,
        first if ids is None else ids,
        non_finite=non_finite,
        device=device,
        progress=progress,
    )
    while True:
        try:
            change(where, place, [write_shard(place, shard)], "shared")
            return np.sort(shard.ids)
        except ValueError:
            next_id = reading(where, place, lambda now: _next_id(where, place, now))
            if ids is not None or next_id == first:
                raise
            # another process took these ids: on from its own
            names = shard.ids + (next_id - first)
            shard = dataclasses.replace(shard, lists=shard.lists._replace(ids=names))
            first = next_id


def _next_id(where: str, place: Path, manifest: Manifest) -> int:
    """More than every id that a row of the index in a folder ever had."""
    files = (StoredFile(where, place / entry.file, KIND) for entry in manifest.shards)
    return max(manifest.next_id, *(file.about.get("next_id", 0) for file in files))
