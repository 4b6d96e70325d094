"""What a worker's process is told once, so that it computes as fast as any other process."""

import ctypes
import functools
import os

from distributed import get_worker

import gpuann

_TRIM, _MMAP = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
_MMAP_BYTES = 32 << 20  # glibc's own most for what it takes from the heap on 64 bits
_TRIM_BYTES = 2 * _MMAP_BYTES


def settle(client_pid: int) -> None:
    """Give this worker's searches and builds the threads that Dask gave the worker, for without
    this each worker of a machine would take all of its cores; and let it keep memory. A worker
    within the client's own process leaves the process as it is.
    """
    if os.getpid() == client_pid:
        return
    if "GPUANN_NUM_THREADS" not in os.environ:
        gpuann.set_num_threads(max(1, get_worker().state.nthreads))
    if "MALLOC_TRIM_THRESHOLD_" in os.environ:
        keep_memory()


@functools.cache
def keep_memory() -> bool:
    """Let the allocator use memory again that arrays have given back -> whether it could be told.

    Dask starts workers with MALLOC_TRIM_THRESHOLD_=65536, which also ends glibc's own adaption:
    every array of 128 KiB or more is new memory from the system, page by page, which slows k-means
    down. These are the bounds that glibc itself arrives at in other processes; see
    mallopt(3).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or none by that name
        return False
    return bool(mallopt(_MMAP, _MMAP_BYTES)) and bool(mallopt(_TRIM, _TRIM_BYTES))


def give_back_memory() -> None:
    """What is free now to the system: between two tasks, which is what Dask's setting is for. In a
    worker within the client's own process too: it takes nothing away from anybody.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return
