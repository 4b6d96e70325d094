"""CUDA without a framework: the text of the kernels, and its way to the device."""
