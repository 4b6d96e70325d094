"""An index as one file: every array, its quantisers and what it is.

    ivf_pq.save("words.ann", index)        gpuann.load("words.ann"), on any device, of any kind

The file is what a shard of a folder is: safetensors, nothing in it can be executed, every array has
a checksum. It is written under another name, synced and renamed, so what was there before stays
whole until the new one is.
"""

from pathlib import Path
from typing import Any

from gpuann import backends, foreign, io, kinds, validate
from gpuann._nvtx import annotate
from gpuann.distributed.shard_file import read_index, save_refined, save_shard
from gpuann.errors import bad_type, bad_value
from gpuann.indexes import refined
from gpuann.updates import AnyIndex, as_index, as_shard


@annotate("save")
def save(
    filename: Any,
    index: AnyIndex | refined.Index,
    include_dataset: bool = True,
    *,
    resources: None = None,
) -> None:
    """Write an index to a file, in place of one that is there.

    Parameters
    ----------
    filename : path
    index : Index
    include_dataset : True; cuVS's, the rows are always in the file
    resources : None; cuVS's

    Notes
    -----
    Memory the arrays of an index on a GPU, on the host.
    """
    where = f"{kinds.of_index(index)}.save"
    inner: Any = index.inner if isinstance(index, refined.Index) else index
    if isinstance(index, str | Path) and not isinstance(filename, str | Path):
        raise bad_type(where, "arguments", "be a filename, then an index", "them the other way")
    kinds.check_index(where, inner)
    validate.no_resources(where, resources)
    validate.only(where, "include_dataset", include_dataset, True, "a file holds its rows")
    path = check_target(where, filename)
    if isinstance(index, refined.Index):
        save_refined(path, as_shard(inner), index.dataset)
    else:
        save_shard(path, as_shard(inner))


def check_target(where: str, filename: Any) -> Path:
    """The path of an index file that is to be; raise unless it can be written."""
    path = _given_path(where, filename)
    if path.is_dir():
        raise bad_value(where, str(path), "be the name of a file", "a folder")
    if not path.parent.is_dir():
        raise bad_value(where, str(path.parent), "be a folder", "none of that name")
    return path


@annotate("load")
def load(
    filename: Any, *, device: str | None = None, mmap: bool = False, resources: None = None
) -> Any:
    """The index of a file, of whichever kind it is.

    Parameters
    ----------
    filename : path
    device : {"cpu", "cuda", "cuda:N"}, optional; default: CUDA if there is one
    mmap : bool, default False
        Leave the rows in the file and read them when they are searched; for the CPU. The file may
        be replaced meanwhile, but not changed in place.
    resources : None; cuVS's, work goes to CuPy's current stream

    Returns
    -------
    Index of brute_force, ivf_flat, ivf_pq, ivf_sq or refined

    Raises
    ------
    ValueError
        If the file is damaged (cut short, changed), of a newer version, or no index; it says which,
        and of files of FAISS, NumPy, HDF5 and others what reads them.
    """
    return load_kind("gpuann", None, filename, device=device, mmap=mmap, resources=resources)


def load_kind(
    module: str,
    kind: str | None,
    filename: Any,
    *,
    device: str | None,
    mmap: bool,
    resources: None,
) -> Any:
    """`load` of one kind of index, or of any."""
    where = f"{module}.load"
    validate.no_resources(where, resources)
    path, backend = _given_path(where, filename), backends.choose(where, device)
    try:
        if path.is_dir():
            way_out = "open it with gpuann.shards.load"
            raise bad_value(where, str(path), "be the file of one index", "a folder", way_out)
        shard, dataset = read_index(where, path, mapped=mmap)
    except ValueError:
        other = foreign.kind_of(path, io.SUFFIXES) if path.exists() else None
        if other is None:
            raise
        raise bad_value(where, str(path), "be the file of a gpuann index", *other) from None
    found = kinds.name_of(shard.models) if dataset is None else "refined"
    if kind is not None and found != kind:
        way_out = f"load it with {found}.load, or gpuann.load"
        raise bad_value(where, str(path), f"hold an index of {kind}", f"one of {found}", way_out)
    index = as_index(shard, backend)
    return index if dataset is None else refined.Index(index, dataset)


def _given_path(where: str, filename: Any) -> Path:
    try:
        return Path(filename)
    except TypeError:
        raise bad_type(where, "filename", "be a path", type(filename).__name__) from None
