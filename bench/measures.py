"""Recall, spread of times, and frontiers compared at one recall."""

import math
import re
from typing import Any

import numpy as np

RECALLS = (0.90, 0.95, 0.99)


def recall(ids: np.ndarray, truth: np.ndarray) -> float:
    """Share of the true neighbours truth (n, k) among ids (n, any); -1 is no id, and an id that
    comes twice counts once.
    """
    hits = (truth[:, :, None] == ids[:, None, :]) & (truth[:, :, None] >= 0)
    return float(hits.any(axis=2).mean())


def recall_by_distance(
    ids: np.ndarray, rows: np.ndarray, queries: np.ndarray, truth: np.ndarray
) -> float:
    """Share of the k results that are as near as the k-th true one, so that ties do not count
    against anybody: ids (n, k), rows (n_rows, dim), queries (n, dim), truth (n, k).

    Distances are squares, summed here in float64 for everyone; a library's own are not believed.
    An id that comes twice counts once.
    """
    hits, k = 0, truth.shape[1]
    for own, query, true in zip(ids, queries, truth, strict=True):
        found = np.unique(own[own >= 0])
        if not len(found):
            continue
        limit = _squares(rows[true[true >= 0]], query).max()
        # as two float32 roundings of one distance may differ
        hits += min(k, int((_squares(rows[found], query) <= limit * (1 + 1e-6)).sum()))
    return hits / truth.size


def _squares(rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    gap = rows.astype(np.float64) - query.astype(np.float64)
    return (gap * gap).sum(axis=1)


def percentiles(seconds: list[float]) -> dict[str, float]:
    """p50, p95, p99 of the calls."""
    p50, p95, p99 = np.percentile(seconds, [50, 95, 99])
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99)}


def at_recall(curve: list[tuple[float, float]], wanted: float) -> float | None:
    """Queries/s of one curve of (recall, queries/s) at a recall; None where it was not attained.

    Between two measured points the logarithm of the rate is interpolated; below the lowest
    recall the rate of that point counts, which has more recall than asked.
    """
    if not any(r >= wanted for r, _ in curve):
        return None
    front: list[tuple[float, float]] = []  # by falling recall, each faster than all before
    for r, rate in sorted(curve, key=lambda p: (-p[0], -p[1])):
        if not front or rate > front[-1][1]:
            front.append((r, rate))
    best = max(rate for r, rate in front if r >= wanted)
    above = min(r for r, _ in front if r >= wanted)
    lower = [p for p in front if p[0] < wanted]
    if above == wanted or not lower:
        return best
    r, rate = max(lower)
    share = (above - wanted) / (above - r)
    return math.exp(math.log(best) + share * (math.log(rate) - math.log(best)))


def curves(points: list[dict[str, Any]]) -> dict[tuple[str, ...], list[tuple[float, float]]]:
    """Points by curve: same peer, kind, build and all but the first search parameter."""
    found: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    for p in points:
        fixed = dict(list(p["search"].items())[1:])
        key = (p["peer"], p["kind"], str(p["build"]), str(fixed))
        found.setdefault(key, []).append((p["recall"], p["qps"]))
    return found


def best(points: list[dict[str, Any]], wanted: float) -> tuple[float, tuple[str, ...]] | None:
    """The fastest of these points' curves at a recall, and which it is."""
    rates = [(rate, key) for key, c in curves(points).items() if (rate := at_recall(c, wanted))]
    return max(rates) if rates else None


def setting_of(point: dict[str, Any]) -> tuple[str, int, int, int] | None:
    """Kind, lists, probes and candidates over k, by whichever names a library has for them; None
    for what has no lists, and for product codes of another size.
    """
    build, search = point["build"], point["search"]
    lists = re.match(r"IVF(\d+),", build.get("factory", ""))
    n_lists = lists[1] if lists else build.get("n_lists")
    probes = search.get("n_probes", search.get("nprobe"))
    kind = point["kind"].replace("SQ8", "SQ")
    if n_lists is None or probes is None or "fs" in kind:
        return None
    return kind, int(n_lists), int(probes), int(search.get("k_factor", 1))
