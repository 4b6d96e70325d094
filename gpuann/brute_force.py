"""Brute force: every row compared with every query, exactly."""

from typing import Any

from gpuann.files import load_kind, save
from gpuann.indexes.brute_force import Index, build, search
from gpuann.lookups import range_search, reconstruct
from gpuann.pipelines import search_batches
from gpuann.updates import compact, delete, extend, merge

__all__ = [
    "Index",
    "build",
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
]


def load(
    filename: Any, *, device: str | None = None, mmap: bool = False, resources: None = None
) -> Index:
    """The index of a file; one of another kind is refused. filename, device, mmap and resources as
    in `gpuann.load`.
    """
    asked: Any = {"device": device, "mmap": mmap, "resources": resources}
    found: Index = load_kind("brute_force", "brute_force", filename, **asked)
    return found
