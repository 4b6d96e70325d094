"""IVF-Flat: whole vectors in inverted lists; exact within the lists that are probed."""

from typing import Any

from gpuann.files import load_kind, save
from gpuann.indexes.ivf_flat import (
    Index,
    IndexParams,
    SearchParams,
    build,
    build_precomputed,
    search,
)
from gpuann.lookups import range_search, reconstruct, search_preassigned
from gpuann.pipelines import search_batches
from gpuann.updates import compact, delete, extend, merge

__all__ = [
    "Index",
    "IndexParams",
    "SearchParams",
    "build",
    "build_precomputed",
    "compact",
    "delete",
    "extend",
    "load",
    "merge",
    "range_search",
    "reconstruct",
    "save",
    "search",
    "search_batches",
    "search_preassigned",
]


def load(
    filename: Any, *, device: str | None = None, mmap: bool = False, resources: None = None
) -> Index:
    """The index of a file; one of another kind is refused. filename, device, mmap and resources as
    in `gpuann.load`.
    """
    asked: Any = {"device": device, "mmap": mmap, "resources": resources}
    found: Index = load_kind("ivf_flat", "ivf_flat", filename, **asked)
    return found
