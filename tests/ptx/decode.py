"""Statements to steps: the types of PTX, the operands of an instruction, the table of opcodes.

An instruction is decoded once, when the program is loaded. The builder of its opcode takes every
modifier and every operand by name; what is left over raises. The step that comes out of it works on
the registers of all threads in its `Lanes` at once.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .parse import Entry, PtxError, Register, Statement, split_operands


class Type(NamedTuple):
    """A type of PTX: its letter (b u s f p), its width in bits and how NumPy holds it."""

    name: str
    letter: str
    bits: int
    dtype: np.dtype

    @property
    def bytes(self) -> int:
        return self.bits // 8

    @property
    def raw(self) -> np.dtype:
        """How a register of this width is stored: as unsigned bits."""
        return np.dtype(bool) if self.letter == "p" else np.dtype(f"u{self.bits // 8}")


TYPES = {
    f"{letter}{bits}": Type(f"{letter}{bits}", letter, bits, np.dtype(f"{kind}{bits // 8}"))
    for letter, kind in (("b", "u"), ("u", "u"), ("s", "i"), ("f", "f"))
    for bits in (8, 16, 32, 64)
    if (letter, bits) != ("f", 8)
}
TYPES["pred"] = Type("pred", "p", 1, np.dtype(bool))
# a pair of halves in one 32-bit register: read and written as an array of two columns
TYPES["f16x2"] = Type("f16x2", "f", 32, np.dtype(np.float16))


class Lanes(NamedTuple):
    """The threads that execute a step: an index into the register arrays, their numbers."""

    select: slice | np.ndarray
    ids: np.ndarray

    @property
    def count(self) -> int:
        return len(self.ids)


Read = Callable[["object", Lanes], np.ndarray]  # (machine, lanes) -> values, one or one a lane
Write = Callable[["object", Lanes, np.ndarray], None]
Step = Callable[["object", Lanes], object]


@dataclass
class Action:
    """What an instruction does; the machine treats the kinds "branch", "exit", ... itself."""

    step: Step
    kind: str = "plain"
    mask: Read | None = None  # of a warp instruction: the lanes that must come together


BUILDERS: dict[str, Callable[["Instruction"], Step | Action]] = {}


def opcode(*names: str):
    """Registers a builder under the first words of the opcodes it knows."""

    def register(builder):
        for name in names:
            if name in BUILDERS:
                raise PtxError(f"the opcode {name} has two builders")
            BUILDERS[name] = builder
        return builder

    return register


_INTEGER = re.compile(r"-?(?:0[xX][0-9a-fA-F]+|\d+)U?")
_ADDRESS = re.compile(r"\[\s*([\w$%]+)\s*(?:\+\s*(-?\w+))?\s*\]")
_SINKS = {"_"}


class Instruction:
    """A statement being decoded: hands out its modifiers and operands, each exactly once."""

    def __init__(self, statement: Statement, entry: Entry, symbols: dict[str, int]):
        self.text, self.entry = statement.text, entry
        self.name, *self.modifiers = statement.opcode.split(".")
        self.operands, self._scope, self._symbols = [*statement.operands], statement.scope, symbols
        self.guard: tuple[int, bool] | None = None  # predicate register, negated
        if statement.guard is not None:
            register = self._register(statement.guard.lstrip("!"))
            if register.type != "pred":
                self.refuse("the guard is not a predicate")
            self.guard = (register.index, statement.guard[0] == "!")

    def build(self) -> Action:
        if self.name not in BUILDERS:
            self.refuse(f"the opcode {self.name} is not supported")
        action = BUILDERS[self.name](self)
        if self.modifiers:
            self.refuse(f"the modifier .{self.modifiers[0]} is not supported here")
        return action if isinstance(action, Action) else Action(action)

    def refuse(self, why: str):
        raise PtxError(f"PTX: {why}: {self.text}")

    # modifiers

    def maybe(self, *choices: str) -> str | None:
        """Takes the next modifier where it is one of the choices."""
        return self.modifiers.pop(0) if self.modifiers and self.modifiers[0] in choices else None

    def take(self, *choices: str) -> str:
        """Takes the next modifier, which must be one of the choices."""
        taken = self.maybe(*choices)
        if taken is None:
            self.refuse(f"one of .{', .'.join(choices)} is expected")
        return taken

    def anywhere(self, *choices: str) -> str | None:
        """Takes a modifier that may stand at more than one place."""
        found = [modifier for modifier in self.modifiers if modifier in choices]
        if len(found) > 1:
            self.refuse(f".{found[0]} and .{found[1]} exclude each other")
        if found:
            self.modifiers.remove(found[0])
        return found[0] if found else None

    def type(self, *choices: str) -> Type:
        """Takes a type, one of the choices; a choice without digits stands for 16, 32 and 64."""
        names = []
        for choice in choices:
            names += [choice] if choice in TYPES else [f"{choice}{bits}" for bits in (16, 32, 64)]
        return TYPES[self.take(*names)]

    # operands

    def expect(self, least: int, most: int | None = None) -> int:
        count = len(self.operands)
        if not least <= count <= (least if most is None else most):
            self.refuse(f"{count} operands, {least} expected")
        return count

    def _register(self, name: str) -> Register:
        if name not in self._scope:
            self.refuse(f"the register {name} is not declared or not supported")
        return self._scope[name]

    def _check(self, register: Register, type: Type, wider: bool, name: str) -> Type:
        """The register's own type, after checking that it may hold a value of `type`."""
        held = TYPES[register.type]
        fits = held.bits == type.bits or (wider and type.letter != "f" and held.bits > type.bits)
        mixed = {held.letter, type.letter} in ({"f", "s"}, {"f", "u"}) and held.bits == type.bits
        if (held.letter == "p") != (type.letter == "p") or not fits or mixed:
            self.refuse(f"{name} is .{held.name} and cannot be used as .{type.name}")
        return held

    def is_sink(self, operand: str) -> bool:
        return operand in _SINKS

    def vector(self, operand: str) -> list[str]:
        """The elements of {a, b}, or the operand itself as the only one."""
        return split_operands(operand[1:-1]) if operand.startswith("{") else [operand]

    def read(self, operand: str | int, type: Type, wider: bool = False) -> Read:
        """A function that reads an operand as `type`; `wider` allows a wider register."""
        name = self.operands[operand] if isinstance(operand, int) else operand
        if type.letter == "p" and name.startswith("!"):
            positive = self.read(name[1:], type)
            return lambda machine, lanes: ~positive(machine, lanes)
        if name in self._scope:
            return self._read_register(name, type, wider)
        if name.startswith("%"):
            return self._read_special(name, type)
        value = constant(self, name, type)
        return lambda machine, lanes: value

    def _read_register(self, name: str, type: Type, wider: bool) -> Read:
        register = self._scope[name]
        held, index = self._check(register, type, wider, name), register.index
        if type.name == "f16x2":
            return lambda m, lanes: m.registers[index][lanes.select].view("f2").reshape(-1, 2)
        if held.bits == type.bits:
            return lambda m, lanes: m.registers[index][lanes.select].view(type.dtype)
        return lambda m, lanes: m.registers[index][lanes.select].astype(type.raw).view(type.dtype)

    def _read_special(self, name: str, type: Type) -> Read:
        from .machine import SPECIAL_REGISTERS

        if name not in SPECIAL_REGISTERS:
            self.refuse(f"the special register {name} is not supported")
        if type.name not in ("u32", "s32", "b32"):
            self.refuse(f"{name} has 32 bits")
        return lambda machine, lanes: machine.special(name)[lanes.select].view(type.dtype)

    def write(self, operand: str | int, type: Type, wider: bool = False) -> Write:
        """A function that writes values of `type` into an operand."""
        name = self.operands[operand] if isinstance(operand, int) else operand
        if self.is_sink(name):
            return lambda machine, lanes, values: None
        register = self._register(name)
        held, index, text = self._check(register, type, wider, name), register.index, self.text
        extended = np.dtype(f"i{held.bytes}") if type.letter == "s" else held.raw

        def write(machine, lanes, values):
            if values.dtype != type.dtype:  # NumPy promoted somewhere: an error of this package
                raise PtxError(f"PTX: {values.dtype} written as .{type.name}: {text}")
            if held.bits != type.bits:
                values = values.astype(extended)
            raw = np.ascontiguousarray(values).view(held.raw)
            machine.registers[index][lanes.select] = raw[:, 0] if raw.ndim == 2 else raw

        return write

    def label(self, operand: str) -> int:
        if operand not in self.entry.labels:
            self.refuse(f"the label {operand} does not exist")
        return self.entry.labels[operand]

    def address(self, operand: int) -> Read:
        """[register + offset] or [symbol + offset] as 64-bit addresses."""
        match = _ADDRESS.fullmatch(self.operands[operand])
        if not match:
            self.refuse("an address is expected")
        base, offset = match[1], int(match[2] or "0", 0) % 2**64
        if base in self._symbols:
            place = np.array([(self._symbols[base] + offset) % 2**64], np.uint64)
            return lambda machine, lanes: place
        register = self._register(base)
        if register.type not in ("b32", "u32", "s32", "b64", "u64", "s64"):
            self.refuse(f"{base} cannot hold an address")
        read, step = self.read(base, TYPES[f"b{TYPES[register.type].bits}"]), np.uint64(offset)
        return lambda machine, lanes: read(machine, lanes).astype(np.uint64) + step

    def symbol(self, name: str) -> int | None:
        return self._symbols.get(name)


def constant(instruction: Instruction, name: str, type: Type) -> np.ndarray:
    """An immediate operand, or the address of a variable, as an array of one value."""
    wrong = f"the operand {name} is not a constant of type .{type.name}"
    if type.letter == "p":
        if name not in ("0", "1", "-1"):
            instruction.refuse(wrong)
        return np.array([name != "0"])
    place = instruction.symbol(name)
    if place is not None:
        if type.letter == "f" or type.bits < 32:
            instruction.refuse(wrong)
        return np.array([place], type.raw).view(type.dtype)
    if re.fullmatch(r"0[fF][0-9a-fA-F]{8}", name) and type.bits == 32 and type.letter in "fb":
        return np.array([int(name[2:], 16)], np.uint32).view(type.dtype)
    if re.fullmatch(r"0[dD][0-9a-fA-F]{16}", name) and type.bits == 64 and type.letter in "fb":
        return np.array([int(name[2:], 16)], np.uint64).view(type.dtype)
    if name == "WARP_SZ":
        name = "32"
    if not _INTEGER.fullmatch(name) or type.letter == "f" or type.name == "f16x2":
        instruction.refuse(wrong)
    value = int(name.rstrip("U"), 0)
    if not -(2 ** (type.bits - 1)) <= value < 2**type.bits:
        instruction.refuse(wrong)
    return np.array([value % 2**type.bits], type.raw).view(type.dtype)
