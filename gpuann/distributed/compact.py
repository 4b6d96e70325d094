"""Many shard files into one, list by list, so that what a search reads lies in a row."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpuann import storage, validate
from gpuann.distributed import blocks
from gpuann.distributed.folder import change, given_folder, new_name
from gpuann.distributed.manifest import Manifest, ShardEntry, reading
from gpuann.distributed.shard_file import KIND, ROWS
from gpuann.errors import bad_value

_MOST_OPEN = 256  # files at once: systems allow 1024 to a process


def compact_folder(folder: Any, *, block_bytes: int = 1 << 26) -> Manifest:
    """All shards of an IVF index on disk in one file; ids and answers stay.

    Parameters
    ----------
    folder : path, of an index of scope "shared"
    block_bytes : int, default 67108864; memory that it takes

    Notes
    -----
    Disk: the index twice, until the old files go at the end. Shards that others add meanwhile stay
    as they are.
    """
    where = "distributed.compact_folder"
    block_bytes = validate.integer(where, "block_bytes", block_bytes, 1)
    place = given_folder(where, folder)

    def merged(manifest: Manifest) -> tuple[Manifest, ShardEntry]:
        first = manifest.shards[0]
        if manifest.scope != "shared" or first.kind == "brute_force":
            rule, got = 'be an IVF index of scope "shared"', f'{first.kind}, "{manifest.scope}"'
            raise bad_value(where, str(place), rule, got)
        return manifest, merge_files(where, place, manifest.shards, block_bytes)

    manifest, entry = reading(where, place, merged)
    return change(where, place, [entry], "shared", instead_of=manifest.shards)


def merge_files(
    where: str, folder: Any, entries: Sequence[ShardEntry], block_bytes: int
) -> ShardEntry:
    """One more file in a folder, with the rows of several; they have one model."""
    if len(entries) > _MOST_OPEN:
        groups = [entries[at : at + _MOST_OPEN] for at in range(0, len(entries), _MOST_OPEN)]
        some: list[ShardEntry] = []
        try:
            for group in groups:
                some.append(merge_files(where, folder, group, block_bytes))
            return merge_files(where, folder, some, block_bytes)
        finally:
            for entry in some:
                (Path(folder) / entry.file).unlink()
    files = [storage.StoredFile(where, Path(folder) / entry.file, KIND) for entry in entries]
    for file in files:
        file.verify()
    sources = [blocks.FileSource(file) for file in files]
    first, rows = files[0], [name for name in ROWS if name in files[0].entries]
    offsets = np.sum([source.offsets for source in sources], axis=0)
    whole = {name: first.read(name) for name in first.entries if name not in rows}
    whole["offsets"] = offsets
    whole["radius"] = np.max([file.read("radius") for file in files], axis=0)
    shapes = {name: (array.dtype, array.shape) for name, array in whole.items()}
    for name in rows:
        found = [source.row(name) for source in sources]
        one = found[0]
        if one is None or any(other != one for other in found):
            raise bad_value(where, str(folder), f"have {name} of one kind in all shards", found)
        shapes[name] = one[0], (int(offsets[-1]), *one[1])
    dropped = sum(file.about["n_dropped"] for file in files)
    next_id = max(file.about.get("next_id", 0) for file in files)
    about_all = first.about | {"n_dropped": dropped, "next_id": next_id}
    name = new_name()
    sizes, wanted = np.diff(offsets), range(len(offsets) - 1)
    with storage.create(Path(folder) / name, KIND, about_all, shapes) as made:
        for array_name, array in whole.items():
            made.put(array_name, 0, array)
        most_rows = max(1, block_bytes // blocks.row_bytes(sources[0], rows))
        for block in blocks.cut(sizes, wanted, most_rows):
            at = int(offsets[block[0].list]) + block[0].start
            n = sum(piece.stop - piece.start for piece in block)
            for array_name in rows:
                dtype, shape = shapes[array_name]
                out = np.empty((n, *shape[1:]), dtype)
                blocks.read_block(sources, array_name, block, out)
                made.put(array_name, at, out)
    low = min(entry.first_id for entry in entries)
    high = max(entry.last_id for entry in entries)
    about = entries[0].kind, entries[0].metric, entries[0].dim, entries[0].fingerprint
    return ShardEntry(name, *about, entries[0].dtype, int(offsets[-1]), low, high)
