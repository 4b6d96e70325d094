"""What NVRTC made of a text, kept on disk: each text is compiled once for all tests.

It stands in for `gpuann.cuda.compile.build`. The budgets, the readers of SASS and the interpreter
of PTX want the same programs, in both processes of a run and again in the next run.
"""

import fcntl
import functools
import hashlib
import pickle
import zlib
from pathlib import Path

from emu.toolchain import cache_folder

from gpuann.cuda import compile

nvrtc = compile.build  # as it is before conftest puts `build` in its place


def build(text, arch):
    """As `compile.build`: made now or earlier; of two processes one makes it, the other waits."""
    path = cache_folder() / f"{key(text, arch)}.nvrtc"
    made = read(path)
    if made is None:
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            made = read(path)
            if made is None:
                made = nvrtc(text, arch)
                write(path, made)
    return made


def key(text, arch):
    """Of all that the result hangs on."""
    parts = (text, arch, compile.OPTIONS, compiler())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


@functools.cache
def compiler():
    """NVRTC, by version and file, and the headers: a version has many builds."""
    headers = [file for folder in compile._headers() for file in Path(folder).glob("*.h*")]
    loaded = Path(compile._nvrtc()._name)
    files = [(f.name, f.stat().st_size, f.stat().st_mtime) for f in sorted([loaded, *headers])]
    return compile.version(), files


def read(path):
    """What was kept; None if it is not there or not whole."""
    try:
        digest, content = path.read_bytes().split(b"\n", 1)
    except (OSError, ValueError):
        return None
    if hashlib.sha256(content).hexdigest().encode() != digest:
        return None
    return compile.Built(*pickle.loads(zlib.decompress(content)))


def write(path, made):
    content = zlib.compress(pickle.dumps(tuple(made)), 1)
    whole = path.with_suffix(".new")  # the lock is ours
    whole.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
    whole.replace(path)
