"""gpuann on a GPU. Unproven: no GPU has run it. Queries are NumPy, so copies are in the time."""

from bench.peers import gpuann as cpu
from bench.peers.gpuann import PACKAGE, build, configs, search, size, use_threads

__all__ = ["PACKAGE", "build", "configs", "search", "size", "use_threads"]
cpu.DEVICE = "cuda"  # this process has no other peer
