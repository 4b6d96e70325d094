"""What a worker's process is told: to keep the memory that arrays use again and again."""

import os
import platform
import subprocess
import sys

import pytest

from gpuann.dask import settling

GLIBC = platform.libc_ver()[0] == "glibc"

REUSED = """
import resource, sys
import numpy as np
from gpuann.dask import settling

def faults():  # pages that the system had to find for arrays of 1 MiB, one after the other
    for _ in range(20):
        np.ones(1 << 17)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        np.ones(1 << 17)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

pages = 100 * (1 << 20) // resource.getpagesize()
before = faults()
told = settling.keep_memory()
after = faults()
settling.give_back_memory()
assert told
assert before >= pages // 2, before  # or this would show nothing
assert after <= pages // 10, after
"""


@pytest.mark.skipif(not GLIBC, reason="another C library has no MALLOC_TRIM_THRESHOLD_")
def test_arrays_use_memory_again_where_dask_forbade_it():
    env = os.environ | {"MALLOC_TRIM_THRESHOLD_": "65536"}
    env.pop("MALLOC_MMAP_THRESHOLD_", None)
    subprocess.run([sys.executable, "-c", REUSED], check=True, env=env, timeout=60)


@pytest.mark.parametrize("absent", [AttributeError, OSError, TypeError])
def test_another_c_library_is_left_alone(monkeypatch, absent):
    def fails(name):
        raise absent

    monkeypatch.setattr(settling.ctypes, "CDLL", fails)
    assert settling.keep_memory.__wrapped__() is False
    settling.give_back_memory()


def test_a_process_without_the_setting_is_not_told(monkeypatch):
    told = []
    monkeypatch.setenv("GPUANN_NUM_THREADS", "1")
    monkeypatch.setattr(settling, "keep_memory", lambda: told.append(1))
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    settling.settle(client_pid=0)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    settling.settle(client_pid=os.getpid())
    assert not told
    settling.settle(client_pid=0)
    assert told
