"""How long it takes until something happens: import, compile, load.

    python -m bench.startup [--out bench/results/startup.json]

Each figure is the median of fresh processes. "compile" is what the first search of a process pays
where the cache on disk is empty, "load" where it is full: NVRTC and the cache, for the kernels that
a search of that index launches, without the driver's own loading, which needs a GPU.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import machine

IMPORTS = {
    "python": "pass",
    "gpuann": "import gpuann",
    "gpuann and cupy": "import gpuann, cupy",
    "gpuann, device chosen": "import gpuann.backends as b; b.choose('bench', None)",
}
_TEXTS = """
import time
import numpy as np
from gpuann.cuda import compile, variants as v
texts = {texts}
start = time.perf_counter()
for one in texts:
    compile.cubin(one.text, "sm_90")
print(time.perf_counter() - start)
"""
_WHOLE = "v.scan_lists(v.Codec.WHOLE, np.float32, rows_as=v.RowsAs.HALVES)"
# the kernels of the first search, its coarse step included; few queries also merge
SEARCHES = {
    "brute force": f"[{_WHOLE}]",
    "IVF-Flat": f"[{_WHOLE}, v.plain('select_k')]",
    "IVF-PQ": f"[{_WHOLE}, v.scan_lists(v.Codec.PQ, np.uint8, pq_len=2), "
    "v.build_lut(np.float32), v.scan_lut(np.float32), v.plain('select_k')]",
}


def wall(code: str, repeats: int) -> float:
    """Seconds of a fresh Python that runs `code`."""
    took = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        took.append(time.perf_counter() - start)
    return statistics.median(took)


def compiling(texts: str, folder: str) -> float:
    """Seconds in which a fresh Python has the binaries of these kernels."""
    env = os.environ | {"GPUANN_CACHE_DIR": folder}
    code = _TEXTS.format(texts=texts)
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, env=env, capture_output=True, text=True
    )
    return float(run.stdout)


def measure(repeats: int) -> dict[str, float]:
    """All figures, in seconds."""
    result = {f"import: {name}": wall(code, repeats) for name, code in IMPORTS.items()}
    for name, texts in SEARCHES.items():
        cold, warm = [], []
        for _ in range(repeats):
            with tempfile.TemporaryDirectory() as folder:
                cold.append(compiling(texts, folder))
                warm.append(compiling(texts, folder))
        result[f"compile: {name}"] = statistics.median(cold)
        result[f"load: {name}"] = statistics.median(warm)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    result = {"machine": machine.describe(), "seconds": measure(arguments.repeats)}
    for name, seconds in result["seconds"].items():
        print(f"{seconds:8.3f} s  {name}")
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
