"""CUDA kernels on a machine without a GPU: compiled by g++, each CUDA thread a fiber.

The kernel's text is included unchanged behind headers that define CUDA's keywords and intrinsics
(include/), and linked with a runtime (runtime/) that switches between the threads wherever they
meet. The checked build also watches every access to memory.
"""

from .engine import Fibers
from .faults import Buffer, BuildFault, KernelFault
from .toolchain import build, why_not

__all__ = ["Buffer", "BuildFault", "Fibers", "KernelFault", "build", "why_not"]
