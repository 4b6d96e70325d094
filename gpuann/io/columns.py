"""Formats with named parts: HDF5, Arrow and Parquet, Lance; each by its own library."""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from gpuann import atomic
from gpuann.arrays import HostArray
from gpuann.errors import BackendError, bad_type, bad_value, message
from gpuann.io.chunks import Chunks, parsing, rows_at_once


def _library(where: str, name: str, extra: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        way_out = f"pip install 'gpuann[{extra}]'"
        raise BackendError(
            message(where, name, "be installed", "no such package", way_out)
        ) from None


def open_hdf5(where: str, path: Path, name: str, rows: slice = slice(None)) -> Chunks:
    """One data set of an HDF5 file, as ann-benchmarks has them, or a run of its rows."""
    h5py = _library(where, "h5py", "io")
    with parsing(where, path), h5py.File(path, "r") as file:
        found = file.get(name)
        if not isinstance(found, h5py.Dataset):
            known = ", ".join(k for k in file if isinstance(file[k], h5py.Dataset))
            raise bad_value(where, "column", f"be one of {known} of {path}", repr(name))
        shape, dtype = found.shape, found.dtype
    if len(shape) != 2 or dtype.kind not in "fiu":
        raise bad_value(where, f"{path} {name}", "hold numbers (n, dim)", f"{dtype} {shape}")

    first, stop, _ = rows.indices(shape[0])

    def read() -> Iterator[HostArray]:
        step = rows_at_once(shape[1] * dtype.itemsize)
        with parsing(where, path), h5py.File(path, "r") as file:
            for at in range(first, stop, step):
                yield file[name][at : min(at + step, stop)]

    return Chunks((stop - first, shape[1]), dtype, read, f"{path.name} {name}")


def write_hdf5(where: str, path: Path, rows: Chunks, name: str) -> None:
    """A file with one data set; of a file that is there, the others stay."""
    h5py = _library(where, "h5py", "io")
    with _beside(path) as hidden:
        if path.exists():
            shutil.copyfile(path, hidden)
        with h5py.File(hidden, "a") as file:
            if name in file:
                del file[name]
            made = file.create_dataset(name, rows.shape, rows.dtype)
            at = 0
            for piece in rows():
                made[at : at + len(piece)] = piece
                at += len(piece)


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")


class _beside:  # noqa: N801 - a context, as a function would be
    """A name beside a path, which becomes the path when the block ends well."""

    def __init__(self, path: Path) -> None:
        self._path, self._hidden = path, _hidden(path)

    def __enter__(self) -> Path:
        return self._hidden

    def __exit__(self, kind: Any, *_: Any) -> None:
        try:
            if kind is None:
                with self._hidden.open("rb") as file:
                    os.fsync(file.fileno())
                self._hidden.replace(self._path)
                atomic.sync_folder(self._path.parent)
        finally:
            self._hidden.unlink(missing_ok=True)


def open_table(
    where: str, path: Path, suffix: str, column: str | None, fragment: int | None = None
) -> Chunks:
    """One column of lists of an Arrow or a Parquet file or of a Lance data set, or of one of its
    fragments.
    """
    arrow = _library(where, "pyarrow", "io")
    source, fragments = _table(where, path, suffix)
    with parsing(where, path):
        if fragment is None:
            return _of_dataset(where, path, arrow, source, column)
        parts = fragments()
        if fragment >= len(parts):
            raise bad_value(where, str(path), f"have more than {fragment} fragments", len(parts))
        part = _Fragment(arrow, parts[fragment], source.schema)
        return _of_dataset(where, path, arrow, part, column)


def fragment_rows(where: str, path: Path, suffix: str) -> list[int]:
    """Rows of each part that can be read by itself: row groups of Parquet, fragments of Lance."""
    _, fragments = _table(where, path, suffix)
    with parsing(where, path):
        return [_rows_in(part) for part in fragments()]


def _table(where: str, path: Path, suffix: str) -> tuple[Any, Callable[[], list[Any]]]:
    """A file as something with Arrow's schema and batches, and what gives its fragments."""
    if suffix == ".lance":
        lance = _library(where, "lance", "lance")
        with parsing(where, path):
            whole = lance.dataset(str(path))
        return whole, lambda: list(whole.get_fragments())
    dataset = _library(where, "pyarrow.dataset", "io")
    form = "parquet" if suffix == ".parquet" else "ipc"
    with parsing(where, path):
        source = dataset.dataset(path, format=form)

    def fragments() -> list[Any]:
        files = list(source.get_fragments())
        return files if form == "ipc" else [g for f in files for g in f.split_by_row_group()]

    return source, fragments


def _rows_in(part: Any) -> int:
    """Of a fragment: one of row groups counts the rows of its whole file."""
    groups = getattr(part, "row_groups", None)
    return int(part.count_rows()) if groups is None else sum(int(g.num_rows) for g in groups)


class _Fragment:
    """A fragment with what `_of_dataset` asks of a data set."""

    def __init__(self, arrow: ModuleType, part: Any, schema: Any) -> None:
        self.schema, self._arrow, self._part = schema, arrow, part
        self.to_batches = part.to_batches

    def count_rows(self) -> int:
        """How many rows it has."""
        return _rows_in(self._part)

    def head(self, n: int, columns: list[str]) -> Any:
        """Its first rows as a table."""
        batches = self._part.to_batches(columns=columns, batch_size=n)
        return self._arrow.Table.from_batches([next(iter(batches))])


def _of_dataset(
    where: str, path: Path, arrow: ModuleType, source: Any, column: str | None
) -> Chunks:
    """Anything with Arrow's schema, count_rows and to_batches."""
    types = arrow.types
    lists = [
        field.name
        for field in source.schema
        if types.is_fixed_size_list(field.type)
        or types.is_list(field.type)
        or types.is_large_list(field.type)
    ]
    if column is None and len(lists) != 1:
        rule = f"be named, of {path} with columns of lists {', '.join(lists) or 'none'}"
        raise bad_value(where, "column", rule, column)
    name = lists[0] if column is None else column
    if name not in lists:
        raise bad_value(where, "column", f"be one of {', '.join(lists)} of {path}", repr(name))
    n = source.count_rows()
    first = next((b for b in source.head(1, columns=[name]).to_batches() if len(b)), None)
    if first is None:
        raise bad_value(where, str(path), "have at least one row", 0)
    example = _rows_of(where, path, name, first.column(0), 0, None)
    dim, dtype = example.shape[1], example.dtype

    def read() -> Iterator[HostArray]:
        step, at = rows_at_once(dim * dtype.itemsize), 0
        with parsing(where, path):
            for batch in source.to_batches(columns=[name], batch_size=min(step, 1 << 16)):
                if len(batch):
                    yield _rows_of(where, path, name, batch.column(0), at, dim)
                    at += len(batch)

    return Chunks((n, dim), dtype, read, f"{path.name} {name}")


def _rows_of(
    where: str, path: Path, name: str, column: Any, first: int, dim: int | None
) -> HostArray:
    """A column of lists of one length -> (n, dim)."""
    at = f"{path} {name}"
    if column.null_count:
        missing = first + int(np.flatnonzero(np.asarray(column.is_null()))[0])
        raise bad_value(where, at, "have a list in every row", f"none in row {missing}")
    values = column.flatten()
    if values.null_count:
        raise bad_value(where, at, "have a number in every place", "a missing one")
    numbers = values.to_numpy(zero_copy_only=False)
    if numbers.dtype.kind not in "fiu":
        raise bad_type(where, at, "hold numbers", numbers.dtype)
    width = dim or (len(numbers) // len(column) if len(column) else 0)
    fixed = getattr(column.type, "list_size", None)
    lengths = None if fixed is not None else np.diff(np.asarray(column.offsets))
    if (
        width == 0
        or len(numbers) != width * len(column)
        or (lengths is not None and (lengths != width).any())
    ):
        raise bad_value(where, at, f"have lists of {width} numbers", "lists of another length")
    return np.ascontiguousarray(numbers.reshape(len(column), width))


def _batches(arrow: ModuleType, rows: Chunks, name: str) -> tuple[Any, Iterator[Any]]:
    """Arrow's schema and record batches of one column."""
    of = arrow.list_(arrow.from_numpy_dtype(rows.dtype), rows.shape[1])
    schema = arrow.schema([(name, of)])

    def made() -> Iterator[Any]:
        for piece in rows():
            values = arrow.array(np.ascontiguousarray(piece).reshape(-1))
            lists = arrow.FixedSizeListArray.from_arrays(values, rows.shape[1])
            yield arrow.RecordBatch.from_arrays([lists], schema=schema)

    return schema, made()


def write_arrow(where: str, path: Path, suffix: str, rows: Chunks, name: str) -> None:
    """A file with one column of lists of one length."""
    arrow = _library(where, "pyarrow", "io")
    schema, batches = _batches(arrow, rows, name)
    with _beside(path) as hidden:
        if suffix == ".parquet":
            parquet = _library(where, "pyarrow.parquet", "io")
            with parquet.ParquetWriter(hidden, schema) as writer:
                for batch in batches:
                    writer.write_batch(batch)
        else:
            with (
                arrow.OSFile(str(hidden), "wb") as sink,
                arrow.ipc.new_file(sink, schema) as writer,
            ):
                for batch in batches:
                    writer.write_batch(batch)


def write_lance(where: str, path: Path, rows: Chunks, name: str) -> None:
    """A data set with one column of lists; of one that is there, another version."""
    arrow, lance = _library(where, "pyarrow", "io"), _library(where, "lance", "lance")
    schema, batches = _batches(arrow, rows, name)
    reader = arrow.RecordBatchReader.from_batches(schema, batches)
    if path.exists():  # readers have the old version until the new one is whole
        lance.write_dataset(reader, str(path), mode="overwrite")
        return
    hidden = _hidden(path)
    try:
        lance.write_dataset(reader, str(hidden), mode="create")
        hidden.replace(path)
        atomic.sync_folder(path.parent)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
