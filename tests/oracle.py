"""What is right, in loops of float64. Imports nothing from gpuann: it is the start of the chain
oracle -> numpy_ops -> cuda_ops.
"""

import numpy as np


def distance(query, row, metric):
    """One distance in float64, smaller is better: squared L2 or minus the product."""
    q, v = query.astype(np.float64), row.astype(np.float64)
    if metric == "inner_product":
        return -float(np.sum(q * v))
    return float(np.sum((q - v) ** 2))


def knn(queries, rows, k, metric, ids=None, keep=None):
    """The k nearest by (distance, id) -> dists (Q, k) float64, ids (Q, k), padded (+inf, -1)."""
    ids = np.arange(len(rows)) if ids is None else ids
    out_d, out_i = np.full((len(queries), k), np.inf), np.full((len(queries), k), -1)
    for q, query in enumerate(queries):
        found = [
            (distance(query, row, metric), int(i))
            for row, i in zip(rows, ids, strict=True)
            if keep is None or keep[q, i]
        ]
        for place, (d, i) in enumerate(sorted(found)[:k]):
            out_d[q, place], out_i[q, place] = d, i
    return out_d, out_i


def nearest_center(rows, centers):
    """Smallest centre number at the smallest distance -> labels (n,), dists (n,) float64."""
    labels, dists = [], []
    for row in rows:
        all_dists = [distance(row, c, "sqeuclidean") for c in centers]
        labels.append(int(np.argmin(all_dists)))
        dists.append(min(all_dists))
    return np.array(labels), np.array(dists)


def cluster_sums(rows, labels, n_clusters):
    """Sums (C, D) float64 and counts (C,), row by row."""
    sums, counts = np.zeros((n_clusters, rows.shape[1])), np.zeros(n_clusters, int)
    for row, label in zip(rows, labels, strict=True):
        sums[label] += row
        counts[label] += 1
    return sums, counts


def lloyd(rows, centers, n_iters):
    """Plain Lloyd iterations without empty clusters -> centers (C, D) float64, labels."""
    centers = centers.astype(np.float64)
    for _ in range(n_iters):
        labels, _ = nearest_center(rows, centers)
        sums, counts = cluster_sums(rows, labels, len(centers))
        centers = sums / counts[:, None]
    return centers, nearest_center(rows, centers)[0]


def decode(codes, codebooks, centers):
    """PQ rows back to vectors: codes (n, M), codebooks (M, J, L), centers (n, M * L)."""
    out = centers.astype(np.float64).copy()
    pq_len = codebooks.shape[2]
    for i, row in enumerate(codes):
        for m, code in enumerate(row):
            out[i, m * pq_len : (m + 1) * pq_len] += codebooks[m, code]
    return out


def canonical_sum(values):
    """The sum in the order that the seam promises: halves down to 128, then eight interleaved."""
    n = len(values)
    if n > 128:
        half = n // 2 - n // 2 % 8
        return canonical_sum(values[:half]) + canonical_sum(values[half:])
    if n < 8:
        total, rest = np.float64(0), values
    else:
        lanes, whole = list(values[:8]), n - n % 8
        for i in range(8, whole):
            lanes[i % 8] = lanes[i % 8] + values[i]
        total = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + (
            (lanes[4] + lanes[5]) + (lanes[6] + lanes[7])
        )
        rest = values[whole:]
    for value in rest:
        total = total + value
    return total
