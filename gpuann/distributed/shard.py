"""A shard: rows stored with given models, as plain host arrays that travel in any way."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuann import arrays, backends, kinds, training, validate
from gpuann import metric as metrics
from gpuann.arrays import HostArray
from gpuann.backends import Backend
from gpuann.backends.seam import FlatPayload, Lists, Payload
from gpuann.codecs import payloads
from gpuann.distributed.sampling import usable
from gpuann.engine import building, ivf
from gpuann.errors import bad_type, bad_value
from gpuann.indexes import brute_force
from gpuann.metric import Metric
from gpuann.trained import TrainedModels, fingerprint

Part = ivf.Core | brute_force.Index
LARGEST_ID = 2**63 - 1


@dataclass(frozen=True, eq=False, repr=False)
class Shard:
    """Some rows, stored: immutable; arrays on the host, or maps of a file."""

    metric: Metric
    dim: int
    models: TrainedModels | None
    """None for brute force, which has none."""
    payload: Payload
    lists: Lists
    n_dropped: int = 0
    """Rows that were not finite and left out when it was built."""
    next_id: int = 0
    """More than every id that a row of it ever had: running ids go on from there."""

    def __post_init__(self) -> None:
        largest = int(self.lists.ids.max(initial=-1))
        object.__setattr__(self, "next_id", max(self.next_id, largest + 1))

    def __len__(self) -> int:
        return len(self.lists.ids)

    def __repr__(self) -> str:
        kind = kinds.name_of(self.models)
        return f"distributed.Shard({kind}, {len(self):,} rows, dim {self.dim}, {self.metric})"

    @property
    def fingerprint(self) -> str:
        """Of its models: shards with the same can be merged."""
        if self.models is None:
            return fingerprint("brute_force", self.metric, self.dim)
        return self.models.fingerprint

    @property
    def ids(self) -> HostArray:
        """(n_rows,) int64, in storage order."""
        return self.lists.ids

    def on(self, backend: Backend) -> Part:
        """The part of an index that a device searches."""
        with backend.active():
            payload: Any = type(self.payload)(*(_put(backend, a) for a in self.payload))
            lists = Lists(*(backend.put(a) for a in self.lists))
            payload = backend.prepared(payload, lists)
            if self.models is None:
                part: Part = brute_force.Index(backend, self.metric, payload, lists, self.next_id)
            else:
                centers = backend.put(self.models.centers)
                axes = payloads.axes_of(backend, self.models)
                coarse = building.make_coarse(backend, centers, axes, self.metric)
                part = ivf.Core(backend, self.metric, self.dim, coarse, payload, lists)
            backend.synchronize()  # it may be searched on another stream
            return part


def build_part(
    models: TrainedModels | str,
    dataset: Any,
    ids: Any = 0,
    *,
    non_finite: str = "raise",
    device: str | None = None,
    progress: bool = False,
) -> Shard:
    """Store rows with given models.

    Parameters
    ----------
    models : TrainedModels, or a metric's name for brute force
    dataset : array (n_rows, dim), float32, float16, int8 or uint8, host or device; a memory-map; or
        chunks of rows
    ids : array (n_rows,) of integers, or int, default 0
        The rows' names over all shards, 0 or more, distinct; or the first of running ones.
    non_finite : {"raise", "drop"}, default "raise"
        What to do with rows that are not finite or beyond 2^50: refuse the part and name the first
        of them, or leave them out and count them.
    device : {"cpu", "cuda", "cuda:N"}, optional; default: CUDA if there is one
    progress : bool, default False; bars, if standard error is a terminal

    Returns
    -------
    Shard, on the host
    """
    where = "distributed.build_part"
    validate.one_of(where, "non_finite", non_finite, ("raise", "drop"))
    rows = arrays.Rows(where, "dataset", dataset)
    if isinstance(models, str):
        metrics.check(where, models)
    else:
        validate.instance(where, "models", models, TrainedModels)
        if rows.dim != models.dim:
            rule = f"have shape (n, {models.dim}), as its models"
            raise bad_value(where, "dataset", rule, (rows.n_rows, rows.dim))
    backend, names = backends.choose(where, device), names_of(where, "ids", ids, rows.n_rows)
    if non_finite == "raise":
        rows.check()
    drop = non_finite == "drop"
    return store(where, backend, models, rows, names, progress=progress, drop=drop)


def store(
    where: str,
    backend: Backend,
    models: TrainedModels | str,
    rows: arrays.Rows,
    names: HostArray,
    *,
    drop: bool,
    progress: bool = False,
) -> Shard:
    """`build_part` of what has been checked; `drop` leaves out rows that are not finite."""
    kept = rows
    if drop:
        keep = np.concatenate([usable(chunk) for _, chunk in rows.chunks()])
        if not keep.all():
            if not keep.any():
                way_out = "leave the part out"
                raise bad_value(where, "dataset", "have a row that is finite", "none", way_out)
            names, kept = names[keep], arrays.Rows(where, "dataset", _Kept(rows, keep))
            kept.chunk_floats = rows.chunk_floats
    n_dropped = rows.n_rows - kept.n_rows
    if isinstance(models, str):
        how = metrics.check(where, models)
        part = brute_force.build_part(backend, kept, how, names, searched=False)
        return shard_of(None, part, n_dropped)
    core = training.build_part(backend, models, kept, names, progress=progress, searched=False)
    return shard_of(models, core, n_dropped)


class _Kept:
    """Chunks of those rows that are kept, to be read again and again."""

    def __init__(self, rows: arrays.Rows, keep: HostArray) -> None:
        self._rows, self._keep = rows, keep

    def __iter__(self) -> Any:
        for start, chunk in self._rows.chunks():
            yield chunk[self._keep[start : start + len(chunk)]]


def shard_of(
    models: TrainedModels | None, part: Part, n_dropped: int = 0, next_id: int = 0
) -> Shard:
    """A part of an index, brought to the host; models None for brute force."""
    backend, there = part.backend, part.payload
    if isinstance(there, FlatPayload):
        there = there._replace(halves=None)  # whoever searches it makes its own
    with backend.active():
        payload: Any = type(there)(*(_get(backend, a) for a in there))
        lists = Lists(*(backend.get(a) for a in part.lists))
    return Shard(part.metric, part.dim, models, payload, lists, n_dropped, next_id)


def names_of(where: str, name: str, ids: Any, n_rows: int | None) -> HostArray:
    """Ids that a caller gives, or running ones from an integer on, checked -> (n_rows,) int64; of
    any number, and the same ones again, where n_rows is None.
    """
    if n_rows is not None and np.ndim(ids) == 0:
        first = validate.integer(where, name, ids, 0, LARGEST_ID - (n_rows - 1))
        return np.arange(first, first + n_rows, dtype=np.int64)
    array = arrays.as_host(where, name, ids)
    if array.ndim != 1 or (n_rows is not None and len(array) != n_rows):
        raise bad_value(where, name, f"have shape ({n_rows or 'n'},)", array.shape)
    if array.size == 0:
        return np.zeros(0, np.int64)
    if array.dtype.kind not in "iu":
        raise bad_type(where, name, "be integers", array.dtype)
    if array.min() < 0 or array.max() > LARGEST_ID:
        wrong = array.min() if array.min() < 0 else array.max()
        raise bad_value(where, name, f"be between 0 and {LARGEST_ID}", int(wrong))
    names = array.astype(np.int64)
    if n_rows is not None:
        distinct(where, names, name)
    return names


def distinct(where: str, ids: HostArray, name: str = "ids") -> None:
    """Raise if an id comes twice."""
    ordered = np.sort(ids)
    twice = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(twice):
        raise bad_value(where, name, "be distinct", f"{ordered[twice[0]]} twice")


def _put(backend: Backend, array: Any) -> Any:
    return None if array is None else backend.put(array)


def _get(backend: Backend, array: Any) -> Any:
    return None if array is None else backend.get(array)
