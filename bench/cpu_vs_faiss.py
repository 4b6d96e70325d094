"""gpuann's NumPy backend beside faiss-cpu: same centres, same codebooks, same threads, one run.

    python -m bench.cpu_vs_faiss [--only ivf,single,brute,kmeans,encode] [--out FILE]

Prints faiss' time over ours for every row (more than 1: we are faster) and writes one JSON; with
--only its rows take the place of the same rows of an earlier run in that file.
Needs faiss-cpu (the extra `bench`); Fashion-MNIST from Debian's package dataset-fashion-mnist, or
from the folder in FASHION_MNIST; without it those rows are left out and named.
"""

from bench import machine

machine.clear_presets()

import argparse  # noqa: E402
import gzip  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, NamedTuple  # noqa: E402

import faiss  # noqa: E402
import numpy as np  # noqa: E402

import gpuann  # noqa: E402
from bench.data import clustered  # noqa: E402
from gpuann import backends, brute_force, ivf_flat, ivf_pq, kmeans  # noqa: E402

THREADS = 2
K = 10
FASHION = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
PARTS = ("ivf", "single", "brute", "kmeans", "encode")
BARS = {
    "IVF-PQ, batch 10,000": 4,
    "IVF-Flat, batch 10,000": 3,
    "IVF-PQ, batch 100": 1,
    "IVF-Flat, batch 100": 1,
    "brute force, batch 10,000": 1,
    "brute force, batch 10,000, blas_threshold 1600": 1,
    "k-means 1M x 96 -> 4096": 0.8,
    "PQ encode": 0.5,
    "IVF-PQ, one query, p50": 0.3,
    "IVF-Flat, one query, p50": 0.3,
}


class Case(NamedTuple):
    """A data set with its index sizes."""

    name: str
    rows: np.ndarray
    queries: np.ndarray
    n_lists: int
    n_probes: int
    pq_dim: int


class Built(NamedTuple):
    """The same two indexes on both sides."""

    pq: ivf_pq.Index
    flat: ivf_flat.Index
    faiss_pq: Any
    faiss_flat: Any
    keep: Any  # faiss' coarse quantiser: its indexes only refer to it


def cases() -> list[Case]:
    """The data sets that can be had here."""
    rows, queries = clustered(500_000, 96, 10_000)
    found = [Case("clustered 500k x 96", rows, queries, 1024, 32, 48)]
    if (FASHION / "train-images-idx3-ubyte.gz").exists():
        train, test = (_images(FASHION / f"{n}-images-idx3-ubyte.gz") for n in ("train", "t10k"))
        found.append(Case("Fashion-MNIST 60k x 784", train, test, 256, 16, 98))
    else:
        print(f"Fashion-MNIST is not in {FASHION}: its rows are left out")
    return found


def _images(path: Path) -> np.ndarray:
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784).astype(np.float32)


def build(case: Case) -> Built:
    """Train once, here; give faiss the same centres and codebooks."""
    params = ivf_pq.IndexParams(n_lists=case.n_lists, pq_dim=case.pq_dim, kmeans_n_iters=10)
    pq = ivf_pq.build(params, case.rows)
    flat_params = ivf_flat.IndexParams(n_lists=case.n_lists)
    flat = ivf_flat.build_precomputed(flat_params, case.rows, pq.centers)
    dim = case.rows.shape[1]
    coarse = faiss.IndexFlatL2(dim)
    coarse.add(pq.centers)
    faiss_pq = faiss.IndexIVFPQ(coarse, dim, case.n_lists, case.pq_dim, 8)
    faiss.copy_array_to_vector(pq.pq_centers.ravel(), faiss_pq.pq.centroids)
    faiss_pq.is_trained = True
    faiss_pq.precompute_table()
    faiss_flat = faiss.IndexIVFFlat(coarse, dim, case.n_lists)
    faiss_flat.is_trained = True
    for index in (faiss_pq, faiss_flat):
        index.add(case.rows)
        index.nprobe = case.n_probes
    return Built(pq, flat, faiss_pq, faiss_flat, coarse)


def recall(ids: np.ndarray, truth: np.ndarray) -> float:
    """Share of the true neighbours found."""
    return float((truth[:, :, None] == ids[:, None, :]).any(axis=2).mean())


class Report:
    """Rows of the table, printed as they come."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, data: str, work: str, times: dict[str, Any], **more: Any) -> None:
        """One row: times has "faiss" and "gpuann"."""
        ratio = times["faiss"]["median"] / times["gpuann"]["median"]
        bar = BARS[work]
        row = {"data": data, "work": work, "ratio": ratio, "bar": bar, "seconds": times, **more}
        self.rows.append(row)
        print(
            f"{'ok  ' if ratio >= bar else 'MISS'} {ratio:6.2f} (bar {bar})  {data}: {work}   "
            f"faiss {times['faiss']['median'] * 1e3:.2f} ms, "
            f"gpuann {times['gpuann']['median'] * 1e3:.2f} ms  {more or ''}",
            flush=True,
        )


def run_ivf(case: Case, built: Built, report: Report) -> None:
    """Batches of 10,000 and of 100."""
    truth = brute_force.search(brute_force.build(case.rows), case.queries, K)[1]
    pairs = (
        ("IVF-PQ", built.pq, built.faiss_pq, ivf_pq),
        ("IVF-Flat", built.flat, built.faiss_flat, ivf_flat),
    )
    for name, ours, theirs, module in pairs:
        params = module.SearchParams(n_probes=case.n_probes)
        found = {
            "gpuann": recall(module.search(params, ours, case.queries, K)[1], truth),
            "faiss": recall(theirs.search(case.queries, K)[1], truth),
        }
        for n, repeats in ((10_000, 5), (100, 25)):
            queries = case.queries[:n]
            times = machine.interleaved(
                {
                    "faiss": lambda q=queries, i=theirs: i.search(q, K),
                    "gpuann": lambda q=queries, i=ours, p=params, m=module: m.search(p, i, q, K),
                },
                repeats,
            )
            report.add(case.name, f"{name}, batch {n:,}", times, recall=found)


def run_single(case: Case, built: Built, report: Report) -> None:
    """Queries one at a time."""
    n = 300
    for name, ours, theirs, module in (
        ("IVF-PQ", built.pq, built.faiss_pq, ivf_pq),
        ("IVF-Flat", built.flat, built.faiss_flat, ivf_flat),
    ):
        params = module.SearchParams(n_probes=case.n_probes)
        seconds: dict[str, list[float]] = {"faiss": [], "gpuann": []}
        for i in range(n):
            q = case.queries[i : i + 1]
            each = machine.interleaved(
                {
                    "faiss": lambda q=q, i=theirs: i.search(q, K),
                    "gpuann": lambda q=q, i=ours, p=params, m=module: m.search(p, i, q, K),
                },
                1,
                rest=0,  # one after another, as a service would; no threads are left spinning
            )
            for side in seconds:
                seconds[side].append(each[side]["median"])
        times = {side: machine.spread(s) for side, s in seconds.items()}
        report.add(case.name, f"{name}, one query, p50", times)


def run_brute(case: Case, report: Report) -> None:
    """Exact search of all rows, with faiss as shipped and with its own kernel for more queries."""
    ours, theirs = brute_force.build(case.rows), faiss.IndexFlatL2(case.rows.shape[1])
    theirs.add(case.rows)
    shipped = faiss.cvar.distance_compute_blas_threshold
    for work, threshold in (
        ("brute force, batch 10,000", shipped),
        ("brute force, batch 10,000, blas_threshold 1600", 1600),
    ):
        faiss.cvar.distance_compute_blas_threshold = threshold
        times = machine.interleaved(
            {
                "faiss": lambda: theirs.search(case.queries, K),
                "gpuann": lambda: brute_force.search(ours, case.queries, K),
            },
            3,
        )
        report.add(case.name, work, times)
    faiss.cvar.distance_compute_blas_threshold = shipped
    want, got = theirs.search(case.queries, K)[1], brute_force.search(ours, case.queries, K)[1]
    print(f"     ids equal to faiss' in {(want == got).mean():.5f} of places")


def run_kmeans(report: Report) -> None:
    """The same start and iterations on both sides; the objective of the centres they give."""
    rows, _ = clustered(1_000_000, 96, 1)
    start = rows[np.random.default_rng(1).choice(len(rows), 4096, replace=False)]
    n_iters = 4
    params = kmeans.KMeansParams(n_clusters=4096, init_method="Array", max_iter=n_iters, tol=0.0)
    centers: dict[str, np.ndarray] = {}

    def theirs() -> None:
        other = faiss.Kmeans(96, 4096, niter=n_iters, max_points_per_centroid=10**9)
        other.train(rows, init_centroids=start)
        centers["faiss"] = other.centroids

    def ours() -> None:
        backend = backends.choose("bench", "cpu")
        x, c = rows[None], start[None]
        centers["gpuann"] = kmeans.lloyd(backend, x, c, params.max_iter, params.tol).centers[0]

    times = machine.interleaved({"faiss": theirs, "gpuann": ours}, 2)
    cost = {side: kmeans.cluster_cost(rows, c) for side, c in centers.items()}
    report.add("clustered 1M x 96", "k-means 1M x 96 -> 4096", times, objective=cost, iters=n_iters)


def run_encode(case: Case, built: Built, report: Report) -> None:
    """Codes of the same residuals."""
    labels, _ = kmeans.predict(kmeans.KMeansParams(), case.rows, built.pq.centers)
    residuals = case.rows - built.pq.centers[labels]
    core = built.pq.core
    codec = gpuann.codecs.pq.PqCodec(
        core.metric, core.coarse.shift, core.coarse.centers, built.pq.pq_centers
    )
    step, out = 65_536, {}

    def ours() -> None:
        parts = range(0, len(residuals), step)
        codes = [codec.codes(core.backend, residuals[i : i + step]) for i in parts]
        out["gpuann"] = np.concatenate(codes)

    def theirs() -> None:
        out["faiss"] = built.faiss_pq.pq.compute_codes(residuals)

    times = machine.interleaved({"faiss": theirs, "gpuann": ours}, 5)
    equal = float((out["gpuann"] == out["faiss"]).mean())
    report.add(case.name, "PQ encode", times, equal_codes=equal)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    wanted = arguments.only.split(",")
    if not set(wanted) <= set(PARTS):
        parser.error(f"--only must be of {', '.join(PARTS)}, got {arguments.only}")
    faiss.omp_set_num_threads(THREADS)
    gpuann.set_num_threads(THREADS)
    about = machine.describe()
    print(json.dumps(about, indent=1))
    report = Report()
    for case in cases():
        built = build(case) if {"ivf", "single", "encode"} & set(wanted) else None
        if built is not None:
            if "ivf" in wanted:
                run_ivf(case, built, report)
            if "single" in wanted:
                run_single(case, built, report)
            if "encode" in wanted:
                run_encode(case, built, report)
        if "brute" in wanted:
            run_brute(case, report)
    if "kmeans" in wanted:
        run_kmeans(report)
    if arguments.out:
        write(arguments.out, about, report.rows)


def write(path: Path, about: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Write the rows; those of an earlier run on the same machine that were not repeated stay."""
    if path.exists():
        earlier = json.loads(path.read_text())
        if earlier["machine"]["cpu"] == about["cpu"]:
            new = {(row["data"], row["work"]) for row in rows}
            kept = [row for row in earlier["rows"] if (row["data"], row["work"]) not in new]
            rows = sorted(kept + rows, key=lambda r: (r["data"], list(BARS).index(r["work"])))
    path.write_text(json.dumps({"machine": about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
