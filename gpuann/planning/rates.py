"""How fast a device scans: measured here, stated, or bounded by stated peaks."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuann import backends, brute_force
from gpuann.arrays import HostArray
from gpuann.engine.plan import by_table
from gpuann.factory import Factory, index_factory
from gpuann.planning.sizes import RowShape, n_lists_of
from gpuann.planning.work import Work

_ROW_FLOATS, _MOST_ROWS = 1 << 23, 1 << 17  # of the rows measured: 32 MiB as float32
_FEWEST_LISTS, _MOST_LISTS, _SECONDS, _QUERIES = 16, 256, 0.5, 64


@dataclass(frozen=True)
class Rates:
    """Of one device, for a batch of so many queries."""

    rows_per_second: float
    centers_per_second: float
    source: str
    """"measured", "stated" or "bound"."""
    detail: str
    """On what, or by whom."""

    def query_seconds(self, work: Work) -> float:
        """One query on one shard."""
        return work.rows / self.rows_per_second + work.centers / self.centers_per_second


def bound(shape: RowShape, batch: int, bandwidth: float, multiply_adds: float) -> Rates:
    """Of a device with these peaks, bytes/s and multiply-adds/s, none of which is surpassed: a
    row takes what it takes to read it or to multiply it, whichever is longer. What all queries of a
    batch probe is read once for them; a PQ code looked up instead counts as one multiply-add.
    """

    def rate(n_bytes: float, products: float) -> float:
        return 1 / max(n_bytes / batch / bandwidth, products / multiply_adds)

    rows = rate(shape.scan_bytes, shape.pq_dim or shape.width)
    centers = rate(shape.center_bytes, shape.width)
    text = f"{bandwidth:.3g} bytes/s and {multiply_adds:.3g} multiply-adds/s as stated"
    return Rates(rows, centers, "bound", f"roofline of {text}: a bound, not measured")


def measure(
    made: Factory, dtype: str, n_probes: int, batch: int, device: str | None, seed: int
) -> Rates:
    """Search a small index of the same codec by the same path, and rows like its centres by brute
    force, for about a second after the build.

    Queries of a batch share lists as they would in the index planned, as far as so few lists allow:
    the detail says how many share one. The rates have the fixed cost of a search in them, which
    longer scans share out better. Raises BackendError where the device cannot be had.
    """
    backend, rng = backends.choose("planning.plan", device), np.random.default_rng(seed)
    n = max(4096, min(_MOST_ROWS, _ROW_FLOATS // made.dim))
    rows = _rows(rng, (n, made.dim), dtype)
    queries = _rows(rng, (max(batch, _QUERIES), made.dim), dtype)
    pieces = [p for p in made.text.split(",") if not p.startswith(("OPQ", "RR", "RFlat", "Refine"))]
    n_lists, planned = n_lists_of(made), batch * n_probes / n_lists_of(made)
    tables = by_table(batch * n_probes, n_lists, backend.lut_pairs_per_list)
    # tables: enough lists for one probe of each query to stay under the bound
    wanted = 2 * batch / backend.lut_pairs_per_list if tables else n_lists / n_probes
    lists = max(_FEWEST_LISTS, min(_MOST_LISTS, round(wanted)))
    text = ",".join(f"IVF{lists}" if p.startswith("IVF") else p for p in pieces)
    few: dict[str, Any] = {} if made.index_params is None else {"kmeans_n_iters": 2}
    built = index_factory(made.dim, text, made.metric, **few)
    index, module = built.build(rows, device=backend.device), built.module
    whole = brute_force.build(rows.astype(np.float32), made.metric, device=backend.device)
    probed, scanned = 0, float(n)
    if module is brute_force:
        found = _queries_per_second(lambda x: brute_force.search(index, x, 10), queries, batch)
    else:
        probed = 1 if tables else max(1, round(index.n_lists * n_probes / n_lists))
        params = module.SearchParams(n_probes=probed)
        found = _queries_per_second(lambda x: module.search(params, index, x, 10), queries, batch)
        centers = brute_force.build(backend.get(index.centers), made.metric, device="cpu")
        found_in = brute_force.search(centers, queries, probed)[1]
        scanned = float(backend.get(index.list_sizes)[found_in].sum(axis=1).mean())
    of_centers = _queries_per_second(lambda x: brute_force.search(whole, x, 10), queries, batch)
    how = text
    if probed:
        shared = batch * probed / index.n_lists
        how = f"{text}, {probed} probes, {shared:.3g} queries a list (planned: {planned:.3g})"
    what = f"{how}, {n:,} x {made.dim} random rows, batches of {batch}"
    return Rates(scanned * found, n * of_centers, "measured", f"on {backend.device}: {what}")


def _rows(rng: np.random.Generator, shape: tuple[int, int], dtype: str) -> HostArray:
    x = rng.standard_normal(shape, np.float32)
    if np.dtype(dtype).kind == "f":
        return x.astype(dtype)
    limits = np.iinfo(dtype)
    middle = (int(limits.min) + int(limits.max) + 1) // 2
    return np.clip(np.rint(32 * x) + middle, limits.min, limits.max).astype(dtype)


def _queries_per_second(run: Callable[[HostArray], Any], queries: HostArray, batch: int) -> float:
    """By the median batch of those in the time, after one that compiles and loads."""
    run(queries[:batch])
    taken, end, at = list[float](), time.perf_counter() + _SECONDS, 0
    while not taken or time.perf_counter() < end:
        begin = time.perf_counter()
        run(queries[at : at + batch])
        taken.append(time.perf_counter() - begin)
        at = (at + batch) % (len(queries) - batch + 1)
    return batch / float(np.median(taken))
