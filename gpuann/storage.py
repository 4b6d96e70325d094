"""One file of named arrays: the safetensors format, which holds nothing that can be executed.

    8 bytes   length of the header, little endian
    header    JSON: array -> dtype, shape, bytes from-to; "__metadata__" -> texts; then spaces
    data      the arrays, C order, little endian, without gaps, the widest items first

A file is written under another name, synced and renamed, so it is whole or not there. Its metadata
say what it is, which version, and a checksum of every array and of the header.
Format: huggingface.co/docs/safetensors.
"""

import io
import json
import math
import mmap
import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gpuann import checksums
from gpuann.arrays import HostArray
from gpuann.atomic import unseen
from gpuann.errors import bad_value

VERSION = 1
_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "I8": np.int8,
    "U8": np.uint8,
}
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
_LONGEST_HEADER = 100_000_000  # as the format's own reader allows


@dataclass(frozen=True)
class Entry:
    """Where an array lies in a file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    """First byte in the file."""
    checksum: str

    @property
    def n_bytes(self) -> int:
        """Of the array."""
        return self.dtype.itemsize * math.prod(self.shape)

    @property
    def row_bytes(self) -> int:
        """Of one entry of its first axis."""
        return self.dtype.itemsize * math.prod(self.shape[1:])


def write(path: Path, kind: str, about: Mapping[str, Any], named: Mapping[str, HostArray]) -> None:
    """Write arrays with a kind and a JSON-able description; replaces a file of that name."""
    shapes = {name: (array.dtype, array.shape) for name, array in named.items()}
    with create(path, kind, about, shapes) as file, ThreadPoolExecutor(1) as beside:
        for name, array in named.items():
            rows = np.ascontiguousarray(array)
            made = beside.submit(checksums.of, _bytes_of(rows))  # while it is written
            file.put(name, 0, rows)
            file.sums[name] = made.result()


@contextmanager
def create(
    path: Path,
    kind: str,
    about: Mapping[str, Any],
    shapes: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]],
) -> Iterator["NewFile"]:
    """A file to be filled piece by piece; it gets its name when the block ends without an error."""
    entries, start = {}, 0
    for name in sorted(shapes, key=lambda n: (-shapes[n][0].itemsize, n)):
        dtype, shape = shapes[name]
        entries[name] = Entry(dtype, tuple(shape), start, "0" * checksums.DIGITS)
        start += entries[name].n_bytes
    first = len(_header(kind, about, entries))
    placed = {
        name: Entry(e.dtype, e.shape, e.start + first, e.checksum) for name, e in entries.items()
    }
    with unseen(path) as handle:
        handle.truncate(first + start)
        file = NewFile(handle, placed)
        yield file
        sums = {
            name: file.sums.get(name) or checksums.of_file(handle, entry.start, entry.n_bytes)
            for name, entry in placed.items()
        }
        final = {name: Entry(e.dtype, e.shape, e.start, sums[name]) for name, e in entries.items()}
        handle.seek(0)
        handle.write(_header(kind, about, final))


class NewFile:
    """Arrays that are being written; what is not put stays zero."""

    def __init__(self, handle: BinaryIO, entries: dict[str, Entry]) -> None:
        self._handle, self._entries = handle, entries
        self.sums: dict[str, str] = {}
        """Checksums that are known; those of others are made from the file in the end."""

    def put(self, name: str, row: int, rows: HostArray) -> None:
        """Write entries row ... row + len(rows) - 1 of the first axis of an array."""
        entry = self._entries[name]
        self._handle.seek(entry.start + row * entry.row_bytes)
        self._handle.write(_bytes_of(np.ascontiguousarray(rows, entry.dtype)))


class StoredFile:
    """A file's arrays, read when they are asked for; it stays open, so its name may go."""

    def __init__(self, where: str, path: Path, *kinds: str) -> None:
        self.path, self._where = path, where
        try:
            header, first, size = _read_header(path)
            number = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except FileNotFoundError:
            raise bad_value(where, str(path), "be there", "no such file") from None
        except ValueError as error:
            raise self._damaged(str(error)) from None
        weakref.finalize(self, os.close, number)
        self._handle, self._reading = io.FileIO(number, closefd=False), threading.Lock()
        self._map: HostArray | None = None
        texts = header.pop("__metadata__", {})
        said = texts.get("format") if isinstance(texts, dict) else None
        self.kind = next((kind for kind in kinds if said == f"gpuann {kind}"), "")
        """Which of the kinds that were asked for it is."""
        if not self.kind:
            raise bad_value(where, str(path), f"be a gpuann {kinds[0]}", _format_of(texts))
        version = texts.get("version", "")
        if version != str(VERSION):
            rule = f"have format version {VERSION}"
            raise bad_value(where, str(path), rule, version, "use a newer gpuann")
        try:
            self.about: dict[str, Any] = json.loads(texts["about"])
            if not isinstance(self.about, dict):
                raise ValueError("it does not say what it is")
            sums = json.loads(texts["checksums"])
            self.entries = {name: _entry(e, first, sums[name]) for name, e in header.items()}
        except (KeyError, TypeError, ValueError) as error:
            raise self._damaged(f"its header cannot be understood, {error!r}") from None
        if texts.get("header") != _header_checksum(self.kind, self.about, self.entries):
            raise self._wrong("its header")
        end = first
        for entry in sorted(self.entries.values(), key=lambda entry: entry.start):
            if entry.start != end:
                raise self._damaged("its arrays do not follow each other")
            end += entry.n_bytes
        if end != size:
            raise self._damaged(f"{size} bytes instead of {end}")

    def read(self, name: str) -> HostArray:
        """A whole array, its checksum compared."""
        entry = self.entries[name]
        out = np.empty(entry.shape, entry.dtype)
        self.read_rows(name, 0, out)
        if checksums.of(_bytes_of(out)) != entry.checksum:
            raise self._wrong(name)
        return out

    def read_rows(self, name: str, row: int, out: HostArray) -> None:
        """Entries row ... row + len(out) - 1 of the first axis of an array, into out, unchecked."""
        entry = self.entries[name]
        view = _bytes_of(out)
        with self._reading:
            self._handle.seek(entry.start + row * entry.row_bytes)
            done = 0
            while done < len(view):
                got = self._handle.readinto(view[done:])
                if not got:
                    raise self._damaged("it has become shorter")
                done += got

    def map(self, name: str) -> HostArray:
        """A read-only map of an array, unchecked: see `verify`."""
        entry = self.entries[name]
        if not entry.n_bytes:
            return np.empty(entry.shape, entry.dtype)
        with self._reading:
            if self._map is None:  # one for all arrays: each takes a descriptor of the process
                whole = mmap.mmap(self._handle.fileno(), 0, access=mmap.ACCESS_READ)
                self._map = np.frombuffer(whole, np.uint8)
        part = self._map[entry.start : entry.start + entry.n_bytes]
        return part.view(entry.dtype).reshape(entry.shape)

    def verify(self) -> None:
        """Compare the checksums of all arrays; reads the file once, 64 MiB at a time."""
        for name, entry in self.entries.items():
            with self._reading:
                found = checksums.of_file(self._handle, entry.start, entry.n_bytes)
            if found != entry.checksum:
                raise self._wrong(name)

    def _damaged(self, how: str) -> ValueError:
        return bad_value(self._where, str(self.path), "be a whole file", f"a damaged one: {how}")

    def _wrong(self, name: str) -> ValueError:
        rule = f"have the checksum of {name} that it was written with"
        return bad_value(self._where, str(self.path), rule, "another: the file is damaged")


def _header(kind: str, about: Mapping[str, Any], entries: Mapping[str, Entry]) -> bytes:
    head: dict[str, Any] = {
        "__metadata__": {
            "format": f"gpuann {kind}",
            "version": str(VERSION),
            "about": json.dumps(about),
            "checksums": json.dumps({name: entry.checksum for name, entry in entries.items()}),
            "header": _header_checksum(kind, about, entries),
        }
    }
    for name, entry in entries.items():
        span = [entry.start, entry.start + entry.n_bytes]
        head[name] = {
            "dtype": _NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": span,
        }
    text = json.dumps(head).encode()
    text += b" " * (-(8 + len(text)) % 64)  # arrays start at a multiple of 64
    return len(text).to_bytes(8, "little") + text


def _header_checksum(kind: str, about: Mapping[str, Any], entries: Mapping[str, Entry]) -> str:
    arrays = [[name, _NAMES[e.dtype], *e.shape, e.checksum] for name, e in sorted(entries.items())]
    return checksums.of(json.dumps([kind, VERSION, about, arrays], sort_keys=True).encode())


def _read_header(path: Path) -> tuple[dict[str, Any], int, int]:
    """Header, first byte of the data, size of the file."""
    with path.open("rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        length = int.from_bytes(handle.read(8), "little")
        if size < 8 or length > min(size - 8, _LONGEST_HEADER):
            raise ValueError("it is cut short, or no gpuann file")
        header = json.loads(handle.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    return header, 8 + length, size


def _entry(entry: dict[str, Any], first: int, checksum: str) -> Entry:
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    shape, (begin, end) = entry["shape"], entry["data_offsets"]
    numbers = [*shape, begin, end]
    if any(type(x) is not int or not 0 <= x < 1 << 62 for x in numbers) or len(shape) > 8:
        raise ValueError("no sizes")
    made = Entry(dtype, tuple(shape), first + begin, str(checksum))
    if begin + made.n_bytes != end:
        raise ValueError("shape and size differ")
    return made


def _bytes_of(array: HostArray) -> memoryview:
    """The bytes of a C-contiguous array."""
    return memoryview(array.reshape(-1).view(np.uint8).data)


def _format_of(texts: Any) -> str:
    return repr(texts.get("format", "none of ours")) if isinstance(texts, dict) else "none of ours"
