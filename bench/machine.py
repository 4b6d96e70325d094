"""The machine of a measurement, the libraries on it, and the way to take times."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PRESETS = (
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "MKL_NUM_THREADS",
)


def without_presets() -> dict[str, str]:
    """The environment without variables that pin BLAS to another machine's cores or threads;
    BENCH_CORETYPE names an OpenBLAS core for all libraries alike, for a peer whose BLAS does not
    know the machine.
    """
    wanted = {k: v for k, v in os.environ.items() if k not in PRESETS}
    if "BENCH_CORETYPE" in wanted:
        wanted["OPENBLAS_CORETYPE"] = wanted["BENCH_CORETYPE"]
    return wanted


def clear_presets() -> None:
    """Start again in that environment: its variables are read when a library loads, so this comes
    before NumPy is imported.
    """
    wanted = without_presets()
    if wanted != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)


def cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def busy_seconds() -> float:
    """Core seconds that all processes, and other guests of the host, have taken since the start of
    the system; 0 where /proc does not tell.
    """
    place = Path("/proc/stat")
    if not place.exists():
        return 0.0
    user, nice, system, _, _, irq, soft, steal = map(int, place.read_text().split()[1:9])
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def has_gpu() -> bool:
    """Whether CUDA can be used."""
    from gpuann.cuda import devices

    return devices.why_not() is None


def about() -> dict[str, Any]:
    """Processor, cores, memory, system, load, versions and commit: of a result's first lines."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    here = str(Path(__file__).parent)
    asked = ["git", "-C", here, "describe", "--always", "--dirty", "--abbrev=9"]
    try:
        commit = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    more = {"memory_bytes": memory, "system": platform.platform(), "commit": commit}
    return {k: v for k, v in describe().items() if k != "blas"} | more


def describe() -> dict[str, Any]:
    """Processor, cores, versions, and the BLAS of every library that is loaded."""
    import threadpoolctl

    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": cpu,
        "cores": cores(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in ("gpuann", "numpy", "faiss-cpu")},
        "load": os.getloadavg()[0],
        "blas": [
            {k: Path(v).name if k == "filepath" else v for k, v in lib.items()}
            for lib in threadpoolctl.threadpool_info()
        ],
    }


def interleaved(
    calls: dict[str, Callable[[], Any]], repeats: int, rest: float = 0.005
) -> dict[str, dict[str, float]]:
    """Seconds of each call, taken in turn: median, smallest and largest, after one warm-up.

    `rest` seconds before each: OpenMP's threads spin for a while after their work, on the core that
    the other side's thread wants.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            time.sleep(rest)
            start = time.perf_counter()
            call()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: spread(seconds) for name, seconds in times.items()}


def spread(seconds: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    ordered = sorted(seconds)
    middle = len(ordered) // 2
    odd = len(ordered) % 2
    median = ordered[middle] if odd else (ordered[middle - 1] + ordered[middle]) / 2
    return {"median": median, "min": ordered[0], "max": ordered[-1]}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
