"""From cuVS: an IVF-PQ index by what its Python object shows (the only kind that shows its rows).

Written by the Python source in cuVS's wheel 26.10 (`lists`, `centers_rot`, `pq_centers`,
`rotation_matrix`), tested with a stand-in that shows the same; no GPU has run it. What it does not
show must be said: the metric, and that codebooks are by subspace, its default. Of the other kinds
ivf_flat and ivf_sq show `centers`, and brute_force nothing: those are built anew from the rows.
"""

from typing import Any

import numpy as np

from gpuann import backends, metric, validate
from gpuann._nvtx import annotate
from gpuann.arrays import HostArray, as_host
from gpuann.backends import packing
from gpuann.codecs import axes, payloads
from gpuann.distributed import reshard
from gpuann.distributed.shard import names_of
from gpuann.errors import bad_type, bad_value
from gpuann.metric import Metric
from gpuann.trained import TrainedModels
from gpuann.updates import as_index

_METRICS: tuple[Metric, ...] = ("sqeuclidean", "euclidean", "inner_product")
_SHOWN = ("n_lists", "dim", "pq_dim", "pq_bits", "pq_centers", "centers_rot", "rotation_matrix")


@annotate("from_cuvs")
def from_cuvs(index: Any, metric_name: str = "sqeuclidean", *, device: str | None = None) -> Any:
    """The index of a cuVS one, its rows in the lists that they have there.

    Parameters
    ----------
    index : cuvs.neighbors.ivf_pq.Index with codebook_kind="subspace", which it does not tell
        either: codebooks by list are refused unless there are as many lists as codes a row
    metric_name : {"sqeuclidean", "euclidean", "inner_product"}, default "sqeuclidean"
        That it was built for: cuVS's object does not tell.
    device : {"cpu", "cuda", "cuda:N"}, optional; default: CUDA if there is one

    Returns
    -------
    ivf_pq.Index

    Raises
    ------
    TypeError
        For any other kind: cuVS's objects of ivf_flat, ivf_sq and brute_force do not show their
        rows. With the data set at hand `ivf_flat.build_precomputed` takes the centres of the first;
        the others are built anew.

    Notes
    -----
    No GPU has run this yet.
    """
    where = "from_cuvs"
    missing = [name for name in (*_SHOWN, "lists") if not hasattr(index, name)]
    if missing:
        rule = f"be an index of cuvs.neighbors.ivf_pq, with {', '.join(missing)}"
        got = f"{type(index).__module__}.{type(index).__qualname__}"
        raise bad_type(where, "index", rule, got, _way_out(index))
    how = metric.check(where, metric_name)
    if how not in _METRICS:
        raise bad_value(where, "metric_name", f"be one of {', '.join(_METRICS)}", how)
    backend = backends.choose(where, device)
    n_lists, dim, pq_dim = int(index.n_lists), int(index.dim), int(index.pq_dim)
    pq_book_size = 1 << int(index.pq_bits)
    books = _floats(where, "pq_centers", index.pq_centers)
    if books.ndim != 3 or books.shape[0] != pq_dim or books.shape[2] != pq_book_size:
        rule = f"be of subspaces, ({pq_dim}, pq_len, {pq_book_size})"
        raise bad_value(where, "pq_centers", rule, books.shape)
    books = np.ascontiguousarray(books.transpose(0, 2, 1))
    width = pq_dim * books.shape[2]
    centers = _shaped(where, "centers_rot", index.centers_rot, (n_lists, width))
    rotation = axes.in_units(_shaped(where, "rotation_matrix", index.rotation_matrix, (width, dim)))
    ids, codes, sizes = _rows_of(where, index, packing.row_bytes(pq_dim, int(index.pq_bits)))
    if len(sizes) != n_lists:
        raise bad_value(where, "lists", f"be {n_lists}", len(sizes))
    models = TrainedModels(how, dim, centers, None, books, rotation=rotation)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    payload = payloads.of_models(models, {"codes": codes})
    return as_index(reshard.measured(how, dim, models, payload, offsets, ids), backend)


def _way_out(index: Any) -> str | None:
    """For an index that does not show its rows."""
    name = str(type(index).__module__)
    if not name.startswith("cuvs."):
        return None
    if ".ivf_flat" in name:
        again = "ivf_flat.build_precomputed(params, rows, index.centers.copy_to_host())"
    else:
        again = "build"
    return f"cuVS shows no rows of this kind: {again} makes one of the rows themselves"


def _here(where: str, name: str, array: Any) -> HostArray:
    """cuVS's own arrays have copy_to_host."""
    if hasattr(array, "copy_to_host"):
        return np.asarray(array.copy_to_host())
    return as_host(where, name, array)


def _floats(where: str, name: str, array: Any) -> HostArray:
    found = np.ascontiguousarray(_here(where, name, array), np.float32)
    validate.finite(where, name, found.reshape(len(found), -1))
    return found


def _shaped(where: str, name: str, array: Any, shape: tuple[int, int]) -> HostArray:
    found = _floats(where, name, array)
    if found.shape != shape:
        raise bad_value(where, name, f"have shape {shape}", found.shape)
    return found


def _rows_of(where: str, index: Any, width: int) -> tuple[HostArray, HostArray, list[int]]:
    """ids (n,) int64, codes (n, width) uint8, sizes of the lists."""
    ids, codes = [np.zeros(0, np.int64)], [np.zeros((0, width), np.uint8)]
    for indices, data in index.lists():
        names, rows = _here(where, "indices", indices), _here(where, "list_data", data)
        if rows.shape != (len(names), width) or rows.dtype != np.uint8:
            rule = f"be ({len(names)}, {width}) uint8"
            raise bad_value(where, "list_data", rule, f"{rows.shape} {rows.dtype}")
        ids.append(names.astype(np.int64))
        codes.append(rows)
    every = np.concatenate(ids)
    if len(every) == 0:
        raise bad_value(where, "index", "have rows", 0)
    names_of(where, "indices", every, len(every))
    return every, np.concatenate(codes), [len(one) for one in ids[1:]]
