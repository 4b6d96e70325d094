"""Where k-means starts: at centroids that a caller brings, or at rows drawn by k-means++.

Source: Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
"""

from typing import Any

import numpy as np

from gpuann import arrays, validate
from gpuann._progress import bar
from gpuann.backends import Backend
from gpuann.backends.seam import Array
from gpuann.errors import bad_value


def plus_plus(backend: Backend, x: Array, n: int, seed: int, *, progress: bool) -> Array:
    """n rows of x (N, D), each drawn in proportion to its squared distance to the nearest one drawn
    before -> (n, D) float32.
    """
    random = np.random.default_rng([seed, 2])
    chosen = [int(random.integers(len(x)))]
    nearest: arrays.HostArray | None = None
    for _ in bar(range(n - 1), "k-means++", show=progress):
        _, last = backend.ops.assign(x[None], x[None, chosen[-1] : chosen[-1] + 1])
        dists = backend.get(last[0]).astype(np.float64)
        nearest = dists if nearest is None else np.minimum(nearest, dists)
        total = np.cumsum(nearest)
        at = int(np.searchsorted(total, random.random() * total[-1], side="right"))
        chosen.append(min(at, len(x) - 1))
    return x[backend.put(np.asarray(chosen))]


def given(
    where: str, init_method: str, n_clusters: int, centroids: Any, dim: int
) -> arrays.HostArray | None:
    """Centroids (n_clusters, dim) that a caller brings, checked; None where he is to bring none."""
    if init_method != "Array":
        if centroids is not None:
            raise bad_value(where, "centroids", 'come with init_method="Array"', init_method)
        return None
    if centroids is None:
        raise bad_value(where, "centroids", 'be given with init_method="Array"', None)
    start = checked(where, centroids, dim)
    if len(start) != n_clusters:
        raise bad_value(where, "centroids", f"have {n_clusters} rows", len(start))
    return start


def checked(where: str, centroids: Any, dim: int) -> arrays.HostArray:
    """Centroids (n, dim) as float32."""
    given = arrays.as_host(where, "centroids", centroids)
    validate.matrix(where, "centroids", given, dim)
    validate.finite(where, "centroids", given)
    return np.ascontiguousarray(given, np.float32)
