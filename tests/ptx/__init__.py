"""A strict interpreter of the PTX that NVRTC produces, written in NumPy, for the tests only.

It is the second engine beside the emulator of the CUDA C++ text: it sees what the compiler made of
a kernel. What it does not know, it refuses. Not modelled: races, clocks, approximate instructions,
the payload of a float64 NaN.
"""

import gc
from collections.abc import Callable, Sequence
from typing import ClassVar

from . import (  # noqa: F401  (opcodes)
    bits,
    control,
    floating,
    integer,
    loadstore,
    select,
    tensor,
    warp,
)
from .decode import Instruction
from .machine import Code, Launch, Machine
from .memory import layout
from .parse import PtxError, opcodes, parse

__all__ = ["Interpreter", "Program", "PtxError", "opcodes", "why_not"]


class Program:
    """One kernel of a PTX text, decoded."""

    def __init__(self, ptx_text: str, entry: str):
        entries = parse(ptx_text)
        if entry not in entries:
            raise PtxError(f"PTX: no kernel {entry}, there is {', '.join(entries) or 'none'}")
        self._entry = entries[entry]
        symbols, shared, local = layout(self._entry)
        instructions = [
            Instruction(statement, self._entry, symbols) for statement in self._entry.statements
        ]
        actions = [instruction.build() for instruction in instructions]
        types = [register.type for register in self._entry.registers]
        self._code = Code(instructions, actions, types, shared, local)
        self.count = 0  # instructions stepped by the last launch, all threads together

    def run(
        self,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        argument: bytes,
        shared: int,
        buffers: Sequence,
    ) -> None:
        """Launches: `argument` is the struct, `shared` the bytes of dynamic shared memory."""
        entry = self._entry
        if len(argument) != entry.param_size:
            raise PtxError(
                f"PTX: {entry.name} takes {entry.param_size} bytes, {len(argument)} are given"
            )
        if len(grid) != 3 or len(block) != 3 or min(*grid, *block) < 1 or shared < 0:
            raise PtxError(f"PTX: {entry.name} is launched with {grid}, {block}, {shared}")
        threads = block[0] * block[1] * block[2]
        if threads > min(entry.max_threads or 1024, 1024):
            raise PtxError(f"PTX: {entry.name} is compiled for fewer than {threads} threads")
        machine = Machine(self._code, Launch(grid, block, shared), bytes(argument), buffers)
        try:
            machine.run()
        finally:
            self.count = machine.count


class Interpreter:
    """An engine: compiles a kernel's text once and runs the PTX.

    For "sm_90" that is the PTX of the very program whose binary a GPU runs.
    """

    # shared by all interpreters: what they compile depends on the key alone
    _texts: ClassVar[dict[tuple, str]] = {}
    _programs: ClassVar[dict[tuple, Program]] = {}

    def __init__(self, arch: str = "sm_90", compile: Callable[[str, str], str] | None = None):
        self._arch, self._compile = arch, compile

    def program(self, text: str, entry: str) -> Program:
        """The decoded kernel, from the cache if it has been asked for before."""
        compile = self._compile
        if compile is None:
            from gpuann.cuda.compile import ptx as compile
        key = compile, self._arch, text
        if key not in self._texts:
            self._texts[key] = compile(text, self._arch)
        if (*key, entry) not in self._programs:
            self._programs[*key, entry] = Program(self._texts[key], entry)
            # it stays: its thirty thousand objects need not be looked at in every later collection
            gc.collect()
            gc.freeze()
        return self._programs[*key, entry]

    def launch(
        self,
        text: str,
        entry: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        argument: bytes,
        shared: int,
        buffers: Sequence,
    ) -> None:
        self.program(text, entry).run(grid, block, argument, shared, buffers)


def why_not() -> str | None:
    """None where kernels can be compiled to PTX, else what is missing."""
    from gpuann.cuda import compile

    return compile.why_not()
