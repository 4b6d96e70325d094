"""The selection of select.cuh: how much shared memory it takes, and what does not fit."""

from gpuann.cuda.launch import Device
from gpuann.errors import bad_value

BYTES_PER_PLACE = 24  # two entries of key and id
_LEAST = 256  # candidates that a block may bring at once
MAX_DIM = 1 << 14  # canonical.cuh has room for the halvings of so many components


def capacity(where: str, device: Device, k: int, beside: int = 0) -> int:
    """Places for k results: a power of two. `beside` bytes of shared memory are taken already."""
    places = max(_LEAST, 1 << (k - 1).bit_length())
    room = (device.limits.shared_bytes - beside) // BYTES_PER_PLACE
    if places > room:
        most = 1 << (max(room, 1).bit_length() - 1)
        raise bad_value(where, "k", f"be at most {most} on this device", k, "use the CPU")
    return places


def check_dim(where: str, dim: int) -> None:
    """Refuse rows that the canonical distance has no room for."""
    if dim > MAX_DIM:
        raise bad_value(where, "dim", f"be at most {MAX_DIM} on a CUDA device", dim, "use the CPU")
