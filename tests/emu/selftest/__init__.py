"""Kernels that prove the emulator, and what they must give."""
