"""The four metrics, and how each becomes one of the two that the operations know.

Below the public API smaller is better. `sqeuclidean`, `euclidean` and `cosine` are scanned as
squared L2 (cosine on normalised vectors, where |q - v|^2 = 2 (1 - cos)); `inner_product` is
scanned as -q.v. `reported` turns a scanned distance into the one that the caller asked for.
"""

from typing import Any, Literal

import numpy as np

from gpuann.errors import bad_value

Metric = Literal["sqeuclidean", "euclidean", "inner_product", "cosine"]
ScanMetric = Literal["sqeuclidean", "inner_product"]

METRICS: tuple[Metric, ...] = ("sqeuclidean", "euclidean", "inner_product", "cosine")


def check(where: str, metric: object) -> Metric:
    """Return `metric` if it is one of METRICS, else raise ValueError that lists them."""
    for known in METRICS:
        if metric == known:
            return known
    raise bad_value(where, "metric", f"be one of {', '.join(METRICS)}", repr(metric))


def scan_metric(metric: Metric) -> ScanMetric:
    """The metric that the operations see."""
    return "inner_product" if metric == "inner_product" else "sqeuclidean"


def reported(metric: Metric, dists: Any) -> Any:
    """Scanned distances (n_queries, k) float32, +inf where missing -> distances as the API gives.

    inner_product comes back as the product itself, largest first, and -inf where missing.
    """
    if metric == "euclidean":
        return np.sqrt(dists)
    if metric == "cosine":
        return dists * np.float32(0.5)
    if metric == "inner_product":
        return 0 - dists  # not -dists: orthogonal rows give 0.0, not -0.0
    return dists
