"""A compiled kernel text, loaded: its entries, its shared memory, and how its faults read."""

import ctypes
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .faults import Buffer, KernelFault

OWN_FOLDER = f"{Path(__file__).parent}/"


class EntryRow(ctypes.Structure):
    """emu::EntryRow of emu_core.h."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("call", ctypes.c_void_p),
        ("argument_bytes", ctypes.c_long),
        ("max_threads", ctypes.c_long),
    ]


class LaunchRequest(ctypes.Structure):
    """emu::LaunchRequest of runtime.h."""

    _fields_ = [
        ("call", ctypes.c_void_p),
        ("argument", ctypes.c_char_p),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_long),
        ("schedule", ctypes.c_long),
        ("seed", ctypes.c_long),
        ("time_limit", ctypes.c_long),
        ("stacks", ctypes.c_void_p),
        ("buffers", ctypes.c_void_p),
        ("buffer_count", ctypes.c_long),
    ]


class FaultReport(ctypes.Structure):
    """emu::FaultReport of faults.cpp."""

    _fields_ = [
        ("text", ctypes.c_char * 4096),
        ("code", ctypes.c_void_p),
        ("last_code", ctypes.c_void_p),
        ("last_file", ctypes.c_char_p),
        ("last_line", ctypes.c_int),
    ]


class Library:
    """One loaded library."""

    def __init__(self, path: Path):
        self.path = path
        self._functions = ctypes.CDLL(str(path))
        self._functions.emu_fault.restype = ctypes.POINTER(FaultReport)
        self._functions.emu_make_stacks.restype = ctypes.c_void_p
        self._functions.emu_launch.argtypes = [ctypes.POINTER(LaunchRequest)]
        self.entries = self._read_entries()
        self._base = self._register_shared_variables()

    def make_stacks(self) -> int:
        """Stacks for the threads of a block; they serve every library."""
        stacks = self._functions.emu_make_stacks()
        if not stacks:
            raise KernelFault("no memory for the stacks of a block")
        return stacks

    def run(self, request: LaunchRequest, buffers: Sequence[Buffer]) -> None:
        """Runs a launch to its end, or raises what went wrong in it."""
        if self._functions.emu_launch(ctypes.byref(request)):
            raise KernelFault(self._fault_text(buffers))

    def _read_entries(self) -> dict[str, EntryRow]:
        table = ctypes.cast(self._functions.emu_entries, ctypes.POINTER(EntryRow))
        entries = {}
        row = 0
        while table[row].name is not None:
            entries[table[row].name.decode()] = table[row]
            row += 1
        return entries

    def _register_shared_variables(self) -> int:
        """Tells the runtime where __shared__ variables lie; returns where the library is loaded."""
        symbols = _tool("nm", "-S", "--defined-only", str(self.path)).splitlines()
        rows = [line.split() for line in symbols]
        launch = next(int(row[0], 16) for row in rows if row[-1] == "emu_launch")
        base = ctypes.cast(self._functions.emu_launch, ctypes.c_void_p).value - launch
        shared = [row for row in rows if len(row) == 4 and is_shared_variable(row[2], row[3])]
        names = _tool("c++filt", *(row[3] for row in shared)).splitlines() if shared else []
        for (offset, size, _, _), name in zip(shared, names, strict=True):
            self._functions.emu_add_shared_variable(
                ctypes.c_void_p(base + int(offset, 16)),
                ctypes.c_long(int(size, 16)),
                f"__shared__ {name.rsplit('::', 1)[-1]}".encode(),
            )
        return base

    def _fault_text(self, buffers: Sequence[Buffer]) -> str:
        report = self._functions.emu_fault().contents
        text = report.text.decode(errors="replace")
        text = re.sub(r"\{buffer (\d+)\}", lambda m: buffers[int(m[1])].label, text)
        where = self._place_of(report)
        return f"{text} at {where}" if where else text

    def _place_of(self, report: FaultReport) -> str | None:
        """file:line of the fault: of the instruction, else of the last access or intrinsic."""
        for code in (report.code, report.last_code):
            place = self._line_of(code) if code else None
            if place:
                return place
        if report.last_file:
            return f"{Path(report.last_file.decode()).name}:{report.last_line}"
        return None

    def _line_of(self, code: int) -> str | None:
        """file:line in the kernel, None in the emulator itself."""
        answer = _tool("addr2line", "-i", "-e", str(self.path), hex(code - self._base))
        for line in answer.splitlines():
            file, _, number = line.split(" ")[0].rpartition(":")
            if not is_own_file(file) and number not in ("?", "0"):
                return f"{Path(file).name}:{number}"
        return None


def is_shared_variable(kind: str, symbol: str) -> bool:
    """A zeroed variable that is static in a function; the runtime has none of these."""
    return kind in "bB" and symbol.startswith("_ZZ")


def is_own_file(file: str) -> bool:
    """A file of the emulator or of the system, or none at all."""
    return file == "??" or file.startswith((OWN_FOLDER, "/usr/"))


def _tool(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
