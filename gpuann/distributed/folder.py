"""An index on disk: a folder with one file per shard and a manifest that says which belong to it.

    manifest.json                  scope, and of each shard: file, kind, metric, dim, rows, ids
    shard-3f0c….safetensors        everything that one shard is, its models included

Shard files are written first, by anyone, anywhere; the manifest is replaced last, in one step. So a
reader sees the index before or after, never in between, and files without a line in it are not part
of the index. Nothing here depends on how many devices wrote or will read it.
"""

import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gpuann import kinds, validate
from gpuann.distributed import manifest as manifests
from gpuann.distributed.manifest import Manifest, ShardEntry, read_manifest
from gpuann.distributed.reshard import id_cuts, runs_of_ids
from gpuann.distributed.shard import Shard
from gpuann.distributed.shard_file import KIND, read_shard, save_shard
from gpuann.errors import bad_type, bad_value
from gpuann.storage import StoredFile


def write_shard(folder: Any, shard: Shard) -> ShardEntry:
    """Write a shard's file into a folder, which is made if it is not there -> its entry.

    The index does not have it before `commit`; see `clean_folder` for those that it never gets.
    """
    where = "distributed.write_shard"
    place = given_folder(where, folder)
    validate.instance(where, "shard", shard, Shard)
    place.mkdir(parents=True, exist_ok=True)
    name = new_name()
    try:
        save_shard(place / name, shard)
    except BaseException:
        (place / name).unlink(missing_ok=True)
        raise
    return entry_of(name, shard)


def commit(folder: Any, entries: Iterable[ShardEntry], *, scope: str = "shared") -> Manifest:
    """Add shards that have been written to the index in a folder, or make one.

    Parameters
    ----------
    folder : path
    entries : ShardEntry, one or more, from `write_shard`, wherever that ran; those that the index
        has already make no difference
    scope : {"shared", "independent"}, default "shared"
        As in `shards.build`: shared refuses shards of other models. It must be the folder's.

    Returns
    -------
    Manifest : as it is now

    Notes
    -----
    One step for readers. Several writers wait for each other; on Windows they do not: have one.
    Ids that another shard has are refused: ranges are compared, and where those overlap, the ids.
    """
    where = "distributed.commit"
    validate.one_of(where, "scope", scope, ("shared", "independent"))
    some = list(entries)  # it may be an iterator
    if not some:
        raise bad_value(where, "entries", "be at least one", 0)
    for entry in some:
        validate.instance(where, "every entry", entry, ShardEntry)
    return change(where, folder, some, scope, keep_refused=True)


def change(
    where: str,
    folder: Any,
    new: Sequence[ShardEntry],
    scope: str,
    *,
    instead_of: Sequence[ShardEntry] = (),
    of_all: bool = False,
    fresh: bool = False,
    keep_refused: bool = False,
) -> Manifest:
    """The only way that a manifest changes: new shards come, in one step, and those that they stand
    for go (`of_all`: every one), with their files. Refused where one of them has gone already, and
    with `fresh` where there is an index; the files of `new` go then, but with `keep_refused`.
    """
    place = given_folder(where, folder)
    gone: Sequence[ShardEntry] = () if keep_refused else new
    try:
        for entry in new:
            manifests.check_name(where, entry.file)
            if not (place / entry.file).is_file():
                raise bad_value(where, str(place / entry.file), "be there", "no such file")
        with manifests.alone(place):
            old = _present(where, place, scope, of_all)
            if fresh and old.shards:
                raise no_index_yet(where, place)
            if not of_all and old.scope != scope:
                raise bad_value(where, "scope", f'be that of {place}, "{old.scope}"', repr(scope))
            if not set(instead_of) <= set(old.shards):
                got = "others: another process changed it meanwhile"
                raise bad_value(
                    where, str(place), "have the shards that were read", got, "try again"
                )
            kept = [e for e in old.shards if not (of_all or e in instead_of or e in new)]
            made = Manifest(scope, (*kept, *new))
            manifests.check_entries(where, made)
            manifests.check_ids(where, place, made, new)
            manifests.write_manifest(place, made)
            gone = [entry for entry in old.shards if entry not in made.shards]
        return made
    finally:
        drop_unlisted(place, list(gone))


def _present(where: str, place: Path, scope: str, of_all: bool) -> Manifest:
    """The manifest of a folder, an empty one where there is none, or a damaged one that goes."""
    if not manifests.exists(place):
        return Manifest(scope, ())
    try:
        return read_manifest(where, place)
    except ValueError:
        if of_all:
            return Manifest(scope, ())
        raise


def no_index_yet(where: str, place: Path) -> ValueError:
    """That a folder has an index already."""
    got, way_out = manifests.MANIFEST, "use replace=True"
    return bad_value(where, str(place), "have no index yet", got, way_out)


def open_shards(where: str, folder: Any, *, mapped: bool) -> tuple[Manifest, list[Shard]]:
    """All shards of a folder: read, or with `mapped` verified and mapped, not held in memory."""
    place = given_folder(where, folder)

    def read(manifest: Manifest) -> tuple[Manifest, list[Shard]]:
        return manifest, [
            open_shard(where, place, entry, mapped=mapped) for entry in manifest.shards
        ]

    return manifests.reading(where, place, read)


def open_files(where: str, place: Path, manifest: Manifest, *, verify: bool) -> list[StoredFile]:
    """All files of a folder, which must be what the manifest says; none of their rows is held."""
    files = [StoredFile(where, place / entry.file, KIND) for entry in manifest.shards]
    for file, entry in zip(files, manifest.shards, strict=True):
        if verify:
            file.verify()
        if not _is(file, entry, verify):
            raise bad_value(where, str(file.path), "be as the manifest says", "another shard")
    return files


def _is(file: StoredFile, entry: ShardEntry, verify: bool) -> bool:
    """Whether a file is that of an entry; with `verify` its ids are looked at too."""
    names = file.entries.get("ids")
    if names is None or names.shape != (entry.n_rows,):
        return False
    if verify:
        ids = file.map("ids")
        if (ids.min(), ids.max()) != (entry.first_id, entry.last_id):
            return False
    return bool(file.about.get("fingerprint") == entry.fingerprint)


def open_shard(
    where: str, folder: Path, entry: ShardEntry, *, mapped: bool, verify: bool = True
) -> Shard:
    """One shard of a folder, which must be what the manifest says; see `read_shard`."""
    path = folder / entry.file
    shard = read_shard(where, path, mapped=mapped, verify=verify)
    if entry_of(entry.file, shard) != entry:
        raise bad_value(where, str(path), "be as the manifest says", f"another shard, {shard!r}")
    return shard


def rebalance_folder(folder: Any, n_shards: int) -> Manifest:
    """The rows of the index in a folder in n_shards about equal files, by runs of ids; ids stay.

    Notes
    -----
    Memory one new shard and the ids. Disk: the index twice, until the old files go at the end.
    Shards that others add meanwhile stay as they are; two that move the same rows: one is refused.
    """
    where = "distributed.rebalance_folder"
    manifest, shards = open_shards(where, folder, mapped=True)
    if manifest.scope != "shared":
        raise bad_value(where, str(folder), 'be of scope "shared"', f'"{manifest.scope}"')
    cuts = id_cuts(where, [shard.ids for shard in shards], n_shards)
    written = write_each(folder, runs_of_ids(shards, cuts))
    return change(where, folder, written, "shared", instead_of=manifest.shards)


def write_each(folder: Any, shards: Iterable[Shard]) -> list[ShardEntry]:
    """`write_shard` of several, one held at a time; none is left behind if one fails."""
    written: list[ShardEntry] = []
    try:
        for shard in shards:
            written.append(write_shard(folder, shard))
    except BaseException:
        drop_unlisted(Path(folder), written)
        raise
    return written


def clean_folder(folder: Any, *, older_than: float = 3600.0) -> list[str]:
    """Remove what writers that were cut off left in a folder: shards that no manifest lists, and
    files that never got their name -> the names.

    older_than is in seconds: younger ones may be of a writer that is still at work. They are found
    by their names; other files are left alone.
    """
    where = "distributed.clean_folder"
    place = given_folder(where, folder)
    present = read_manifest(where, place).shards if manifests.exists(place) else ()
    listed, removed = {entry.file for entry in present}, []
    for path in sorted(place.iterdir()):
        unlisted = path.match("shard-*.safetensors") and path.name not in listed
        unnamed = path.match(".shard-*.safetensors.*") or path.match(".manifest.json.*")
        if (unlisted or unnamed) and time.time() - path.stat().st_mtime > older_than:
            path.unlink(missing_ok=True)
            removed.append(path.name)
    return removed


def given_folder(where: str, folder: Any) -> Path:
    """A folder's path as a user gives it."""
    if not isinstance(folder, str | Path):
        raise bad_type(where, "folder", "be a path", type(folder).__name__)
    place = Path(folder)
    if place.exists() and not place.is_dir():
        raise bad_value(where, str(place), "be a folder", "a file")
    return place


def new_name() -> str:
    """A file name that no shard has."""
    return f"shard-{uuid.uuid4().hex}.safetensors"


def entry_of(name: str, shard: Shard) -> ShardEntry:
    """What the manifest says of a shard."""
    low, high = int(shard.ids.min()), int(shard.ids.max())
    about = kinds.name_of(shard.models), shard.metric, shard.dim, shard.fingerprint
    return ShardEntry(name, *about, str(shard.payload[0].dtype), len(shard), low, high)


def drop_unlisted(folder: Path, entries: Sequence[ShardEntry]) -> None:
    """Remove the files of these shards, but for those that the index has."""
    present: Sequence[ShardEntry] = ()
    if manifests.exists(folder):
        present = read_manifest("distributed", folder).shards
    listed = {entry.file for entry in present}
    for entry in entries:
        if entry.file not in listed:
            (folder / entry.file).unlink(missing_ok=True)
