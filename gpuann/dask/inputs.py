"""What a build on a cluster is made of: blocks of a dask.array, files, futures, an array here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Future

from gpuann import arrays, io, validate
from gpuann.dask.engine import Engine
from gpuann.errors import bad_type, bad_value
from gpuann.io.pieces import Piece

_BLOCK_BYTES = 1 << 26  # of an array here that goes to the workers
_FEWEST_ROWS, _MOST_BLOCKS = 1 << 13, 64


@dataclass(frozen=True)
class Part:
    """Some rows of a data set, and where they are."""

    handle: Any
    """What a task is given: a Piece, a Future, or a Delayed."""
    name: str
    """For people."""
    n_rows: int
    dim: int
    dtype: str


def parts_of(engine: Engine, dataset: Any, column: str | None) -> list[Part]:
    """The parts of a data set in order, those without rows left out."""
    where = engine.where
    if column is not None and not _is_files(dataset):
        raise bad_type(where, "column", "be None for data that are not files", repr(column))
    if hasattr(dataset, "dask") and hasattr(dataset, "to_delayed"):
        parts = _of_dask(engine, dataset)
    elif _is_files(dataset):
        parts = _of_files(engine, dataset, column)
    elif isinstance(dataset, list | tuple) and any(isinstance(one, Future) for one in dataset):
        for one in dataset:
            validate.instance(where, "every part of dataset", one, Future)
        parts = _measured(engine, list(dataset), [f"future {i}" for i in range(len(dataset))])
    else:
        parts = _of_array(engine, dataset)
    return _alike(where, [part for part in parts if part.n_rows])


def _is_files(dataset: Any) -> bool:
    some = dataset if isinstance(dataset, list | tuple) else [dataset]
    return len(some) > 0 and all(isinstance(one, str | Path) for one in some)


def _of_files(engine: Engine, dataset: Any, column: str | None) -> list[Part]:
    """Looked into by the workers, which is where they are."""
    paths = dataset if isinstance(dataset, list | tuple) else [dataset]
    some = [str(Path(path).absolute()) for path in paths]
    asked = [engine.start(_pieces, path, column) for path in some]
    found: list[list[Piece]] = engine.ask("looking into files", asked)
    return [
        Part(p, f"{p.path}, rows from {p.first} on", p.n_rows, p.dim, p.dtype)
        for pieces in found
        for p in pieces
    ]


def _of_dask(engine: Engine, dataset: Any) -> list[Part]:
    """A block of rows is a part: computed where it is wanted, once to draw, once to store."""
    if dataset.ndim != 2:
        raise bad_value(engine.where, "dataset", "have shape (n, dim)", dataset.shape)
    if dataset.numblocks[1] != 1:
        dataset = dataset.rechunk({1: -1})
    blocks = dataset.to_delayed()[:, 0].tolist()
    names = [f"block {i}" for i in range(len(blocks))]
    sizes, dim = dataset.chunks[0], dataset.shape[1]
    if np.isnan([*sizes, dim]).any():
        return _measured(engine, blocks, names)
    about = int(dim), str(dataset.dtype)
    rows = zip(blocks, names, sizes, strict=True)
    return [Part(block, name, int(n), *about) for block, name, n in rows]


def _of_array(engine: Engine, dataset: Any) -> list[Part]:
    """Rows of this process, sent to the workers in blocks that depend on their number alone."""
    rows = arrays.Rows(engine.where, "dataset", dataset)
    about = rows.dim, str(rows.dtype)
    most = max(1, _BLOCK_BYTES // (rows.dim * rows.dtype.itemsize))
    step = min(most, max(_FEWEST_ROWS, -(-rows.n_rows // _MOST_BLOCKS)))
    parts: list[Part] = []
    for first, chunk in rows.chunks(step * rows.dim):
        there = engine.client.scatter(np.array(chunk), hash=False)
        parts.append(Part(there, f"rows from {first} on", len(chunk), *about))
    return parts


def _measured(engine: Engine, handles: list[Any], names: list[str]) -> list[Part]:
    named = list(zip(handles, names, strict=True))
    found = engine.ask("measuring", [engine.start(_size_of, h, name=name) for h, name in named])
    return [Part(h, name, *size) for (h, name), size in zip(named, found, strict=True)]


def _alike(where: str, parts: Sequence[Part]) -> list[Part]:
    if not parts:
        raise bad_value(where, "dataset", "have at least one row", "none")
    first = parts[0]
    if first.dtype not in validate.DTYPES:
        rule, way_out = f"be one of {', '.join(validate.DTYPES)}", "convert it with astype(float32)"
        raise bad_type(where, f"dataset, {first.name},", rule, first.dtype, way_out)
    for part in parts:
        if part.dim != first.dim:
            rule = f"have shape (n, {first.dim}), as {first.name}"
            raise bad_value(where, f"dataset, {part.name},", rule, (part.n_rows, part.dim))
        if part.dtype != first.dtype:
            rule = f"be {first.dtype}, as {first.name}"
            raise bad_type(where, f"dataset, {part.name},", rule, part.dtype)
    return list(parts)


# What runs on workers.


def opened(handle: Any) -> Any:
    """The rows of a part where it is: an array, or chunks."""
    return handle.open() if isinstance(handle, Piece) else handle


def _pieces(path: str, column: str | None) -> list[Piece]:
    return io.pieces(path, column=column)


def _size_of(block: Any) -> tuple[int, int, str]:
    validate.matrix("dask.build", "dataset", block)
    return len(block), block.shape[1], str(block.dtype)
