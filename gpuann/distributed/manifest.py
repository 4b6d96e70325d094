"""The manifest of an index on disk: which shards belong to it; read and replaced in one step."""

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gpuann import atomic, metric
from gpuann.arrays import HostArray
from gpuann.distributed.shard_file import read_ids
from gpuann.errors import bad_value
from gpuann.trained import fingerprint

try:
    import fcntl
except ImportError:  # Windows: one writer at a time, as the docstring of `commit` says
    fcntl = None  # type: ignore[assignment]

MANIFEST = "manifest.json"
VERSION = 1
_NAME = re.compile(r"shard-[0-9a-f]{32}\.safetensors")
T = TypeVar("T")


@dataclass(frozen=True)
class ShardEntry:
    """What the manifest says of one shard; plain values, that travel as JSON or in a pickle."""

    file: str
    kind: str
    metric: str
    dim: int
    fingerprint: str
    dtype: str
    """Of a stored row, or of its codes."""
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


def exists(folder: Any) -> bool:
    """Whether a folder has an index."""
    return (Path(folder) / MANIFEST).exists()


def read_manifest(where: str, folder: Any) -> Manifest:
    """The manifest of the index in a folder."""
    path = Path(folder) / MANIFEST
    try:
        text = json.loads(path.read_text())
        found, version = text["format"], text["version"]
    except (FileNotFoundError, NotADirectoryError):
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
        for entry in shards:
            check_name(where, entry.file)
    except (KeyError, TypeError, ValueError) as error:
        raise bad_value(where, str(path), "be whole", f"a damaged one: {error!r}") from None
    return manifest


def reading(where: str, folder: Any, read: Callable[[Manifest], T]) -> T:
    """read(manifest), once more if the index was changed meanwhile and files are gone."""
    while True:
        manifest = read_manifest(where, folder)
        try:
            return read(manifest)
        except (ValueError, OSError):
            if read_manifest(where, folder) == manifest:
                raise


def check_entries(where: str, manifest: Manifest) -> None:
    """Raise unless all shards can be searched together."""
    first = manifest.shards[0]
    metric.check(where, first.metric)
    for entry in manifest.shards:
        want = f"{first.kind}, {first.metric}, dim {first.dim}"
        got = f"{entry.kind}, {entry.metric}, dim {entry.dim}"
        if got != want:
            raise bad_value(where, entry.file, f"be {want}, as the first", got)
        if entry.dtype != first.dtype:
            way_out = f"convert the rows with astype(numpy.{first.dtype})"
            raise bad_value(where, "rows", f"be {first.dtype}, as the index'", entry.dtype, way_out)
        if manifest.scope == "shared" and entry.fingerprint != first.fingerprint:
            rule = f"have the models {first.fingerprint} of the first"
            way_out = 'build it with those, or make an index of scope="independent"'
            raise bad_value(where, entry.file, rule, entry.fingerprint, way_out)


def check_ids(where: str, folder: Path, manifest: Manifest, new: Sequence[ShardEntry]) -> None:
    """Raise if a new shard has an id in common with another; reads the ids where ranges overlap."""
    ordered = sorted(manifest.shards, key=lambda entry: entry.first_id)
    reach: list[ShardEntry] = []  # shards that the next one may overlap ...
    held: dict[str, HostArray] = {}  # ... and the ids of those that did: each file is read once

    def ids_of(entry: ShardEntry) -> HostArray:
        if entry.file not in held:
            held[entry.file] = read_ids(where, folder / entry.file)
        return held[entry.file]

    for entry in ordered:
        reach = [other for other in reach if other.last_id >= entry.first_id]
        held = {other.file: held[other.file] for other in reach if other.file in held}
        for other in reach:
            if entry not in new and other not in new:
                continue  # looked at when they came
            both = np.intersect1d(ids_of(entry), ids_of(other), assume_unique=True)
            if len(both):
                got = f"{both[0]}, which {other.file} has too"
                raise bad_value(where, "ids", "be those of no other row of the index", got)
        reach.append(entry)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest of a folder in one step; for who is `alone`."""
    text = {
        "format": "gpuann shards",
        "version": VERSION,
        "scope": manifest.scope,
        "n_rows": manifest.n_rows,
        "shards": [asdict(entry) for entry in manifest.shards],
        "checksum": _checksum(manifest),
    }
    atomic.write_text(folder / MANIFEST, json.dumps(text, indent=1) + "\n")


def _checksum(manifest: Manifest) -> str:
    return fingerprint(manifest.scope, *(str(asdict(entry)) for entry in manifest.shards))


def check_name(where: str, file: object) -> None:
    """Raise unless a file's name is one that shards have, in the folder itself."""
    if not isinstance(file, str) or not _NAME.fullmatch(file):
        rule = "be named shard-, 32 hexadecimal digits, .safetensors"
        raise bad_value(where, "the file of a shard", rule, repr(file))


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One writer of the manifest at a time."""
    if fcntl is None:
        yield
        return
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)  # let go of when the file is closed, also by a crash
        yield
