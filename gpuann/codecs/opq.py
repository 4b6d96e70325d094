"""A rotation learnt for product quantisation, with the codebooks in turn.

Source: Ge, He, Ke, Sun, "Optimized product quantization", PAMI 2014: principal axes are dealt out
to the subspaces so that the products of their variances are even, then codebooks and rotation
alternate.
"""

import numpy as np

from gpuann import kmeans
from gpuann.arrays import HostArray
from gpuann.backends import Backend
from gpuann.codecs import pq
from gpuann.codecs.axes import in_units, pad, turned

N_ITERS = 16
"""Turns of codebooks and rotation."""


def learn(
    backend: Backend, x: HostArray, pq_dim: int, pq_len: int, pq_book_size: int, seed: int
) -> HostArray:
    """Learn from rows (n, dim) float32 on the host -> rotation (pq_dim * pq_len, dim) float32.

    Cost   N_ITERS times one k-means iteration of the codebooks, 2 n width^2 flop and an SVD of
           (width, width) on the host; memory a few copies of x in float64.
    """
    xp, width, dim = backend.xp, pq_dim * pq_len, x.shape[1]
    wide = pad(np, x, width).astype(np.float64)
    rotation = _dealt_axes(wide, pq_dim)
    books = None
    for _ in range(N_ITERS):
        y = turned(backend, backend.put(x), backend.put(in_units(rotation[:, :dim])))
        pieces = pq.pieces(backend, y, pq_dim)
        if books is None:
            books = pieces[:, backend.put(kmeans.random_rows(len(x), pq_book_size, seed))]
        books = kmeans.lloyd(backend, pieces, books, 1).centers
        labels, _ = backend.ops.assign(pieces, books, rescore=False)
        decoded = books[xp.arange(pq_dim)[:, None], labels].transpose(1, 0, 2)
        there = backend.get(xp.ascontiguousarray(decoded)).reshape(len(x), width)
        # the rotation that brings rows nearest to what their codes stand for: Procrustes
        u, _, v = np.linalg.svd(there.T.astype(np.float64) @ wide)
        rotation = u @ v
    return in_units(rotation[:, :dim])


def _dealt_axes(x: HostArray, pq_dim: int) -> HostArray:
    """Principal axes of rows (n, width) float64, each given to the subspace whose variances have
    the least product so far -> (width, width).
    """
    centered = x - x.mean(axis=0)
    variance, axes = np.linalg.eigh(centered.T @ centered / len(x))
    least = max(float(variance.max()), 1e-300) * 1e-12
    room, product = [x.shape[1] // pq_dim] * pq_dim, [0.0] * pq_dim
    dealt: list[list[int]] = [[] for _ in range(pq_dim)]
    for axis in np.argsort(-variance, kind="stable").tolist():
        m = min((m for m in range(pq_dim) if room[m]), key=lambda m: (product[m], m))
        dealt[m].append(axis)
        room[m] -= 1
        product[m] += float(np.log(max(float(variance[axis]), least)))
    order = [axis for some in dealt for axis in some]
    return np.ascontiguousarray(axes[:, order].T)
