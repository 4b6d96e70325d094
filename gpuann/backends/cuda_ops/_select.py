"""The selection of select.cuh: how much shared memory it takes, and what does not fit."""

from gpuann.backends.cuda_ops._sizes import BLOCK, MAX_DIM
from gpuann.cuda.launch import Device
from gpuann.errors import bad_value

_WAY_OUT = 'use device="cpu"'


def capacity(where: str, device: Device, k: int, beside: int = 0) -> int:
    """Places for k results: a power of two. `beside` bytes of shared memory are taken already."""
    places = max(BLOCK, 1 << (k - 1).bit_length())
    most = device.limits.most_results(beside)
    if places > most:
        raise bad_value(where, "k", f"be at most {most} on this device", k, _WAY_OUT)
    return places


def check_dim(where: str, dim: int) -> None:
    """Refuse rows that the canonical distance has no room for."""
    if dim > MAX_DIM:
        raise bad_value(where, "dim", f"be at most {MAX_DIM} on a CUDA device", dim, _WAY_OUT)
