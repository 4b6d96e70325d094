"""GPU-first approximate nearest-neighbour search, with a NumPy backend of the same answers."""

from gpuann import (
    brute_force,
    distributed,
    filters,
    io,
    ivf_flat,
    ivf_pq,
    ivf_sq,
    kmeans,
    planning,
    quantize,
    refined,
    shards,
    streamed,
)
from gpuann._version import __version__
from gpuann.backends.numpy_ops._threads import get_num_threads, set_num_threads
from gpuann.errors import BackendError
from gpuann.exchange import from_cuvs, from_faiss, to_faiss
from gpuann.factory import index_factory
from gpuann.files import load, save
from gpuann.rerank import refine

__all__ = [
    "BackendError",
    "__version__",
    "brute_force",
    "distributed",
    "filters",
    "from_cuvs",
    "from_faiss",
    "get_num_threads",
    "index_factory",
    "io",
    "ivf_flat",
    "ivf_pq",
    "ivf_sq",
    "kmeans",
    "load",
    "planning",
    "quantize",
    "refine",
    "refined",
    "save",
    "set_num_threads",
    "shards",
    "streamed",
    "to_faiss",
]
