"""CUDA without a framework: the text of the kernels and, later, its way to the device."""
