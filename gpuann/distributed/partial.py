"""Lloyd's iteration in parts: what each part adds up, how that is put together, the next centres.

    partials = [partial_kmeans(part, centers) for part in parts]     anywhere, in any order
    total = combine(partials)                                        in the order of the parts
    centers = next_centers(total, centers)

Sums of disjoint rows are additive, so this is the iteration of one machine over all rows, to the
rounding of float64 sums. Only sums travel: 8 bytes a component of a centre, whatever the rows, and
a few rows for clusters that turn out empty.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np

from gpuann import arrays, backends, validate
from gpuann.arrays import HostArray
from gpuann.backends import Backend
from gpuann.backends.seam import Array
from gpuann.errors import bad_type, bad_value
from gpuann.trained import fingerprint

N_FARTHEST = 64


@dataclass(frozen=True, eq=False)
class Partial:
    """What some rows add to the next centres: plain host arrays, that travel in any way."""

    of: str
    """Fingerprint of the centres that the rows were assigned to."""
    sums: HostArray
    """(B, C, D) float64, of the rows of each cluster."""
    counts: HostArray
    """(B, C) int64"""
    inertia: float
    """Sum of squared distances to the nearest centre, over all B problems."""
    n_rows: int
    n_farthest: int
    """How many of the farthest rows were asked for."""
    farthest: HostArray
    """(B, F, D) float32, the rows farthest from their centres: empty clusters move there."""
    dists: HostArray
    """(B, F) float32, descending, of those."""

    @property
    def n_empty(self) -> int:
        """Clusters without a row, in the problem that has most of them."""
        return int((self.counts == 0).sum(axis=1).max())


def partial_kmeans(
    part: Any, centers: Any, *, n_farthest: int = N_FARTHEST, device: str | None = None
) -> Partial:
    """Assign the rows of a part and add them up.

    Parameters
    ----------
    part : array (n_rows, dim) or chunks of such rows, host or device; or (B, n_rows, dim) float32
        for B problems at once, as the sub-quantisers of PQ are
    centers : array (n_clusters, dim) or (B, n_clusters, dim) float32
    n_farthest : int, default 64
        Rows to report for clusters that turn out empty.
    device : {"cpu", "cuda", "cuda:N"}, optional; default: CUDA if there is one

    Returns
    -------
    Partial, on the host

    Notes
    -----
    Cost   2 * n_rows * n_clusters * dim flop.
    """
    where = "distributed.partial_kmeans"
    n_farthest = validate.integer(where, "n_farthest", n_farthest, 0)
    return partial_of(where, part, centers, n_farthest, device, check=True)


def partial_of(
    where: str, part: Any, centers: Any, n_farthest: int, device: str | None, *, check: bool
) -> Partial:
    """`partial_kmeans`, of rows that may have been checked before."""
    start = _batched(where, "centers", centers, check)
    backend = backends.choose(where, device)
    with backend.active():
        assigned = _Assigned(backend, backend.put(start), fingerprint(start), n_farthest)
        if getattr(part, "ndim", 2) == 3:
            n_problems, _, dim = start.shape
            if part.shape[0] != n_problems or part.shape[2] != dim or part.shape[1] == 0:
                rule = f"have shape ({n_problems}, n, {dim}), as centers"
                raise bad_value(where, "part", rule, part.shape)
            if part.dtype != np.float32:
                raise bad_type(where, "part", "be float32 for several problems", part.dtype)
            if check and not arrays.on_cuda(part):
                validate.finite(where, "part", np.asarray(part).reshape(-1, dim))
            return assigned.partial(backend.put(part))
        rows = arrays.Rows(where, "part", part)
        if start.shape[0] != 1 or start.shape[2] != rows.dim:
            raise bad_value(where, "centers", f"have shape (n, {rows.dim})", np.shape(centers))
        total: Partial | None = None
        # chunks with more floats than the sums, so that adding those up costs little
        for at, chunk in rows.chunks(max(arrays.CHUNK_FLOATS, 4 * start.size)):
            if check:
                validate.finite(where, "part", chunk, at)
            one = assigned.partial(backend.put(chunk.astype(np.float32, copy=False))[None])
            total = one if total is None else _added(total, one)
    return cast("Partial", total)


def combine(partials: Iterable[Partial]) -> Partial:
    """Put partials of disjoint rows together, in the order of the parts.

    Associative: partials of neighbouring parts may be combined on the way. Those that belong to
    other centres (another round, another model) are refused.
    """
    where = "distributed.combine"
    some = list(partials)
    if not some:
        raise bad_value(where, "partials", "be at least one", 0)
    total = some[0]
    for number, partial in enumerate(some[1:], 1):
        if (partial.of, partial.sums.shape) != (total.of, total.sums.shape):
            rule = f"belong to the centres {total.of} of the first, of this round and model"
            raise bad_value(where, f"partial {number}", rule, partial.of)
        if partial.n_farthest != total.n_farthest:
            rule = f"have n_farthest={total.n_farthest} as the first"
            raise bad_value(where, f"partial {number}", rule, partial.n_farthest)
        total = _added(total, partial)
    return total


def next_centers(total: Partial, centers: Any) -> HostArray:
    """Means of the clusters -> float32, of the shape of centers.

    total is of all parts; centers (n_clusters, dim) or (B, n_clusters, dim) float32 those that the
    rows were assigned to. An empty cluster moves to the row farthest from its centre (ties: the
    earlier part, the smaller row), one such row for each, as `kmeans.fit` does. With more empty
    clusters than farthest rows that were asked for this is refused: ask the parts again with
    n_farthest=total.n_empty.
    """
    return centers_after("distributed.next_centers", total, centers, check=True)


def centers_after(where: str, total: Partial, centers: Any, *, check: bool) -> HostArray:
    """`next_centers`, of centres that may have been checked before."""
    start = _batched(where, "centers", centers, check)
    if total.of != fingerprint(start):
        raise bad_value(where, "total", f"belong to centers, {fingerprint(start)}", total.of)
    if total.n_empty > total.n_farthest and total.n_rows > total.n_farthest:
        rule = f"have n_farthest of at least its {total.n_empty} empty clusters"
        way_out = f"call partial_kmeans again with n_farthest={total.n_empty}"
        raise bad_value(where, "total", rule, total.n_farthest, way_out)
    means = (total.sums / np.maximum(total.counts, 1)[:, :, None]).astype(np.float32)
    for b, counts in enumerate(total.counts):
        vacant = np.flatnonzero(counts == 0)
        n_found = min(len(vacant), total.farthest.shape[1])
        means[b, vacant[:n_found]] = total.farthest[b, :n_found]
        means[b, vacant[n_found:]] = start[b, vacant[n_found:]]
    return means.reshape(np.shape(centers))


class _Assigned(NamedTuple):
    """The centres that rows are assigned to, on the device."""

    backend: Backend
    centers: Array
    """(B, C, D) float32"""
    of: str
    n_farthest: int

    def partial(self, x: Array) -> Partial:
        """Of rows x (B, n, D) on the device."""
        backend = self.backend
        labels, dists = backend.ops.assign(x, self.centers)
        sums, counts = backend.ops.accumulate(x, labels, self.centers.shape[1])
        on_host = backend.get(dists)
        far = np.stack([_farthest(problem, self.n_farthest) for problem in on_host])
        rows = [backend.get(x[b, backend.put(far[b])]) for b in range(len(far))]
        return Partial(
            of=self.of,
            sums=backend.get(sums),
            counts=backend.get(counts),
            inertia=float(on_host.astype(np.float64).sum()),
            n_rows=x.shape[1],
            n_farthest=self.n_farthest,
            farthest=np.stack(rows),
            dists=np.take_along_axis(on_host, far, axis=1),
        )


def _farthest(dists: HostArray, n: int) -> HostArray:
    """The n rows with the largest of dists (N,), ties to the smaller row, farthest first."""
    if n == 0:
        return np.empty(0, np.int64)
    if n < len(dists):
        least = np.partition(dists, len(dists) - n)[len(dists) - n]
        rows = np.flatnonzero(dists >= least)
    else:
        rows = np.arange(len(dists))
    return rows[np.argsort(-dists[rows], kind="stable")[:n]]


def _added(a: Partial, b: Partial) -> Partial:
    dists = np.concatenate([a.dists, b.dists], axis=1)
    rows = np.concatenate([a.farthest, b.farthest], axis=1)
    far = np.argsort(-dists, axis=1, kind="stable")[:, : a.n_farthest]
    return Partial(
        of=a.of,
        sums=a.sums + b.sums,
        counts=a.counts + b.counts,
        inertia=a.inertia + b.inertia,
        n_rows=a.n_rows + b.n_rows,
        n_farthest=a.n_farthest,
        farthest=np.take_along_axis(rows, far[:, :, None], axis=1),
        dists=np.take_along_axis(dists, far, axis=1),
    )


def _batched(where: str, name: str, centers: Any, check: bool) -> HostArray:
    """Centres of one problem or several -> (B, C, D) float32, checked."""
    array = arrays.as_host(where, name, centers)
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise bad_value(where, name, "have shape (n, dim) or (B, n, dim)", array.shape)
    flat = array.reshape(-1, array.shape[-1])
    validate.matrix(where, name, flat)
    if check:
        validate.finite(where, name, flat)
    batched = array if array.ndim == 3 else array[None]
    return np.ascontiguousarray(batched, np.float32)
