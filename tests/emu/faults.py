"""What the emulator's callers give and get."""

from typing import NamedTuple


class KernelFault(RuntimeError):  # noqa: N818
    """A kernel that does not build, may not be launched, or does something wrong."""


class BuildFault(KernelFault):
    """The text does not compile."""


class Buffer(NamedTuple):
    """Device memory that kernels may touch, and its name in reports."""

    address: int
    nbytes: int
    label: str
