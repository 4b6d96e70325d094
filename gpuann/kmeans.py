"""k-means by Lloyd's iterations, for one problem or a batch of them.

Assignment and sums are the backend's; everything random is drawn on the host, so both backends
start from the same rows. Source: Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf.
Theory 1982; Arthur and Vassilvitskii, "k-means++", SODA 2007.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from gpuann import arrays, backends, starts, validate
from gpuann._nvtx import annotate
from gpuann._progress import bar
from gpuann.backends import Backend
from gpuann.backends.seam import Array
from gpuann.errors import bad_value
from gpuann.params import keep_integer

__all__ = ["KMeansParams", "cluster_cost", "fit", "predict"]

INIT_METHODS = ("Random", "KMeansPlusPlus", "Array")


_CUVS = (  # where another value would give another answer
    ("n_init", 1, "fit with several seeds and keep the lowest inertia"),
    ("hierarchical", False, "leave it out"),
)


@dataclass(frozen=True, kw_only=True)
class KMeansParams:
    """How to cluster.

    Parameters
    ----------
    n_clusters : int, default 8
    init_method : {"Random", "KMeansPlusPlus", "Array"}, default "Random"
        Distinct rows drawn at random; k-means++ draws (cuVS's default), one after the other, which
        takes longer than the iterations; or the `centroids` given to `fit`.
    max_iter : int, default 300
        Lloyd iterations at most.
    tol : float, default 0.0001
        Stop when an iteration lowers the inertia by less than this share of it.
    max_points_per_cluster : int or None, default None
        Train on at most so many rows per cluster, drawn at random; None trains on all.
    seed : int, default 0
    metric : "sqeuclidean", default "sqeuclidean"
    n_init : int, default 1
    hierarchical : bool, default False
        cuVS's, at these values only.
    oversampling_factor : float, default 2.0
    batch_samples : int, default 32768
    batch_centroids : int, default 0
    init_size : int, default 0
    device_buffer_samples : int, default 0
    hierarchical_n_iters : int, default 20
        cuVS's, at any value and without effect.
    """

    n_clusters: int = 8
    init_method: str = "Random"
    max_iter: int = 300
    tol: float = 1e-4
    max_points_per_cluster: int | None = None
    seed: int = 0
    metric: str = "sqeuclidean"
    n_init: int = field(default=1, repr=False)
    hierarchical: bool = field(default=False, repr=False)
    oversampling_factor: float = field(default=2.0, repr=False)
    batch_samples: int = field(default=32768, repr=False)
    batch_centroids: int = field(default=0, repr=False)
    init_size: int = field(default=0, repr=False)
    device_buffer_samples: int = field(default=0, repr=False)
    hierarchical_n_iters: int = field(default=20, repr=False)

    def __post_init__(self) -> None:
        where = "kmeans.KMeansParams"
        keep_integer(self, where, "n_clusters", 1)
        validate.one_of(where, "init_method", self.init_method, INIT_METHODS)
        keep_integer(self, where, "max_iter", 1)
        validate.share(where, "tol", self.tol, zero=True)
        if self.max_points_per_cluster is not None:
            keep_integer(self, where, "max_points_per_cluster", 1)
        keep_integer(self, where, "seed", 0)
        validate.one_of(where, "metric", self.metric, ("sqeuclidean",))
        for name, allowed, way_out in _CUVS:
            validate.only(where, name, getattr(self, name), allowed, way_out)


class Trained(NamedTuple):
    """What Lloyd's iterations came to."""

    centers: Array
    """(B, C, D) float32"""
    inertia: list[float]
    """Sum of squared distances over all problems, at the start of every iteration, if asked for."""
    n_iter: int


@annotate("kmeans.fit")
def fit(
    params: KMeansParams,
    X: Any,  # noqa: N803 - cuVS's name
    centroids: Any = None,
    sample_weights: None = None,
    *,
    device: str | None = None,
    progress: bool = False,
    resources: None = None,
) -> tuple[Array, float, int]:
    """Cluster the rows of X.

    Parameters
    ----------
    params : KMeansParams
    X : array (n_rows, dim), float32, float16, int8 or uint8, host or device; or chunks of rows
    centroids : array (n_clusters, dim) float32, with init_method="Array"
    sample_weights : None; cuVS's, every row weighs the same
    device : {"cpu", "cuda", "cuda:N"}, optional; default: CUDA if there is one
    progress : bool, default False; a bar, if standard error is a terminal
    resources : None; cuVS's, work goes to CuPy's current stream

    Returns
    -------
    centroids (n_clusters, dim) float32, inertia float, n_iter int; centroids where X is
        inertia is the sum over all rows of X of the squared distance to the nearest centroid.

    Notes
    -----
    Cost   2 * n_rows * n_clusters * dim flop an iteration.
    Memory a float32 copy of the training rows.
    Order  same seed, same data: same bytes. A cluster that is left empty moves to the row that is
           farthest from its centroid (ties: the smaller row), one such row for each.
    """
    where = "kmeans.fit"
    validate.no_resources(where, resources, sample_weights)
    validate.instance(where, "params", params, KMeansParams)
    backend = backends.choose(where, device)
    rows = arrays.Rows(where, "X", X)
    rows.check()
    if params.n_clusters > rows.n_rows:
        raise bad_value(
            where, "n_clusters", f"be at most the {rows.n_rows} rows of X", params.n_clusters
        )
    start = starts.given(where, params.init_method, params.n_clusters, centroids, rows.dim)
    with backend.active():
        most = params.max_points_per_cluster
        wanted = rows.n_rows if most is None else most * params.n_clusters
        sample = sample_rows(rows.n_rows, wanted, params.seed)
        x = backend.put(rows.take(sample).astype(np.float32, copy=False))
        if start is None:
            start = initial_centers(backend, x, params, progress=progress)
        first = backend.put(start)[None]
        trained = lloyd(backend, x[None], first, params.max_iter, params.tol, progress=progress)
        centers = trained.centers[0]
        inertia = _inertia(backend, rows, centers)
    return centers if backend.holds(X) else backend.get(centers), inertia, trained.n_iter


@annotate("kmeans.predict")
def predict(
    params: KMeansParams,
    X: Any,  # noqa: N803 - cuVS's name
    centroids: Any,
    sample_weights: None = None,
    *,
    device: str | None = None,
    resources: None = None,
) -> tuple[Array, float]:
    """Nearest centroid of every row of X (n_rows, dim) -> labels (n_rows,) int32, inertia float.

    centroids (n_clusters, dim) float32. Ties go to the smaller centroid. `params` is without effect
    and there because cuVS has it, as sample_weights and resources are, which must be None.
    """
    where = "kmeans.predict"
    validate.no_resources(where, resources, sample_weights)
    backend = backends.choose(where, device)
    rows = arrays.Rows(where, "X", X)
    rows.check()
    inertia = 0.0
    with backend.active():
        centers = backend.put(starts.checked(where, centroids, rows.dim))
        labels = backend.xp.empty(rows.n_rows, backend.xp.int32)
        for start, chunk in rows.chunks():
            part, dists = _assign(backend, chunk, centers)
            labels[start : start + len(chunk)] = part
            inertia += float(dists.astype(np.float64).sum())
    return labels if backend.holds(X) else backend.get(labels), inertia


@annotate("kmeans.cluster_cost")
def cluster_cost(
    X: Any,  # noqa: N803 - cuVS's name
    centroids: Any,
    *,
    device: str | None = None,
    resources: None = None,
) -> float:
    """Sum of squared distances of the rows of X (n_rows, dim) to their nearest centroid.

    centroids (n_clusters, dim) float32; resources None, cuVS's.
    """
    where = "kmeans.cluster_cost"
    validate.no_resources(where, resources)
    backend = backends.choose(where, device)
    rows = arrays.Rows(where, "X", X)
    rows.check()
    with backend.active():
        return _inertia(backend, rows, backend.put(starts.checked(where, centroids, rows.dim)))


def lloyd(
    backend: Backend,
    x: Array,
    centers: Array,
    n_iters: int,
    tol: float | None = None,
    *,
    progress: bool = False,
    name: str = "k-means",
) -> Trained:
    """At most n_iters iterations from `centers`, for B independent problems at once.

    x (B, N, D), centers (B, C, D) float32 on the backend's device. Stops when the summed inertia
    falls by no more than `tol` of itself in an iteration that moved no empty cluster. Without tol:
    when no row changes its cluster; distances are not taken then, and there is no inertia.
    """
    inertia: list[float] = []
    before, moved_empty = None, False
    for done in bar(range(n_iters), name, show=progress):
        labels, dists = backend.ops.assign(x, centers, rescore=tol is not None)
        if tol is None:
            settled = before is not None and bool((labels == before).all())
            before = labels
        else:
            inertia.append(float(dists.astype(np.float64).sum()))
            settled = done > 0 and has_settled(inertia, tol)
        if settled and not moved_empty:
            return Trained(centers, inertia, done)
        centers, moved_empty = _update(backend, x, centers, labels)
    return Trained(centers, inertia, n_iters)


def has_settled(inertia: list[float], tol: float) -> bool:
    """Whether the last iteration lowered the inertia by no more than `tol` of it."""
    return inertia[-2] - inertia[-1] <= tol * inertia[-2]


def _update(backend: Backend, x: Array, centers: Array, labels: Array) -> tuple[Array, bool]:
    """Means of the clusters -> (B, C, D) float32, and whether an empty cluster was moved."""
    xp = backend.xp
    sums, counts = backend.ops.accumulate(x, labels, centers.shape[1])
    means = (sums / xp.maximum(counts, 1)[:, :, None]).astype(xp.float32)
    empty = counts == 0
    for b in xp.flatnonzero(empty.any(axis=1)).tolist():
        vacant = xp.flatnonzero(empty[b])
        own = labels[b].astype(xp.int64)[:, None]
        dists, _ = backend.ops.refine(x[b], centers[b], own, own, 1, "sqeuclidean")
        farthest = np.argsort(-backend.get(dists[:, 0]), kind="stable")[: len(vacant)]
        means[b, vacant[: len(farthest)]] = x[b, backend.put(farthest)]
        # more empty clusters than rows: the others keep the centre they had
        means[b, vacant[len(farthest) :]] = centers[b, vacant[len(farthest) :]]
    return means, bool(empty.any())


def initial_centers(
    backend: Backend, x: Array, params: KMeansParams, *, progress: bool = False
) -> Array:
    """The rows to start from: x (N, D) -> (n_clusters, D) float32."""
    if params.init_method == "KMeansPlusPlus":
        return starts.plus_plus(backend, x, params.n_clusters, params.seed, progress=progress)
    return x[backend.put(random_rows(len(x), params.n_clusters, params.seed))]


def random_rows(n_rows: int, n: int, seed: int) -> arrays.HostArray:
    """n row numbers (n,) int64 in random order; distinct, or in turn where there are fewer rows."""
    draw = np.random.default_rng([seed, 1]).permutation(n_rows)
    return np.resize(draw, n)


def sample_rows(n_rows: int, n: int, seed: int) -> arrays.HostArray:
    """n distinct row numbers (n,) int64, ascending."""
    if n >= n_rows:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng([seed, 0]).choice(n_rows, n, replace=False, shuffle=False))


def _assign(backend: Backend, chunk: arrays.HostArray, centers: Array) -> tuple[Array, Array]:
    x = backend.put(chunk.astype(np.float32, copy=False))
    labels, dists = backend.ops.assign(x[None], centers[None])
    return labels[0], dists[0]


def _inertia(backend: Backend, rows: arrays.Rows, centers: Array) -> float:
    return sum(
        float(_assign(backend, chunk, centers)[1].astype(np.float64).sum())
        for _, chunk in rows.chunks()
    )
