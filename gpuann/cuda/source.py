"""The text of a kernel variant: one string, headers spliced in, constants in front.

    text = #define of every constant + kernels/<op>.cu with its headers in place

The text is the whole compile unit, so it is the whole key of every cache: edit a header and another
binary comes out. ENTRY(assign) becomes `extern "C" __global__ void __launch_bounds__(BLOCK, blocks)
assign__BLOCK256`: a profiler shows the variant, and the blocks are those of the budget. Each entry
takes one struct by value, whose definition in the text is the only one: `pack` reads it and refuses
what does not fit.
"""

import functools
import operator
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gpuann.errors import BackendError, bad_type, bad_value, message

_PLACES = (Path(__file__).parents[1] / "kernels", Path(__file__).parents[2] / "kernels")

# the C types of kernel arguments and of what pointers point to; "ROW" and the like are #defines
_DTYPES: dict[str, np.dtype[Any]] = {
    "float": np.dtype(np.float32),
    "double": np.dtype(np.float64),
    "__half": np.dtype(np.float16),
    "int": np.dtype(np.int32),
    "u32": np.dtype(np.uint32),
    "i64": np.dtype(np.int64),
    "u64": np.dtype(np.uint64),
    "i8": np.dtype(np.int8),
    "u8": np.dtype(np.uint8),
}
# the numbers that kernels take: integers, by value
_CODES = {_DTYPES["int"]: "i", _DTYPES["u32"]: "I", _DTYPES["i64"]: "q", _DTYPES["u64"]: "Q"}
_RANGES = {dtype: (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)) for dtype in _CODES}
_INCLUDE = re.compile(r'^#include "([\w.]+)"$')
_ENTRY = re.compile(r"^ENTRY\((\w+)\)\(const (\w+) a\)", re.MULTILINE)
_BUDGET = re.compile(  # of an entry, or of an entry where this constant has this value
    r"// budget  (\w+)(?: with (\w+) (\w+))?: regs <= (\d+), spills (\d+), blocks/SM >= (\d+)"
)
_FIELD = re.compile(r"^\s+(?:const )?(\w+)(\*?) (\w+);\s+// (.*)$")


class Field(NamedTuple):
    """One member of the argument struct."""

    name: str
    dtype: np.dtype[Any]
    """Its own, or of what it points to."""
    pointer: bool
    comment: str


class Budget(NamedTuple):
    """What a kernel's header promises: the compiler is asked for the blocks, a test for all."""

    registers: int
    """Of a thread, at most."""
    spills: int
    """Bytes, at most."""
    blocks: int
    """On a multiprocessor at once, at least."""


class Source(NamedTuple):
    """A variant, ready to be compiled."""

    op: str
    text: str
    variant: str
    """What its entries are called after two underscores."""
    entries: tuple[str, ...]
    """Without the variant: "scan_bound"."""
    fields: tuple[Field, ...]
    block: int
    """Threads of a block."""
    budgets: tuple[tuple[str, Budget], ...]
    """What the file's header promises for each entry."""

    def symbol(self, entry: str) -> str:
        """The name of an entry in the binary."""
        return f"{entry}__{self.variant}"


def kernel_dir() -> Path:
    """The folder of the kernels: inside the package in a wheel, beside it in a checkout."""
    for place in _PLACES:
        if (place / "README.md").is_file():
            return place
    looked = " and ".join(str(place) for place in _PLACES)
    raise BackendError(
        message("gpuann", "kernels/", "be installed", f"none in {looked}", "install gpuann again")
    )


def operations() -> list[str]:
    """The operations that have a kernel file."""
    return sorted(path.stem for path in kernel_dir().glob("*.cu"))


@functools.cache
def source(op: str, defines: tuple[tuple[str, str], ...]) -> Source:
    """The variant of operation `op` with these constants, ((name, value), ...)."""
    return make(op, spliced(op), dict(defines))


def make(op: str, body: str, defines: Mapping[str, str]) -> Source:
    """As `source`, of a text that is given."""
    variant = "_".join(f"{name}{value.strip('_')}" for name, value in sorted(defines.items()))
    front = [f"#define {name} {value}" for name, value in defines.items()]
    entries = _ENTRY.findall(body)
    structs = {struct for _, struct in entries}
    if len(structs) != 1:
        raise BackendError(message("gpuann", f"{op}.cu", "have entries of one struct", structs))
    fields = _fields(op, body, structs.pop(), defines)
    names = tuple(name for name, _ in entries)
    promised = {
        name: Budget(*map(int, numbers))
        for name, constant, value, *numbers in _BUDGET.findall(body)
        if not constant or defines.get(constant) == value  # behind the one of all variants
    }
    if promised.keys() != {name for name, _ in entries}:
        rule = "have one budget line for each entry"
        raise BackendError(message("gpuann", f"{op}.cu", rule, sorted(promised)))

    def written_out(entry: re.Match[str]) -> str:
        bounds = f"{defines['BLOCK']}, {promised[entry[1]].blocks}"
        head = f'extern "C" __global__ void __launch_bounds__({bounds})'
        return f"{head} {entry[1]}__{variant}(const {entry[2]} a)"

    body = _ENTRY.sub(written_out, body)
    text, block = "\n".join([*front, body]), int(defines["BLOCK"])
    return Source(op, text, variant, names, fields, block, tuple(promised.items()))


def spliced(op: str) -> str:
    """kernels/<op>.cu with the headers of ours in place, each once; line numbers stay theirs."""
    folder = kernel_dir()
    if not (folder / f"{op}.cu").is_file():
        raise BackendError(message("gpuann", "op", f"be one of {operations()}", repr(op)))
    return "\n".join(_splice(folder / f"{op}.cu", set()))


def _splice(path: Path, seen: set[str]) -> list[str]:
    lines = [f'#line 1 "{path.name}"']
    for number, line in enumerate(path.read_text().splitlines(), 1):
        include = _INCLUDE.match(line)
        if line == "#pragma once" or (include and include[1] in seen):
            lines.append("")
        elif include and (path.parent / include[1]).is_file():
            seen.add(include[1])
            lines += [*_splice(path.parent / include[1], seen), f'#line {number + 1} "{path.name}"']
        else:
            lines.append(line)
    return lines


def _fields(op: str, body: str, struct: str, defines: Mapping[str, str]) -> tuple[Field, ...]:
    found = re.search(rf"^struct {struct} {{\n(.*?)^}};", body, re.MULTILINE | re.DOTALL)
    lines = found[1].splitlines() if found else []
    matches = [_FIELD.match(line) for line in lines]
    if not matches or None in matches:
        rule = f"describe {struct}, one member a line, a comment behind each"
        raise BackendError(message("gpuann", f"{op}.cu", rule, lines))

    def dtype(c_type: str) -> np.dtype[Any]:
        return _DTYPES[defines.get(c_type, c_type)]

    return tuple(Field(m[3], dtype(m[1]), m[2] == "*", m[4]) for m in matches if m)


def pack(source: Source, address: Any, values: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """The argument struct with these members, as C lays it out -> array (1,) of as many bytes.

    Every member is given, and nothing else. A pointer is None or a C-contiguous array of its dtype,
    whose place `address(array)` tells; a number fits its type.
    """
    if values.keys() != _names(source):
        wrong = sorted(values.keys() ^ _names(source))
        raise bad_value(source.op, "arguments", f"be exactly those of {source.op}.cu", wrong)
    numbers = [_number(source.op, f, values[f.name], address) for f in source.fields]
    packer = _packer(source)
    return np.frombuffer(packer.pack(*numbers), f"V{packer.size}")


@functools.cache
def _names(source: Source) -> frozenset[str]:
    return frozenset(field.name for field in source.fields)


@functools.cache
def _packer(source: Source) -> struct.Struct:
    """Native alignment, as the compiler's; padded at the end to that of a pointer."""
    codes = ["Q" if field.pointer else _CODES[field.dtype] for field in source.fields]
    return struct.Struct(f"@{''.join(codes)}0Q")


def _number(op: str, field: Field, value: Any, address: Any) -> int:
    """What stands in the struct for `value`."""
    if field.pointer:
        return 0 if value is None else _checked(op, field, value, address)
    number = operator.index(value)  # TypeError for anything but an integer
    low, high = _RANGES[field.dtype]
    if not low <= number <= high:
        raise bad_value(op, field.name, f"fit {field.dtype}", value)
    return number


def _checked(op: str, field: Field, array: Any, address: Any) -> int:
    if getattr(array, "dtype", None) != field.dtype:
        got = getattr(array, "dtype", type(array).__name__)
        raise bad_type(op, field.name, f"be a device array of {field.dtype}", got)
    if not array.flags.c_contiguous:
        raise bad_value(op, field.name, "be C-contiguous", f"strides {array.strides}")
    return int(address(array))
