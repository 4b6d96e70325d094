"""An index on disk: a folder with one file per shard and a manifest that says which belong to it.

    manifest.json                  kind, metric, dim, scope, and of each shard: file, rows, ids
    shard-3f0c….safetensors        everything that one shard is, its models included

Shard files are written first, by anyone, anywhere; the manifest is replaced last, in one step. So a
reader sees the index before or after, never in between, and files without a line in it are not part
of the index. Nothing here depends on how many devices wrote or will read it.
"""

import contextlib
import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpuann import kinds, metric, storage, validate
from gpuann.distributed.reshard import id_cuts, run_of_ids
from gpuann.distributed.shard import Shard
from gpuann.distributed.shard_file import read_ids, read_shard, save_shard
from gpuann.errors import bad_value
from gpuann.trained import fingerprint

try:
    import fcntl
except ImportError:  # Windows: one writer at a time, as the docstring of `commit` says
    fcntl = None  # type: ignore[assignment]

MANIFEST = "manifest.json"
VERSION = 1


@dataclass(frozen=True)
class ShardEntry:
    """What the manifest says of one shard; plain values, that travel as JSON or in a pickle."""

    file: str
    kind: str
    metric: str
    dim: int
    fingerprint: str
    n_rows: int
    first_id: int
    last_id: int
    """Its smallest and its largest id."""


@dataclass(frozen=True)
class Manifest:
    """Which shards an index on disk has."""

    scope: str
    """"shared": one model for all; "independent": one each."""
    shards: tuple[ShardEntry, ...]

    @property
    def n_rows(self) -> int:
        """Of all shards."""
        return sum(entry.n_rows for entry in self.shards)

    @property
    def next_id(self) -> int:
        """One more than the largest id."""
        return max(entry.last_id for entry in self.shards) + 1


def write_shard(folder: Any, shard: Shard) -> ShardEntry:
    """Write a shard's file into a folder, which is made if it is not there -> its entry.

    The index does not have it before `commit`.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    name = new_name()
    try:
        save_shard(place / name, shard)
    except BaseException:
        (place / name).unlink(missing_ok=True)
        raise
    return _entry(name, shard)


def new_name() -> str:
    """A file name that no shard has."""
    return f"shard-{uuid.uuid4().hex}.safetensors"


def _entry(name: str, shard: Shard) -> ShardEntry:
    low, high = int(shard.ids.min()), int(shard.ids.max())
    about = kinds.name_of(shard.models), shard.metric, shard.dim, shard.fingerprint
    return ShardEntry(name, *about, len(shard), low, high)


def commit(
    folder: Any, entries: Sequence[ShardEntry], *, scope: str = "shared", replace: bool = False
) -> Manifest:
    """Add shards that have been written to the index in a folder, or make one.

    Parameters
    ----------
    folder : path
    entries : sequence of ShardEntry, from `write_shard`, wherever that ran
    scope : {"shared", "independent"}, default "shared"
        As in `shards.build`: shared refuses shards of other models. It must be the folder's.
    replace : bool, default False; these shards instead of those that there are

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
    place = Path(folder)
    if not entries:
        raise bad_value(where, "entries", "be at least one", 0)
    for entry in entries:
        if not (place / entry.file).is_file():
            raise bad_value(where, f"{place / entry.file}", "be there", "no such file")
    with _alone(place):
        present = (place / MANIFEST).exists() and not replace
        old = read_manifest(where, place) if present else Manifest(scope, ())
        if old.scope != scope:
            raise bad_value(where, "scope", f'be that of {place}, "{old.scope}"', repr(scope))
        new = Manifest(scope, (*old.shards, *entries))
        _check_entries(where, new)
        _check_ids(where, place, new)
        _write_manifest(place, new)
    return new


def read_manifest(where: str, folder: Any) -> Manifest:
    """The manifest of the index in a folder."""
    path = Path(folder) / MANIFEST
    try:
        text = json.loads(path.read_text())
        found, version = text["format"], text["version"]
    except FileNotFoundError:
        rule = f"have a {MANIFEST}, as shards.save writes it"
        raise bad_value(where, str(folder), rule, "none") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise bad_value(where, str(path), "be whole", f"a damaged one: {error!r}") from None
    if found != "gpuann shards":
        raise bad_value(where, str(path), "be of gpuann shards", repr(found))
    if version != VERSION:
        rule = f"have format version {VERSION}"
        raise bad_value(where, str(path), rule, version, "use a newer gpuann")
    try:
        shards = tuple(ShardEntry(**entry) for entry in text["shards"])
        manifest = Manifest(text["scope"], shards)
        if text["checksum"] != _checksum(manifest):
            raise ValueError("its checksum is another")
    except (KeyError, TypeError, ValueError) as error:
        raise bad_value(where, str(path), "be whole", f"a damaged one: {error!r}") from None
    return manifest


def open_shards(where: str, folder: Any, *, mapped: bool) -> tuple[Manifest, list[Shard]]:
    """All shards of a folder: read, or with `mapped` verified and mapped, not held in memory."""
    while True:
        manifest = read_manifest(where, folder)
        try:
            return manifest, [_open(where, folder, entry, mapped) for entry in manifest.shards]
        except ValueError:
            if read_manifest(where, folder) == manifest:
                raise
            # replaced in between, and its old files are gone: read the new one


def _open(where: str, folder: Any, entry: ShardEntry, mapped: bool) -> Shard:
    path = Path(folder) / entry.file
    shard = read_shard(where, path, mapped=mapped)
    if _entry(entry.file, shard) != entry:
        raise bad_value(where, str(path), "be as the manifest says", f"another shard, {shard!r}")
    return shard


def rebalance_folder(folder: Any, n_shards: int) -> Manifest:
    """The rows of the index in a folder in n_shards about equal files, by runs of ids; ids stay.

    Notes
    -----
    Memory one new shard and the ids. Disk: the index twice, until the old files go at the end.
    """
    where = "distributed.rebalance_folder"
    manifest, shards = open_shards(where, folder, mapped=True)
    if manifest.scope != "shared":
        raise bad_value(where, str(folder), 'be of scope "shared"', f'"{manifest.scope}"')
    cuts = id_cuts(where, [shard.ids for shard in shards], n_shards)
    moved = (run_of_ids(shards, low, high) for low, high in cuts)
    return write_all(folder, moved, scope="shared")


def write_all(folder: Any, shards: Iterable[Shard], *, scope: str) -> Manifest:
    """Write shards, one held at a time, and make them the index of a folder in one step; what was
    there before goes. A failure leaves the folder as it was.
    """
    path = Path(folder) / MANIFEST
    old = read_manifest("distributed.write_all", folder).shards if path.exists() else ()
    written: list[ShardEntry] = []
    try:
        for shard in shards:
            written.append(write_shard(folder, shard))
        made = commit(folder, written, scope=scope, replace=True)
    except BaseException:
        drop_unlisted(folder, written)
        raise
    drop_unlisted(folder, old)
    return made


def drop_unlisted(folder: Any, entries: Sequence[ShardEntry]) -> None:
    """Remove the files of these shards, but for those that the index has."""
    path = Path(folder) / MANIFEST
    present = read_manifest("distributed", folder).shards if path.exists() else ()
    listed = {entry.file for entry in present}
    for entry in entries:
        if entry.file not in listed:
            (Path(folder) / entry.file).unlink(missing_ok=True)


def _check_entries(where: str, manifest: Manifest) -> None:
    """Raise unless all shards can be searched together."""
    first = manifest.shards[0]
    metric.check(where, first.metric)
    for entry in manifest.shards:
        want, got = (first.kind, first.metric, first.dim), (entry.kind, entry.metric, entry.dim)
        if got != want:
            rule = "be {}, {}, dim {}, as the first".format(*want)
            raise bad_value(where, entry.file, rule, "{}, {}, dim {}".format(*got))
        if manifest.scope == "shared" and entry.fingerprint != first.fingerprint:
            rule = f"have the models {first.fingerprint} of the first"
            way_out = 'build it with those, or make an index of scope="independent"'
            raise bad_value(where, entry.file, rule, entry.fingerprint, way_out)


def _check_ids(where: str, folder: Path, manifest: Manifest) -> None:
    """Raise if two shards have an id in common; reads the ids where ranges overlap."""
    ordered = sorted(manifest.shards, key=lambda entry: entry.first_id)
    reach: list[ShardEntry] = []  # shards that the next one may overlap
    for entry in ordered:
        reach = [other for other in reach if other.last_id >= entry.first_id]
        if reach:
            ids = read_ids(where, folder / entry.file)
            for other in reach:
                both = np.intersect1d(ids, read_ids(where, folder / other.file))
                if len(both):
                    got = f"{both[0]} in {other.file} too"
                    raise bad_value(where, f"ids of {entry.file}", "be its own", got)
        reach.append(entry)


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    text = {
        "format": "gpuann shards",
        "version": VERSION,
        "scope": manifest.scope,
        "n_rows": manifest.n_rows,
        "shards": [asdict(entry) for entry in manifest.shards],
        "checksum": _checksum(manifest),
    }
    storage.write_text(folder / MANIFEST, json.dumps(text, indent=1) + "\n")


def _checksum(manifest: Manifest) -> str:
    return fingerprint(manifest.scope, *(str(asdict(entry)) for entry in manifest.shards))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One writer of the manifest at a time."""
    if fcntl is None:
        yield
        return
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)  # let go of when the file is closed, also by a crash
        yield
