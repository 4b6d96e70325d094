"""IVF-SQ: a byte a component in inverted lists; a quarter of the memory, nearly the recall."""

from typing import Any

from gpuann.files import load_kind, save
from gpuann.indexes.ivf_sq import Index, IndexParams, SearchParams, build, build_precomputed, search
from gpuann.lookups import range_search, reconstruct, search_preassigned
from gpuann.pipelines import search_batches
from gpuann.updates import compact, delete, extend, merge, transform

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
    "transform",
]


def load(
    filename: Any, *, device: str | None = None, mmap: bool = False, resources: None = None
) -> Index:
    """The index of a file; one of another kind is refused. filename, device, mmap and resources as
    in `gpuann.load`.
    """
    asked: Any = {"device": device, "mmap": mmap, "resources": resources}
    found: Index = load_kind("ivf_sq", "ivf_sq", filename, **asked)
    return found
