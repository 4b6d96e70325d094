"""Indexes that keep their rows, for exact distances: what RFlat of `index_factory` builds.

index = refined.build(ivf_pq.build(params, rows), rows)
distances, ids = refined.search(ivf_pq.SearchParams(), index, queries, k=10, k_factor=4)

The rows stay on the host, and may be a memory-map; updates keep both parts together.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpuann import arrays, lookups, updates, validate
from gpuann._nvtx import annotate
from gpuann.arrays import HostArray
from gpuann.distributed.shard import names_of
from gpuann.errors import bad_type, bad_value
from gpuann.files import load_kind, save
from gpuann.indexes.refined import Index, build, search

__all__ = [
    "Index",
    "build",
    "compact",
    "delete",
    "extend",
    "load",
    "merge",
    "reconstruct",
    "save",
    "search",
]


@annotate("refined.extend")
def extend(
    index: Index,
    new_vectors: Any,
    new_indices: Any = None,
    *,
    on_duplicate: str = "raise",
    progress: bool = False,
) -> Index:
    """An index with more rows.

    Parameters
    ----------
    index : Index
    new_vectors : array (n, dim) of the rows' dtype, host or device; or chunks of rows
    new_indices : array (n,) of integers, optional; as in `ivf_flat.extend`
    on_duplicate : {"raise", "replace"}, default "raise"; as there
    progress : bool, default False; bars, if standard error is a terminal

    Returns
    -------
    Index : a new one

    Notes
    -----
    Cost   as there, and all rows are copied once.
    """
    where = "refined.extend"
    validate.instance(where, "index", index, Index)
    if arrays.is_one_shot(new_vectors):
        new_vectors = list(new_vectors)  # it is read more than once
    rows = arrays.Rows(where, "new_vectors", new_vectors)
    if rows.dtype != index.dataset.dtype:
        rule = f"be {index.dataset.dtype} as the rows there are"
        raise bad_type(where, "new_vectors", rule, rows.dtype)
    given = index.next_id if new_indices is None else new_indices
    names = names_of(where, "new_indices", given, rows.n_rows)
    inner = updates.extend(
        index.inner, new_vectors, names, on_duplicate=on_duplicate, progress=progress
    )
    kept = ~np.isin(index.ids, names)
    ids = np.concatenate([index.ids[kept], names])
    return Index(inner, _by_id(ids, [index.dataset[kept], rows.whole()]))


@annotate("refined.delete")
def delete(index: Index, ids: Any, *, missing: str = "warn") -> Index:
    """An index without some rows. ids (n,) and missing as in `ivf_flat.delete`."""
    validate.instance("refined.delete", "index", index, Index)
    left = Index(updates.delete(index.inner, ids, missing=missing), index.dataset)
    return Index(left.inner, index.dataset[np.isin(index.ids, left.ids)])


@annotate("refined.compact")
def compact(index: Index) -> Index:
    """The index stored as its build would have stored what it holds now; as `ivf_flat.compact`."""
    validate.instance("refined.compact", "index", index, Index)
    return Index(updates.compact(index.inner), index.dataset)


@annotate("refined.merge")
def merge(indexes: Sequence[Index]) -> Index:
    """One index with the rows of several, as `ivf_flat.merge`. indexes : list of refined.Index"""
    where = "refined.merge"
    if not isinstance(indexes, list | tuple) or not indexes:
        raise bad_value(where, "indexes", "be a list of indexes", repr(indexes))
    for index in indexes:
        validate.instance(where, "every index", index, Index)
        dtype = indexes[0].dataset.dtype
        if index.dataset.dtype != dtype:
            rule = f"have rows of {dtype} as the first"
            raise bad_type(where, "every index", rule, index.dataset.dtype)
    inner = updates.merge([index.inner for index in indexes])
    ids = np.concatenate([index.ids for index in indexes])
    return Index(inner, _by_id(ids, [index.dataset for index in indexes]))


@annotate("refined.reconstruct")
def reconstruct(index: Index, ids: Any = None) -> HostArray:
    """Rows of an index (n, dim) float32, as given: of ids (n,), or all, ascending by id."""
    where = "refined.reconstruct"
    validate.instance(where, "index", index, Index)
    rows = index.dataset[lookups.positions(where, index.ids, ids)]
    return rows.astype(np.float32, copy=False)


def load(filename: Any, *, device: str | None = None, mmap: bool = False) -> Index:
    """The index of a file; one of another kind is refused. filename, device and mmap as in
    `gpuann.load`: mmap leaves the rows in the file.
    """
    found: Index = load_kind(
        "refined", "refined", filename, device=device, mmap=mmap, resources=None
    )
    return found


def _by_id(ids: HostArray, parts: list[HostArray]) -> HostArray:
    """Rows of all parts, whose ids are (n,), ascending by id."""
    rows = np.concatenate(parts)
    if (ids[1:] > ids[:-1]).all():
        return rows
    ordered: HostArray = rows[np.argsort(ids, kind="stable")]
    return ordered
