"""Builds of an index on disk, from data and within memory of any proportion."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gpuann import arrays, backends, kinds, training, validate
from gpuann import metric as metrics
from gpuann._nvtx import annotate
from gpuann._progress import bar
from gpuann.arrays import HostArray
from gpuann.codecs import payloads
from gpuann.distributed.compact import merge_files
from gpuann.distributed.folder import (
    change,
    drop_unlisted,
    given_folder,
    no_index_yet,
    write_shard,
)
from gpuann.distributed.manifest import Manifest, ShardEntry, exists
from gpuann.distributed.sampling import usable
from gpuann.distributed.shard import store
from gpuann.engine import building
from gpuann.errors import bad_type, bad_value
from gpuann.params import IvfIndexParams
from gpuann.trained import TrainedModels

MEMORY_LIMIT = 1 << 30
LEAST_MEMORY = 1 << 28
_TILES = 48 << 20  # of two threads and of BLAS; shares of the rest of memory_limit:
# a chunk in flight has some ten float32 copies, a sample five
_CHUNK, _SAMPLE, _SHARD, _MERGE, _MODELS = 1 / 24, 1 / 6, 1 / 3, 1 / 6, 1 / 4
_MODEL_COPIES = 8  # centres, their sums in float64, means
_BESIDE_ROW = 60  # bytes: its list, order, place, id, norm, and what sorting takes


@annotate("streamed.build")
def build(
    index_params: IvfIndexParams | str,
    dataset: Any,
    folder: Any,
    *,
    memory_limit: int = MEMORY_LIMIT,
    non_finite: str = "raise",
    replace: bool = False,
    device: str | None = None,
    progress: bool = False,
) -> Manifest:
    """Train on a sample, store the rows shard by shard in a folder, merge the shards there.

    Parameters
    ----------
    index_params : IndexParams of ivf_flat, ivf_pq or ivf_sq, or a metric's name for brute force
    dataset : array (n_rows, dim), float32, float16, int8 or uint8, a memory-map, or chunks of rows:
        a list of arrays, a function that returns an iterator, or an iterator, which is written to
        the folder first, for it can be read only once
    folder : path, made if it is not there
    memory_limit : int, default 1073741824
        Bytes that the build may take beside the chunks that are handed to it. With less it trains
        on fewer rows, and sorts the others into lists in more steps.
    non_finite : {"raise", "drop"}, default "raise"; as in `distributed.build_part`
    replace : bool, default False; whether an index that is there already may be replaced
    device : {"cpu", "cuda", "cuda:N"}, optional; default: CUDA if there is one
    progress : bool, default False; bars, if standard error is a terminal

    Returns
    -------
    Manifest : row i of the data set has id i. `streamed.open` searches it where it is,
        `shards.load` in memory.

    Notes
    -----
    Cost   the data are read four times: counted (an iterator: written), checked, sampled, stored.
    Disk   twice the index, until it is done.
    Memory memory_limit on the host and 20 MB for each thread beyond two, and as much on the device.
           Pages of a memory-map are the system's, beside it.
    Order  same seed, same data, same memory_limit: the same index.
    """
    where = "streamed.build"
    validate.one_of(where, "non_finite", non_finite, ("raise", "drop"))
    room = validate.integer(where, "memory_limit", memory_limit, LEAST_MEMORY) - _TILES
    path = given_folder(where, folder)
    if exists(path) and not replace:
        raise no_index_yet(where, path)
    backend = backends.choose(where, device)
    path.mkdir(parents=True, exist_ok=True)
    with _readable(where, dataset, path) as data:
        rows = arrays.Rows(where, "dataset", data)
        rows.chunk_floats = max(rows.dim, int(room * _CHUNK) // 4)
        if non_finite == "raise":
            rows.check()
        if isinstance(index_params, str):
            metrics.check(where, index_params)
            models: TrainedModels | str = index_params
        else:
            models = _train(where, backend, index_params, rows, room, non_finite, progress)
        written: list[ShardEntry] = []
        try:
            for first, part in _parts(rows, _rows_of_a_shard(models, rows, room), progress):
                if non_finite == "drop" and not usable(part).any():
                    continue
                some = arrays.Rows(where, "dataset", part)
                some.chunk_floats = rows.chunk_floats
                names = np.arange(first, first + len(part))
                shard = store(where, backend, models, some, names, drop=non_finite == "drop")
                written.append(write_shard(path, shard))
            if not written:
                raise bad_value(where, "dataset", "have a row that is finite", "none")
            new = written
            if isinstance(models, TrainedModels) and len(written) > 1:
                new = [merge_files(where, path, written, int(room * _MERGE))]
            return change(where, path, new, "shared", of_all=replace, fresh=not replace)
        finally:
            drop_unlisted(path, written)


def _train(
    where: str,
    backend: backends.Backend,
    params: IvfIndexParams,
    rows: arrays.Rows,
    room: int,
    non_finite: str,
    progress: bool,
) -> TrainedModels:
    """Models of a sample that fits."""
    kinds.check_build(where, params)
    how, shape = metrics.check(where, params.metric), kinds.code_shape(where, params, rows.dim)
    good = rows
    if non_finite == "drop":
        good = arrays.Rows(where, "dataset", _finite_chunks(rows))
        good.chunk_floats = rows.chunk_floats
    wanted = training.rows_wanted(params, shape)
    most = min(wanted, int(room * _SAMPLE) // (4 * rows.dim))
    needed = 4 * params.n_lists * rows.dim
    least = max(needed / _SAMPLE, needed * _MODEL_COPIES / _MODELS)
    if room < least:
        rule = f"be at least {int(least) + _TILES} for n_lists={params.n_lists}"
        raise bad_value(where, "memory_limit", rule, room + _TILES)
    if params.n_lists > good.n_rows:
        rule = f"be at most the {good.n_rows} rows of dataset"
        raise bad_value(where, "n_lists", rule, params.n_lists)
    fraction = params.kmeans_trainset_fraction
    sample = building.draw_sample(good, how, fraction, params.n_lists, most, params.seed)
    return training.train_sample(backend, sample, params, how, shape, progress=progress)


def _rows_of_a_shard(models: TrainedModels | str, rows: arrays.Rows, room: int) -> int:
    """So many that they and what is made of them fit."""
    raw = rows.dim * rows.dtype.itemsize
    stored = raw
    if isinstance(models, TrainedModels):
        stored = payloads.row_bytes(models, raw)
    return max(1, int(room * _SHARD) // (raw + stored + _BESIDE_ROW))


def _parts(rows: arrays.Rows, n: int, progress: bool) -> Iterator[tuple[int, HostArray]]:
    """(first row, rows (at most n, dim)) in order; an array is valid until the next one."""
    held = np.empty((min(n, rows.n_rows), rows.dim), rows.dtype)
    first = filled = 0
    total = -(-rows.n_rows * rows.dim // rows.chunk_floats)
    for _, chunk in bar(rows.chunks(), "storing", show=progress, total=total):
        at = 0
        while at < len(chunk):
            taken = min(len(held) - filled, len(chunk) - at)
            held[filled : filled + taken] = chunk[at : at + taken]
            at, filled = at + taken, filled + taken
            if filled == len(held):
                yield first, held
                first, filled = first + filled, 0
    if filled:
        yield first, held[:filled]


def _finite_chunks(rows: arrays.Rows) -> Callable[[], Iterator[HostArray]]:
    return lambda: (chunk[usable(chunk)] for _, chunk in rows.chunks())


@contextlib.contextmanager
def _readable(where: str, dataset: Any, folder: Path) -> Iterator[Any]:
    """The data as something that can be read again and again: chunks that can be read only once are
    written to a file of the folder, which goes in the end.
    """
    if not arrays.is_one_shot(dataset):
        yield dataset
        return
    with tempfile.TemporaryFile(dir=folder) as file:
        sizes: list[tuple[int, int]] = []
        dtype, name = np.dtype(np.float32), "every chunk of dataset"
        for chunk in dataset:
            array = np.ascontiguousarray(arrays.as_host(where, name, chunk))
            validate.matrix(where, name, array, sizes[0][1] if sizes else None)
            if sizes and array.dtype != dtype:
                raise bad_type(where, name, f"be {dtype}", array.dtype)
            dtype = array.dtype
            if len(array) == 0:
                continue
            sizes.append(array.shape)
            file.write(array.data.cast("B"))

        def chunks() -> Iterator[HostArray]:
            file.seek(0)
            for shape in sizes:
                out = np.empty(shape, dtype)
                file.readinto(out.data.cast("B"))
                yield out

        yield chunks
