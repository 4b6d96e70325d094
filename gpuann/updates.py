"""Changes to an index: each gives a new one, the old one stays as it is for whoever searches it."""

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np

from gpuann import arrays, kinds, training, validate
from gpuann._nvtx import annotate
from gpuann.arrays import HostArray
from gpuann.backends import Backend
from gpuann.codecs import payloads
from gpuann.distributed import reshard
from gpuann.distributed.shard import Shard, distinct, names_of, shard_of, store
from gpuann.errors import bad_type, bad_value, warn
from gpuann.index import IvfIndex
from gpuann.indexes import brute_force
from gpuann.trained import TrainedModels

AnyIndex: TypeAlias = brute_force.Index | IvfIndex
I = TypeVar("I", bound=AnyIndex)


def as_shard(index: AnyIndex) -> Shard:
    """The index on the host, with its models."""
    if isinstance(index, brute_force.Index):
        return shard_of(None, index, next_id=index.next_id)
    with index.backend.active():
        return shard_of(training.models_of(index.core), index.core, next_id=index.next_id)


def as_index(shard: Shard, backend: Backend) -> Any:
    """A shard as an index of its own, on a device."""
    part = shard.on(backend)
    if isinstance(part, brute_force.Index):
        return part
    return kinds.module_of(cast("TrainedModels", shard.models)).Index(part, shard.next_id)


@annotate("extend")
def extend(
    index: I,
    new_vectors: Any,
    new_indices: Any = None,
    *,
    on_duplicate: str = "raise",
    progress: bool = False,
    resources: None = None,
) -> I:
    """An index with more rows, stored with the quantisers that it has.

    Parameters
    ----------
    index : Index
    new_vectors : array (n, dim), as the build takes it
    new_indices : array (n,) of integers, 0 or more, optional
        Their ids; by default on from the largest that a row of the index ever had, so that no id
        comes back when the last rows have been deleted.
    on_duplicate : {"raise", "replace"}, default "raise"
        What to do with ids that are in the index: refuse them, or put the new rows in their place.
    progress : bool, default False; bars, if standard error is a terminal
    resources : None; cuVS's, work goes to CuPy's current stream

    Returns
    -------
    Index : a new one, of the same kind on the same device

    Notes
    -----
    Cost   encoding the new rows; all codes are moved once, through the host.
    The quantisers do not learn: rows unlike those of the build are found less well. `imbalance`
    shows when lists have grown unevenly.
    """
    where = f"{kinds.of_index(index)}.extend"
    validate.no_resources(where, resources)
    kinds.check_index(where, index)
    validate.one_of(where, "on_duplicate", on_duplicate, ("raise", "replace"))
    old = as_shard(index)
    rows = arrays.Rows(where, "new_vectors", new_vectors)
    if rows.dim != index.dim:
        raise bad_value(
            where, "new_vectors", f"have shape (n, {index.dim})", (rows.n_rows, rows.dim)
        )
    held = old.payload[0].dtype
    if payloads.is_whole(old.payload) and rows.dtype != held:
        raise bad_type(where, "new_vectors", f"be {held} as the rows there are", rows.dtype)
    ids = old.next_id if new_indices is None else new_indices
    names = names_of(where, "new_indices", ids, rows.n_rows)
    there = np.isin(old.ids, names)
    if there.any() and on_duplicate == "raise":
        way_out = 'on_duplicate="replace" puts the new rows in their place'
        raise bad_value(where, "new_indices", "be new", f"{int(old.ids[there][0])} again", way_out)
    if there.any():
        old = reshard.select(old, ~there)
    rows.check()
    models: Any = index.metric if old.models is None else old.models
    new = store(where, index.backend, models, rows, names, drop=False, progress=progress)
    new = dataclasses.replace(new, next_id=old.next_id)  # all of the old may have been replaced
    some = [old, new] if len(old) else [new]
    made: I = as_index(reshard.merge(some), index.backend)
    return made


@annotate("transform")
def transform(
    index: IvfIndex, input_dataset: Any, *, resources: None = None
) -> tuple[HostArray, HostArray]:
    """The lists and the codes that rows would get, without storing them.

    Parameters
    ----------
    index : Index of ivf_pq or ivf_sq
    input_dataset : array (n, dim), as the build takes it
    resources : None; cuVS's, work goes to CuPy's current stream

    Returns
    -------
    labels (n,) int32, codes (n, code_bytes) uint8, or (n, dim) int8 of ivf_sq, on the host
    """
    where = f"{kinds.of_index(index)}.transform"
    validate.no_resources(where, resources)
    kinds.check_index(where, index)
    if isinstance(index, brute_force.Index) or payloads.is_whole(index.core.payload):
        raise bad_type(where, "index", "be of ivf_pq or ivf_sq", kinds.of_index(index))
    rows = arrays.Rows(where, "input_dataset", input_dataset)
    if rows.dim != index.dim:
        got = rows.n_rows, rows.dim
        raise bad_value(where, "input_dataset", f"have shape (n, {index.dim})", got)
    rows.check()
    models, names = as_shard(index).models, np.arange(rows.n_rows)
    stored = store(where, index.backend, cast("TrainedModels", models), rows, names, drop=False)
    back = np.argsort(stored.ids)
    codes = payloads.rows_of(stored.payload)["codes"]
    return reshard.labels_of(stored)[back].astype(np.int32), codes[back]


@annotate("delete")
def delete(index: I, ids: Any, *, missing: str = "warn") -> I:
    """An index without some rows.

    Parameters
    ----------
    index : Index
    ids : array (n,) of integers
    missing : {"warn", "ignore", "raise"}, default "warn"
        What to do if ids are not in the index; the message counts them.

    Returns
    -------
    Index : a new one; the rows are gone from it, and their memory with it

    Notes
    -----
    Cost   what stays is copied once, through the host. A filter leaves rows out without a copy.
    """
    where = f"{kinds.of_index(index)}.delete"
    kinds.check_index(where, index)
    validate.one_of(where, "missing", missing, ("warn", "ignore", "raise"))
    old = as_shard(index)
    gone = np.unique(names_of(where, "ids", ids, None))
    n_missing = int((~np.isin(gone, old.ids)).sum())
    if n_missing and missing == "raise":
        raise bad_value(where, "ids", "be in the index", f"{n_missing} of {len(gone)} that are not")
    if n_missing and missing == "warn":
        warn(f"{where}: {n_missing} of {len(gone)} ids are not in the index")
    keep = ~np.isin(old.ids, gone)
    if not keep.any():
        raise bad_value(where, "ids", "leave a row in the index", "all of them", "drop the index")
    made: I = as_index(_selected(old, keep), index.backend)
    return made


def _selected(old: Shard, keep: HostArray) -> Shard:
    """Some rows of a shard; brute force is about another origin then."""
    left = reshard.select(old, keep)
    return reshard.merge([left]) if old.models is None else left


@annotate("compact")
def compact(index: I) -> I:
    """The index stored as its build would have stored what it holds now.

    `extend` and `delete` leave no gaps, but bounds of rounding errors that are of rows which have
    gone. A search is the same before and after, and may be faster after.
    """
    where = f"{kinds.of_index(index)}.compact"
    kinds.check_index(where, index)
    made: I = as_index(reshard.tightened(as_shard(index)), index.backend)
    return made


@annotate("merge")
def merge(indexes: Sequence[I]) -> I:
    """One index with the rows of several that have the same quantisers and no id in common.

    indexes : list of indexes of one kind

    It is on the device of the first. Indexes of other quantisers are refused, for their codes mean
    other rows; `shards.from_shards(..., scope="independent")` searches them side by side.
    """
    if not isinstance(indexes, list | tuple) or not indexes:
        raise bad_value("merge", "indexes", "be a list of indexes", repr(indexes))
    where = f"{kinds.of_index(indexes[0])}.merge"
    for index in indexes:
        kinds.check_index(where, index)
    parts = [as_shard(index) for index in indexes]
    reshard.check_same(where, parts)
    distinct(where, np.concatenate([part.ids for part in parts]))
    made: I = as_index(reshard.merge(parts), indexes[0].backend)
    return made
