"""gpuann as a Python back end of cuvs-bench, which knows no plug-ins by itself: `register` it, or
`python -m gpuann_cuvs_bench` with the arguments of `python -m cuvs_bench.run`, which does both.

    kinds.py     cuvs-bench's parameters as gpuann's
    loader.py    what to build and search, from algos/*.yaml
    backend.py   building and searching, timed
    results.py   the files that cuvs-bench exports and plots
"""

from cuvs_bench.backends import search_spaces
from cuvs_bench.backends.registry import register_backend, register_config_loader

from gpuann_cuvs_bench import kinds
from gpuann_cuvs_bench.backend import GpuannBackend
from gpuann_cuvs_bench.loader import GpuannConfigLoader

__all__ = ["GpuannBackend", "GpuannConfigLoader", "register"]


def register() -> None:
    """Make `backend: gpuann` known to cuvs-bench; once a process."""
    register_backend("gpuann", GpuannBackend)
    register_config_loader("gpuann", GpuannConfigLoader)
    search_spaces.ALGORITHM_SEARCH_SPACES.update(kinds.SEARCH_SPACES)
