"""The NumPy backend: the ten operations of `seam.Ops` on host arrays.

A CPU engine of its own right and the reference that the CUDA kernels are held to.
"""

from gpuann.backends.numpy_ops.accumulate import accumulate
from gpuann.backends.numpy_ops.assign import assign
from gpuann.backends.numpy_ops.build_lut import build_lut
from gpuann.backends.numpy_ops.group import group
from gpuann.backends.numpy_ops.merge_topk import merge_topk
from gpuann.backends.numpy_ops.pairwise import pairwise
from gpuann.backends.numpy_ops.refine import refine
from gpuann.backends.numpy_ops.scan_lists import scan_lists
from gpuann.backends.numpy_ops.scan_lut import scan_lut
from gpuann.backends.numpy_ops.select_k import select_k

__all__ = [
    "accumulate",
    "assign",
    "build_lut",
    "group",
    "merge_topk",
    "pairwise",
    "refine",
    "scan_lists",
    "scan_lut",
    "select_k",
]
