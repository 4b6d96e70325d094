"""Text -> NVRTC -> cubin, with a cache on disk; for the product and for CI alike.

NVRTC comes from its wheel (or a CUDA toolkit) and needs neither a driver nor a GPU, so CI checks
the very bytes that a GPU will get. -fmad=false: what is fused is written `fmaf`, so that the bits
of a result do not hang on the compiler.
"""

import ctypes
import functools
import hashlib
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from gpuann.errors import BackendError, message

OPTIONS = ("-std=c++17", "-fmad=false", "-lineinfo", "--ptxas-options=-v")
OLDEST = 80
_RESULT = re.compile(r"Compiling entry function '(\w+)' for '\w+'(.*?)(?=Compiling entry|\Z)", re.S)


class Resources(NamedTuple):
    """What ptxas says that one entry takes."""

    registers: int
    shared: int
    """Bytes, static."""
    stack: int
    """Bytes of local memory that are not spills."""
    spills: int
    """Bytes stored and loaded."""


class Built(NamedTuple):
    """What NVRTC makes of a text."""

    cubin: bytes
    ptx: str
    """What the binary was made of."""
    log: str


def why_not() -> str | None:
    """What is missing for compiling, or None."""
    try:
        _nvrtc()
    except BackendError as error:
        return str(error)
    return None


def version() -> str:
    """NVRTC's version."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    library = _nvrtc()
    library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return f"{major.value}.{minor.value}"


def arch_of(capability: int) -> str:
    """The architecture to compile for: the first of the device's major, whose binaries run on all.

    capability is 10 * major + minor, as in sm_90. So every GPU runs binaries of the few
    architectures that the proofs compile for.
    """
    if capability < OLDEST:
        rule, got = "be 8.0 or newer", f"{capability // 10}.{capability % 10}"
        raise BackendError(message("gpuann", "compute capability", rule, got, 'use device="cpu"'))
    major = [c for c in _supported() if c // 10 == capability // 10 and c <= capability]
    if not major:
        rule = f"be known to NVRTC {version()}"
        raise BackendError(
            message("gpuann", f"sm_{capability}", rule, _supported(), "install a newer NVRTC")
        )
    return f"sm_{min(major)}"


def cubin(text: str, arch: str) -> bytes:
    """The binary of a kernel text for "sm_90" and the like; from the cache if it is there.

    A cached file begins with the digest of what follows: a damaged one is compiled again.
    """
    key = hashlib.sha256("\0".join([text, arch, version(), *OPTIONS]).encode()).hexdigest()
    path = cache_dir() / f"{key}.cubin"
    try:
        digest, binary = path.read_bytes().split(b"\n", 1)
        if hashlib.sha256(binary).hexdigest().encode() == digest:
            return binary
    except (OSError, ValueError):
        pass  # not there, or not whole
    binary = build(text, arch).cubin
    _write(path, hashlib.sha256(binary).hexdigest().encode() + b"\n" + binary)
    return binary


def ptx(text: str, arch: str) -> str:
    """The PTX of a kernel text for "sm_90", "compute_90" and the like; not cached."""
    return build(text, arch).ptx


def report(text: str, arch: str) -> dict[str, Resources]:
    """Compile and tell what each entry takes."""
    log = build(text, arch).log

    def number(pattern: str, part: str) -> int:
        return sum(int(n) for n in re.findall(pattern, part))

    return {
        entry: Resources(
            number(r"Used (\d+) registers", part),
            number(r"(\d+) bytes smem", part),
            number(r"(\d+) bytes stack frame", part),
            number(r"(\d+) bytes spill", part),
        )
        for entry, part in _RESULT.findall(log)
    }


def build(text: str, arch: str) -> Built:
    """Run NVRTC for "sm_90" or, without a binary, for "compute_90" and the like."""
    library = _nvrtc()
    options = [f"-arch={arch}", *OPTIONS, *(f"-I{folder}" for folder in _headers())]
    program = ctypes.c_void_p()
    _check(
        library.nvrtcCreateProgram(
            ctypes.byref(program), text.encode(), b"gpuann.cu", 0, None, None
        )
    )
    try:
        argv = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        status = library.nvrtcCompileProgram(program, len(options), argv)
        log = _read(program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
        if status:
            raise BackendError(message("gpuann", "kernel", f"compile for {arch}", f"\n{log}"))
        binary = _read(program, "CUBIN") if arch.startswith("sm_") else b""
        return Built(binary, _read(program, "PTX").rstrip(b"\0").decode(), log)
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def cache_dir() -> Path:
    """$GPUANN_CACHE_DIR, or gpuann/ in the user's cache folder."""
    own = os.environ.get("GPUANN_CACHE_DIR")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) if own else Path(base) / "gpuann"


def _write(path: Path, content: bytes) -> None:
    """In one step, so that nobody reads half a file; without a cache where none can be kept."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(content)
        Path(file.name).replace(path)
    except OSError as error:
        print(f"gpuann: compiled kernels are not kept: {error}", file=sys.stderr)


@functools.cache
def _nvrtc() -> ctypes.CDLL:
    """NVRTC, found and loaded with what it needs."""
    install = "pip install 'gpuann[cuda13]' or 'gpuann[cuda12]'"
    try:
        from cuda import pathfinder
    except ImportError:
        raise BackendError(
            message("gpuann", "NVRTC", "be found", "no cuda-pathfinder", install)
        ) from None
    try:
        found = pathfinder.load_nvidia_dynamic_lib("nvrtc")
    except (RuntimeError, OSError) as error:
        got = str(error).splitlines()[0]
        raise BackendError(message("gpuann", "NVRTC", "be found", got, install)) from error
    # NVRTC 13.0 does not look for its builtins beside itself
    for builtins in sorted(Path(found.abs_path).parent.glob("libnvrtc-builtins.so.*")):
        ctypes.CDLL(str(builtins), ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(found.abs_path)
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    return library


@functools.cache
def _headers() -> tuple[str, ...]:
    """Where cuda_fp16.h lies."""
    from cuda import pathfinder

    folder = pathfinder.find_nvidia_header_directory("cudart")
    if folder is None:
        way_out = "pip install nvidia-cuda-runtime"
        raise BackendError(message("gpuann", "CUDA headers", "be found", "none", way_out))
    return (str(folder),)


@functools.cache
def _supported() -> list[int]:
    library, n = _nvrtc(), ctypes.c_int()
    _check(library.nvrtcGetNumSupportedArchs(ctypes.byref(n)))
    found = (ctypes.c_int * n.value)()
    _check(library.nvrtcGetSupportedArchs(found))
    return list(found)


def _read(program: ctypes.c_void_p, what: str) -> bytes:
    library, size = _nvrtc(), ctypes.c_size_t()
    _check(getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(getattr(library, f"nvrtcGet{what}")(program, buffer))
    return buffer.raw


def _check(status: int) -> None:
    if status:
        text = _nvrtc().nvrtcGetErrorString(status).decode()
        raise BackendError(message("gpuann", "NVRTC", "succeed", text))
