"""How the tests of the emulator launch the kernels of this folder."""

import struct
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..faults import Buffer


def source(name):
    """The text of a file of this folder."""
    return f'#line 1 "{name}"\n{(Path(__file__).parent / name).read_text()}'


PRIMITIVES = source("primitives.cu")
MISTAKES = source("mistakes.cu")


def launch(engine, entry, *values, grid=(1, 1, 1), block=(64, 1, 1), shared=0):
    """Launches an entry of primitives.cu whose struct is pointers, then one int perhaps."""
    arrays = [v for v in values if isinstance(v, np.ndarray)]
    buffers = [Buffer(a.ctypes.data, a.nbytes, f"array {i}") for i, a in enumerate(arrays)]
    argument = b"".join(struct.pack("Q", b.address) for b in buffers)
    argument += struct.pack("ixxxx", int(values[-1])) if len(arrays) < len(values) else b""
    engine.launch(PRIMITIVES, entry, grid, block, argument, shared, buffers)


def rows_of(engine, entry, values, rows):
    out = np.full((rows, 64), -1, np.int32)
    launch(engine, entry, values, out, 0)
    return out


def integers(rng, count=64):
    return rng.integers(-1000, 1000, count).astype(np.int32)


class Memory:
    """The buffers of mistakes.cu, well apart from one another."""

    SIZES: ClassVar = {"x": 256, "y": 64, "counter": 4}

    def __init__(self):
        self.block = np.zeros(4 * 4096, np.uint8)
        first = -(-self.block.ctypes.data // 4096) * 4096
        places = [first + 4096 * i for i in range(3)]
        self.buffers = [
            Buffer(place, size, label)
            for place, (label, size) in zip(places, self.SIZES.items(), strict=True)
        ]
        start = first - self.block.ctypes.data
        self.x = self.block[start : start + 256].view(np.float32)
        self.y = self.block[start + 4096 : start + 4096 + 64].view(np.float32)

    def launch(self, engine, name):
        argument = struct.pack("QQQixxxx", *(b.address for b in self.buffers[:3]), 64)
        grid = (2 if name.startswith("blocks_") else 1, 1, 1)
        engine.launch(MISTAKES, name, grid, (64, 1, 1), argument, 128, self.buffers)
