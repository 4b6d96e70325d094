"""Small indexes for the scan operations, made by hand, with the truth beside them."""

from typing import NamedTuple

import numpy as np
import oracle
import strategies

from gpuann.backends import packing
from gpuann.backends.seam import FlatPayload, Lists, PqPayload, SqPayload


class Case(NamedTuple):
    """A payload in lists; `rows` are its decoded rows in storage order, `list_of` their lists."""

    payload: FlatPayload | PqPayload | SqPayload
    lists: Lists
    rows: np.ndarray
    list_of: np.ndarray
    metric: str

    def terms(self, queries, probes):
        """A(q, l) (Q, P) float32, None where no centre is added to rows."""
        if getattr(self.payload, "centers", None) is None:
            return None
        q, c = queries.astype(np.float64), self.payload.centers.astype(np.float64)
        product = np.einsum("qd,qpd->qp", q, c[probes])
        if self.metric == "inner_product":
            return (-product).astype(np.float32)
        return ((q**2).sum(axis=1)[:, None] - 2 * product).astype(np.float32)

    def truth(self, queries, probes, k, keep=None):
        """The k nearest of the probed rows in float64; keep (Q, n_ids) bool."""
        dists, ids = np.full((len(queries), k), np.inf), np.full((len(queries), k), -1)
        for q in range(len(queries)):
            probed = np.isin(self.list_of, probes[q])
            some = None if keep is None else keep[q : q + 1]
            dists[q : q + 1], ids[q : q + 1] = oracle.knn(
                queries[q : q + 1],
                self.rows[probed],
                k,
                self.metric,
                self.lists.ids[probed],
                some,
            )
        return dists, ids


def probes(rng, n_queries, n_lists, n_probes):
    """Distinct lists for each query, in random order (Q, P) int32."""
    order = np.argsort(rng.random((n_queries, n_lists)), axis=1)
    return np.ascontiguousarray(order[:, :n_probes], np.int32)


def _lists(rng, rows, offsets, reach, metric):
    n_lists = len(offsets) - 1
    list_of = np.repeat(np.arange(n_lists), np.diff(offsets))
    norms = (rows.astype(np.float64) ** 2).sum(axis=1)
    radius = np.zeros(n_lists)
    np.maximum.at(radius, list_of, np.sqrt(norms) + reach[list_of])
    if metric == "inner_product":
        norms = np.zeros_like(norms)
    ids = rng.permutation(len(rows)).astype(np.int64)
    return Lists(
        offsets, ids, norms.astype(np.float32), (radius * 1.001).astype(np.float32)
    ), list_of


def flat(rng, make, *, n_rows, n_lists, dim, metric, dtype=np.float32, shift=False):
    """Whole rows; with `shift` scanned about their mean."""
    rows = make(rng, n_rows, dim)
    if dtype != np.float32:
        rows = np.clip(np.rint(rows * 10), -120, 120)
        rows = (rows + 120 if dtype == np.uint8 else rows).astype(dtype)
    moved = rows.astype(np.float32)
    origin = None
    if shift:
        origin = moved.mean(axis=0)
        moved = moved - origin
    offsets = strategies.partition(rng, n_rows, n_lists)
    lists, list_of = _lists(rng, moved, offsets, np.zeros(n_lists), metric)
    return Case(FlatPayload(rows, None, origin), lists, rows, list_of, metric)


def pq(rng, make, *, n_rows, n_lists, pq_dim, pq_len, metric, pq_book_size=256):
    """PQ residuals about random centres."""
    offsets = strategies.partition(rng, n_rows, n_lists)
    centers = make(rng, n_lists, pq_dim * pq_len)
    codebooks = make(rng, pq_dim, pq_book_size, pq_len)
    codes = rng.integers(0, pq_book_size, (n_rows, pq_dim)).astype(np.uint8)
    list_of = np.repeat(np.arange(n_lists), np.diff(offsets))
    rows = oracle.decode(codes, codebooks, centers[list_of]).astype(np.float32)
    reach = 2 * np.sqrt((centers.astype(np.float64) ** 2).sum(axis=1))
    lists, list_of = _lists(rng, rows, offsets, reach, metric)
    packed = packing.pack(np, codes, packing.bits_of(pq_book_size))
    return Case(PqPayload(packed, codebooks, centers), lists, rows, list_of, metric)


def sq(rng, make, *, n_rows, n_lists, dim, metric, residual=True):
    """Scalar codes about random centres, or about the origin."""
    offsets = strategies.partition(rng, n_rows, n_lists)
    list_of = np.repeat(np.arange(n_lists), np.diff(offsets))
    centers = make(rng, n_lists, dim) if residual else None
    codes = rng.integers(-128, 128, (n_rows, dim)).astype(np.int8)
    step, middle = np.abs(make(rng, 2, dim)) / np.float32([[64], [1]])
    decoded = (codes * step).astype(np.float32) + middle
    reach = np.zeros(n_lists)
    if residual:
        decoded = decoded + centers[list_of]
        reach = 2 * np.sqrt((centers.astype(np.float64) ** 2).sum(axis=1))
    lists, list_of = _lists(rng, decoded, offsets, reach, metric)
    return Case(SqPayload(codes, step, middle, centers), lists, decoded, list_of, metric)


def bits(allowed):
    """allowed (..., n_ids) bool -> bit set (..., words) uint32."""
    n = allowed.shape[-1]
    padded = np.zeros((*allowed.shape[:-1], -(-n // 32) * 32), bool)
    padded[..., :n] = allowed
    packed = np.packbits(padded, axis=-1, bitorder="little")
    return np.ascontiguousarray(packed).view("<u4").astype(np.uint32)
