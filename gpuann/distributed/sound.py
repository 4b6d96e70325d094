"""Whether the arrays of a file make an index: nothing that a search reads lies outside of them.

Checksums find what has changed by accident. A file that was made up can have good ones.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gpuann import metric as metrics
from gpuann.arrays import HostArray
from gpuann.backends import packing
from gpuann.codecs import axes
from gpuann.storage import Entry
from gpuann.validate import DTYPES

_Shape = tuple[Any, ...]
_INT64, _FLOAT32 = ("int64",), ("float32",)
Arrays = Mapping[str, HostArray | Entry]


def why_not(said: dict[str, Any], arrays: Arrays) -> str | None:
    """What is wrong with them, or None. Of large ones an entry is enough: their values are looked
    at when they are read, see `ids`.
    """
    dim = said.get("dim")
    if not isinstance(dim, int) or isinstance(dim, bool) or not 1 <= dim <= axes.MOST_COMPONENTS:
        return f"dim {dim!r}"
    if said.get("metric") not in metrics.METRICS:
        return f"metric {said.get('metric')!r}"
    if not isinstance(said.get("by_residual", True), bool):
        return "by_residual"
    for name in ("next_id", "n_dropped"):
        n = said.get(name, 0)
        if not isinstance(n, int) or isinstance(n, bool) or not 0 <= n <= 1 << 63:
            return f"{name} {n!r}"
    missing = {"ids", "norms", "offsets", "radius"} - arrays.keys()
    if missing:
        return f"no {min(missing)}"
    wanted = _wanted(dim, said["metric"], arrays)
    if isinstance(wanted, str):
        return wanted
    for name, array in arrays.items():
        if name not in wanted:
            return f"an array {name}"
        dtypes, shape = wanted[name]
        if str(array.dtype) not in dtypes:
            return f"{name} of {array.dtype}"
        if array.shape != shape:
            return f"{name} of shape {array.shape}"
    names, offsets = arrays["ids"], arrays["offsets"]
    if not isinstance(names, Entry) and (wrong := ids(names)):
        return wrong
    n_rows = names.shape[0]
    if n_rows == 0 and "centers" not in arrays:  # which is trained on its rows
        return "no rows"
    if isinstance(offsets, Entry):
        return "offsets that are not read"
    if offsets[0] != 0 or offsets[-1] != n_rows or (np.diff(offsets) < 0).any():
        return "offsets that are not those of its rows"
    return None


def ids(some: HostArray) -> str | None:
    """What is wrong with ids (n,) of rows, or None."""
    return "negative ids" if some.min(initial=0) < 0 else None


def _wanted(dim: int, how: str, arrays: Arrays) -> dict[str, Any] | str:
    """Dtypes and shape of every array that there may be, or what is missing."""
    if len(arrays["ids"].shape) != 1:
        return f"ids of shape {arrays['ids'].shape}"
    n, n_lists = arrays["ids"].shape[0], 1
    wanted: dict[str, tuple[tuple[str, ...], _Shape]] = {"shift": (_FLOAT32, (dim,))}
    width = dim
    if "centers" in arrays:
        if len(arrays["centers"].shape) != 2 or 0 in arrays["centers"].shape:
            return "centers without lists"
        n_lists, width = arrays["centers"].shape
        wanted["centers"] = _FLOAT32, (n_lists, width)
    wanted |= {"ids": (_INT64, (n,)), "norms": (_FLOAT32, (n,))}
    wanted |= {"offsets": (_INT64, (n_lists + 1,)), "radius": (_FLOAT32, (n_lists,))}
    wanted["bounds"] = _FLOAT32, (2, dim)
    if "codebooks" in arrays:
        books = arrays["codebooks"].shape
        if len(books) != 3 or 0 in books or not 2 <= books[1] <= 256 or books[1] & (books[1] - 1):
            return f"codebooks of shape {books}"
        if books[0] * books[2] != width or not dim <= width < dim + books[0]:
            return f"codebooks of shape {books} for {width} components"
        row = packing.row_bytes(books[0], packing.bits_of(books[1]))
        wanted |= {"codebooks": (_FLOAT32, books), "codes": (("uint8",), (n, row))}
        wanted["rotation"] = _FLOAT32, (width, dim)
    elif "scalar" in arrays:
        wanted |= {"scalar": (_FLOAT32, (2, dim)), "codes": (("int8",), (n, dim))}
    else:
        wanted["vectors"] = DTYPES, (n, dim)
        if how == "cosine":
            wanted["scale"] = _FLOAT32, (n,)
    if "codebooks" not in arrays and width != dim:
        return f"centers of {width} components"
    needed = {"codes"} if "codes" in wanted else {"vectors", *({"scale"} & wanted.keys())}
    if needed - arrays.keys():
        return f"no {min(needed - arrays.keys())}"
    return wanted
