"""Quantisers by themselves, without an index: fit, encode, decode, error."""

from gpuann.quantize import pq, scalar

__all__ = ["pq", "scalar"]
