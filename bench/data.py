"""Seeded synthetic data, the same rows for tests and bench.

clustered   low intrinsic dimension: 24 latent dimensions mapped linearly, around 300 centres
gaussians   isotropic, sigma 0.7, around 1000 centres of unit scale
textbook    40 centres scaled by 6, unit noise, with the rows that start its k-means
"""

import numpy as np


def clustered(n, dim, n_queries, seed=0, rank=24, clusters=300):
    """-> base (n, dim), queries (n_queries, dim) float32."""
    r = np.random.default_rng(seed)
    latent = r.standard_normal((n + n_queries, rank), dtype=np.float32)
    mix = r.standard_normal((rank, dim), dtype=np.float32)
    centers = r.standard_normal((clusters, dim), dtype=np.float32) * 3
    x = latent @ mix + centers[r.integers(0, clusters, n + n_queries)]
    x += np.float32(0.3) * r.standard_normal((n + n_queries, dim), dtype=np.float32)
    return x[:n].copy(), x[n:].copy()


def gaussians(n, dim, n_queries, seed=0, clusters=1000, sigma=0.7):
    """-> base (n, dim), queries (n_queries, dim) float32."""
    r = np.random.default_rng(seed)
    centers = r.standard_normal((clusters, dim), dtype=np.float32)
    of = centers[r.integers(0, clusters, n + n_queries)]
    x = of + np.float32(sigma) * r.standard_normal((n + n_queries, dim), dtype=np.float32)
    return x[:n].copy(), x[n:].copy()


def textbook(n=200_000, dim=64, n_queries=500, n_lists=256):
    """-> base, queries (float64) and the row numbers whose vectors start 8 Lloyd iterations."""
    r = np.random.default_rng(7)
    centers = r.standard_normal((40, dim)) * 6.0
    base = centers[r.integers(0, 40, n)] + r.standard_normal((n, dim))
    queries = centers[r.integers(0, 40, n_queries)] + r.standard_normal((n_queries, dim))
    return base, queries, r.choice(n, n_lists, replace=False)
