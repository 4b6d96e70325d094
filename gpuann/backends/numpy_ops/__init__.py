"""The NumPy backend: the ten operations of `seam.Ops` on host arrays.

A CPU engine of its own right and the reference that the CUDA kernels are held to. One file an
operation; what the scans share:

    _threads    worker threads, BLAS held to one, scratch buffers
    _tiles      stored rows decoded: whole tiles, and picked rows
    _batch      the queries of a call against their lists: products, and what passes a ceiling
    _slack      how far a score can lie from the canonical distance
    _minima     an upper bound of the k-th smallest, cheaper than selecting it
    _tiled      large batches: a bound from the nearest rows, then every tile filtered
    _stacks     small tiles side by side, for one call of an array function
    _dense      small ones, and the centres: every score kept
    _select     rows of kept scores -> results
    _survivors  what passed: collected, tightened, rescored, sorted
    _canonical  the distance that decides
    _rescore    it, of many pairs: as products where they are certain to give the same bits
    _filter     the bits of a filter
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
