"""From a kernel's text to a shared library, compiled by g++ and kept on disk."""

import contextlib
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from .entries import entry_table
from .faults import BuildFault, KernelFault

HERE = Path(__file__).parent
INCLUDES = (HERE / "include", HERE / "runtime")

# Nothing is contracted or flushed to zero: kernels are compiled with -fmad=false and without -ftz.
COMMON_FLAGS = [
    "-std=c++17",
    "-O2",
    "-g1",
    "-gdwarf-4",
    "-fPIC",
    "-fvisibility=hidden",
    "-mf16c",
    "-mfma",
    "-ffp-contract=off",
    "-fno-strict-aliasing",
    "-fno-threadsafe-statics",
    *(f"-I{folder}" for folder in INCLUDES),
]
KERNEL_FLAGS = [
    "-DGPUANN_EMU",
    "-fstack-clash-protection",  # no frame jumps over the guard page
    "-w",  # warnings are NVRTC's to give
]
# The thread sanitizer's hooks tell every access; the emulator brings its own (hooks.cpp).
CHECKED_KERNEL_FLAGS = [
    "-O1",  # in place of -O2: compiled sooner, and most of the run is the checker's anyway
    "-fsanitize=thread",
    "--param=tsan-instrument-func-entry-exit=0",
    "--param=tsan-distinguish-volatile=1",
    "-fsanitize=bounds-strict,alignment,shift-exponent,integer-divide-by-zero",
    "-fno-sanitize-recover=all",
]
MODE_FLAGS = {False: [], True: ["-DEMU_CHECKED"]}

_TEMPLATE = """#include "cuda_emu.h"
namespace {{
#line 1 "kernel"
{text}
}}
#line 1 "entries"
#include "emu_entry.h"
{table}"""

_runtime_lock = threading.Lock()


def why_not() -> str | None:
    """What this machine lacks for the emulator, or None."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "the emulator needs x86-64 Linux"
    for tool in ("g++", "nm", "c++filt", "addr2line"):
        if shutil.which(tool) is None:
            return f"the emulator needs {tool}"
    cpu = Path("/proc/cpuinfo").read_text().split()
    for feature in ("fma", "f16c"):
        if feature not in cpu:
            return f"the emulator needs a CPU with {feature}"
    return None


def build(text: str, checked: bool) -> Path:
    """The library of the kernel text, compiled now or earlier."""
    source = _TEMPLATE.format(text=text, table=entry_table(text))
    flags = [*COMMON_FLAGS, *KERNEL_FLAGS, *MODE_FLAGS[checked]]
    flags += CHECKED_KERNEL_FLAGS if checked else []
    library = cache_folder() / f"{_key(source, flags)}.so"
    if not library.exists():
        _compile_library(source, flags, runtime_object(checked), library)
    return library


def runtime_object(checked: bool) -> Path:
    """The runtime's object file, compiled now or earlier; one thread does it, the others wait."""
    flags = [*COMMON_FLAGS, *MODE_FLAGS[checked]]
    with _runtime_lock:
        target = cache_folder() / f"{_key('runtime', flags)}.o"
        if not target.exists():
            with _scratch(target) as result:
                source = HERE / "runtime" / "all.cpp"
                _run(result.parent, "g++", *flags, "-c", str(source), "-o", str(result))
                result.replace(target)
    return target


def _compile_library(source: str, flags: list[str], runtime: Path, library: Path) -> None:
    with _scratch(library) as result:
        folder = result.parent
        (folder / "kernel.cpp").write_text(source)
        _run(folder, "g++", *flags, "-c", "kernel.cpp", "-o", "kernel.o")
        # linked without the flags: -fsanitize would bring the sanitizers' own libraries
        _run(folder, "g++", "-shared", "kernel.o", str(runtime), "-o", str(result))
        result.replace(library)


@contextlib.contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """A file in a folder of its own beside the target; the folder goes at the end."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        yield Path(folder) / target.name


@functools.cache
def cache_folder() -> Path:
    """Where libraries are kept: $GPUANN_EMU_CACHE, or a temporary folder of this user."""
    named = os.environ.get("GPUANN_EMU_CACHE")
    folder = Path(named or Path(tempfile.gettempdir()) / f"gpuann-emu-{os.getuid()}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = folder.resolve()
    if folder.stat().st_uid != os.getuid():
        raise KernelFault(f"{folder} belongs to another user: set GPUANN_EMU_CACHE")
    return folder


@functools.cache
def _own_sources() -> bytes:
    """The emulator's C++ and the compiler's identity: part of every key."""
    compiler = Path(shutil.which("g++") or "g++").resolve()
    parts = [repr((str(compiler), compiler.stat().st_size, compiler.stat().st_mtime)).encode()]
    for folder in INCLUDES:
        for file in sorted(folder.iterdir()):
            parts += [file.name.encode(), file.read_bytes()]
    return b"\0".join(parts)


def _key(source: str, flags: list[str]) -> str:
    own = hashlib.sha256(_own_sources())
    own.update(repr((source, flags)).encode())
    return own.hexdigest()[:24]


def _run(folder: Path, *command: str) -> None:
    """Runs a command in the scratch folder: no debug line then looks like one of our own files."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildFault(f"{command[0]} failed:\n" + done.stderr[:8000])
