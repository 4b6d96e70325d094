"""One file a library, each with the same four functions; the worker's process imports one of them.

configs(shape, grid)             what to build, and what to search each with: see `Config`
build(rows, config)              rows (n, dim) float32 -> an index
search(index, queries, k, how)   -> ids (n, k), -1 where there is none; `how` is one of
                                 `config.search`
size(index)                      bytes of the index with all that a search needs

Beside them `PACKAGE`, whose version is recorded, and `use_threads(n)`. A file imports its library
inside the functions' module, so `bench.peers` itself imports none.
"""

import importlib.metadata
import importlib.util
from typing import Any, NamedTuple

# peer -> (module that must be there, its package, needs a GPU)
PEERS: dict[str, tuple[str, str, bool]] = {
    "gpuann": ("gpuann", "gpuann", False),
    "gpuann_cuda": ("cupy", "gpuann", True),
    "faiss": ("faiss", "faiss-cpu", False),
    "hnswlib": ("hnswlib", "hnswlib", False),
    "usearch": ("usearch", "usearch", False),
    "scann": ("scann", "scann", False),
    "lance": ("lance", "pylance", False),
    "cuvs": ("cuvs", "cuvs-cu13", True),
    "flashlib": ("flashlib", "flashlib", True),
    "faiss_gpu": ("faiss", "faiss-gpu", True),
}


class Shape(NamedTuple):
    """What `configs` may know of the data."""

    n: int
    dim: int


class Config(NamedTuple):
    """One index to build, and the settings to search it with, from fast to thorough.

    The first key of each setting is the one that moves along a curve; a curve is what shares the
    others, so only along it is anything interpolated.
    """

    kind: str
    build: dict[str, Any]
    search: list[dict[str, Any]]


def list_counts(n: int, grid: str) -> list[int]:
    """Inverted lists to try: the power of two next to sqrt(n); full: also twice and four times it.

    >>> list_counts(1_000_000, "full")
    [1024, 2048, 4096]
    """
    base = 1 << max(2, round(0.5 * (n.bit_length() - 0.5)))
    return [base, 2 * base, 4 * base] if grid == "full" else [base]


def probes(n_lists: int) -> list[int]:
    """Probes to try: 1, 2, 3, 4, 6, 8 ... up to a quarter of the lists."""
    steps = sorted({p for i in range(11) for p in (1 << i, 3 << i)})
    return [p for p in steps if p <= max(1, n_lists // 4)]


# all sides train alike: the points of every cluster, the rounds of k-means, the rows of a codebook
TRAIN_POINTS, TRAIN_ITERS, CODE_ROWS = 64, 10, 16_384
TRAINING = {"points": TRAIN_POINTS, "iterations": TRAIN_ITERS, "code_rows": CODE_ROWS}


def missing(name: str, has_gpu: bool) -> str | None:
    """Why a peer cannot run here, or None."""
    module, package, gpu = PEERS[name]
    if gpu and not has_gpu:
        return "needs a CUDA device; not run on one yet"
    if importlib.util.find_spec(module) is None:
        return f"not installed: pip install {package}"
    return None


def version(name: str) -> str:
    """Of the peer's package; faiss goes by several names."""
    for package in (PEERS[name][1], "faiss-gpu-cu12", "cuvs-cu12"):
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown"
