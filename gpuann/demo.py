"""The demo: IVF-PQ over 30,000 real word embeddings, measured and asked for words."""

import difflib
import importlib.util
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gpuann import backends, brute_force, ivf_pq
from gpuann._progress import bar
from gpuann.arrays import HostArray
from gpuann.errors import BackendError, bad_value, message
from gpuann.rerank import refine

_DATA = Path(__file__).parent / "data" / "words.npz"
_WORDS = ("king", "violin", "paris", "python", "purple")
_PARAMS = ivf_pq.IndexParams(n_lists=128, metric="cosine", pq_dim=50)
_N_PROBES = (1, 2, 4, 8, 16, 32)
_K = 10
_CANDIDATES = 40  # that the refined search asks the index for
_N_QUERIES = 3000
_REPEATS = 3


class Point(NamedTuple):
    """One row of the table."""

    n_probes: int
    recall: float
    rate: float
    """Queries per second."""
    refined_recall: float
    refined_rate: float


def run(words: Sequence[str], plot: Path | None, device: str | None) -> None:
    """Build, measure, print; draw the frontier to `plot` if that is given."""
    if plot is not None and importlib.util.find_spec("matplotlib") is None:
        way_out = "pip install 'gpuann[bench]'"
        raise BackendError(message("gpuann demo", "--plot", "have matplotlib", "none", way_out))
    names, vectors = _load()
    numbers = [_number_of(names, word) for word in words or _WORDS]

    chosen = backends.choose("gpuann demo", device)
    print(f"device    {chosen.device} ({chosen.reason})")
    start = time.perf_counter()
    index = ivf_pq.build(_PARAMS, vectors, device=device, progress=True)
    took = time.perf_counter() - start
    print(f"data      {len(vectors):,} words, dim {vectors.shape[1]}, int8, {_PARAMS.metric}")
    print(f"index     {index!r}")
    print(f"build     {took:.2f} s")
    dim, each = vectors.shape[1], index.nbytes / len(index)
    print(
        f"bytes     {index.pq_dim} per vector as code, {each:.0f} with id, norm and all tables; "
        f"float32 takes {4 * dim}\n"
    )
    points = _measure(index, vectors, device)
    _print_table(points)
    _print_neighbours(index, names, vectors, numbers, device)
    if plot is not None:
        _draw(points, plot)
        print(f"\nfrontier drawn to {plot}")


def _load() -> tuple[list[str], HostArray]:
    with np.load(_DATA) as data:
        return [word.decode() for word in data["words"]], data["vectors"]


def _number_of(names: list[str], word: str) -> int:
    try:
        return names.index(word.lower())
    except ValueError:
        close = difflib.get_close_matches(word.lower(), names, 3)
        way_out = f"try {', '.join(close)}" if close else None
        rule = f"be among the {len(names):,} words of the data"
        raise bad_value("gpuann demo", "word", rule, repr(word), way_out) from None


def _measure(index: ivf_pq.Index, vectors: HostArray, device: str | None) -> list[Point]:
    """Recall against exact search and queries/s; a word does not count as its own neighbour."""
    asked = np.random.default_rng(0).choice(len(vectors), _N_QUERIES, replace=False)
    queries = vectors[asked]
    exact = brute_force.build(vectors, _PARAMS.metric, device=device)
    truth = _without(asked, brute_force.search(exact, queries, _K + 1)[1])

    def plain(n_probes: int) -> HostArray:
        params = ivf_pq.SearchParams(n_probes=n_probes)
        return ivf_pq.search(params, index, queries, _K + 1)[1]

    def refined(n_probes: int) -> HostArray:
        params = ivf_pq.SearchParams(n_probes=n_probes)
        candidates = ivf_pq.search(params, index, queries, _CANDIDATES)[1]
        return refine(vectors, queries, candidates, _K + 1, _PARAMS.metric, device=device)[1]

    points = []
    for n_probes in bar(_N_PROBES, "searching", show=True):
        figures: list[float] = []
        for search in (plain, refined):
            ids, rate = _timed(search, n_probes)
            figures += [_recall(truth, _without(asked, ids)), rate]
        points.append(Point(n_probes, *figures))
    return points


def _timed(search: Callable[[int], HostArray], n_probes: int) -> tuple[HostArray, float]:
    """Result and median queries per second."""
    rates = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        ids = search(n_probes)
        rates.append(_N_QUERIES / (time.perf_counter() - start))
    return ids, float(np.median(rates))


def _without(asked: HostArray, ids: HostArray) -> HostArray:
    """Ids (n, k + 1) -> (n, k) without the query itself, or without the last."""
    own = ids == asked[:, None]
    own[~own.any(axis=1), -1] = True
    return ids[~own].reshape(len(ids), -1)


def _recall(truth: HostArray, ids: HostArray) -> float:
    return float((truth[:, :, None] == ids[:, None, :]).any(axis=2).mean())


def _print_table(points: list[Point]) -> None:
    print(f"{_N_QUERIES:,} words at once, the {_K} nearest of each, against exact search:\n")
    print(f"{'':8}  {'PQ codes alone':^22}  {f'{_CANDIDATES} candidates refined':^22}")
    print(
        f"{'n_probes':>8}  {'recall@10':>9}  {'queries/s':>11}  {'recall@10':>9}  {'queries/s':>11}"
    )
    for p in points:
        print(
            f"{p.n_probes:8}  {p.recall:9.3f}  {p.rate:11,.0f}  "
            f"{p.refined_recall:9.3f}  {p.refined_rate:11,.0f}"
        )


def _print_neighbours(
    index: ivf_pq.Index,
    names: list[str],
    vectors: HostArray,
    numbers: list[int],
    device: str | None,
) -> None:
    asked, queries = np.asarray(numbers), vectors[numbers]
    params = ivf_pq.SearchParams(n_probes=32)
    candidates = ivf_pq.search(params, index, queries, _CANDIDATES)[1]
    ids = refine(vectors, queries, candidates, 8, _PARAMS.metric, device=device)[1]
    print("\nnearest words (32 probes, refined)\n")
    for number, row in zip(numbers, _without(asked, ids), strict=True):
        print(f"{names[number]:>10}: {', '.join(names[i] for i in row)}")


def _draw(points: list[Point], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    lines: tuple[tuple[str, list[Any], list[Any]], ...] = (
        ("PQ codes alone", [p.recall for p in points], [p.rate for p in points]),
        (
            f"{_CANDIDATES} candidates refined",
            [p.refined_recall for p in points],
            [p.refined_rate for p in points],
        ),
    )
    for label, recall, rate in lines:
        axes.plot(recall, rate, "o-", label=label)
        for point, x, y in zip(points, recall, rate, strict=True):
            axes.annotate(str(point.n_probes), (x, y), (4, 4), textcoords="offset points")
    axes.set_xlabel("recall@10 against exact search")
    axes.set_ylabel("queries per second")
    axes.set_yscale("log")
    axes.set_title(f"30,000 words, IVF-PQ, {_N_QUERIES:,} queries at once; points: n_probes")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
