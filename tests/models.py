"""The indexes behind one face, so that an identity is tested on each."""

import sys
from concurrent.futures import ThreadPoolExecutor

from gpuann import brute_force, ivf_flat, ivf_pq, ivf_sq


def at_once(work, n=4):
    """work(seed) in n threads at once; what one of them raises is raised here."""
    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(work, range(n)))


METRICS = ["sqeuclidean", "euclidean", "inner_product", "cosine"]
KINDS = ["brute_force", "ivf_flat", "ivf_pq", "ivf_sq"]


def build(kind, rows, metric="sqeuclidean", *, n_lists=16, pq_dim=0, device=None, **more):
    """An index of `kind` over rows."""
    if kind == "brute_force":
        return brute_force.build(rows, metric, device=device)
    if kind != "ivf_pq":
        module = ivf_flat if kind == "ivf_flat" else ivf_sq
        params = module.IndexParams(n_lists=n_lists, metric=metric, **more)
        return module.build(params, rows, device=device)
    params = ivf_pq.IndexParams(
        n_lists=n_lists, metric=metric, pq_dim=pq_dim, kmeans_n_iters=4, **more
    )
    return ivf_pq.build(params, rows, device=device)


def search(index, queries, k, n_probes=4, **more):
    """(distances, ids) of any of them."""
    if isinstance(index, brute_force.Index):
        return brute_force.search(index, queries, k, **more)
    module = sys.modules[type(index).__module__]
    params = module.SearchParams(n_probes=n_probes)
    return module.search(params, index, queries, k, **more)
