"""The CUDA backend: the ten operations of `seam.Ops` on device arrays, by raw kernels.

Each file allocates the outputs, plans the grid and launches; what is computed is written in
`kernels/<op>.cu`. Nothing here waits for the device or reads from it.

    _select  the selection's share of shared memory; how many results a device can give
    _scan    what the two scans share: their arguments, their shared memory, who walks what
"""

from gpuann.backends.cuda_ops.accumulate import accumulate
from gpuann.backends.cuda_ops.assign import assign
from gpuann.backends.cuda_ops.build_lut import build_lut
from gpuann.backends.cuda_ops.group import group
from gpuann.backends.cuda_ops.merge_topk import merge_topk
from gpuann.backends.cuda_ops.pairwise import pairwise
from gpuann.backends.cuda_ops.refine import refine
from gpuann.backends.cuda_ops.scan_lists import scan_lists
from gpuann.backends.cuda_ops.scan_lut import scan_lut
from gpuann.backends.cuda_ops.select_k import select_k

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
