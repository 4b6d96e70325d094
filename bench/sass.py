"""What the loops of a kernel are made of: its SASS, taken apart by NVIDIA's nvdisasm.

nvdisasm is in the wheel nvidia-cuda-nvdisasm (the test extra) or on the PATH; no GPU is needed.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from gpuann.cuda import compile
from gpuann.cuda.source import Source

_INSTRUCTION = re.compile(r"^\s+/\*([0-9a-f]+)\*/\s+(?:@!?U?P\d\s+)?([A-Z][\w.]*)(.*)$")
_LABEL = re.compile(r"^\.?(L_x_\d+):")


class Loop(NamedTuple):
    """Instructions of one pass."""

    instructions: int
    mma: int
    shared: int
    """Loads from shared memory."""
    device: int
    """Loads from global memory."""
    local: int
    """Loads and stores of spilled registers."""


def nvdisasm() -> str | None:
    """Where it is, if it is."""
    wheels = [p / "nvidia/cu13/bin/nvdisasm" for p in map(Path, sys.path)]
    return shutil.which("nvdisasm") or next((str(p) for p in wheels if p.is_file()), None)


def product_loop(variant: Source, entry: str, arch: str) -> Loop | None:
    """The innermost loop with tensor-core products, the longest if there are several; None if the
    kernel has none.
    """
    tool = nvdisasm()
    if tool is None:
        raise FileNotFoundError("bench.sass: nvdisasm must be installed: pip install '.[test]'")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compile.build(variant.text, f"sm_{arch}").cubin)
        file.flush()
        text = subprocess.run([tool, "-c", file.name], capture_output=True, text=True, check=True)
    return loop_of(section(text.stdout, variant.symbol(entry)))


def section(text: str, symbol: str) -> list[str]:
    """The lines of one kernel."""
    parts = re.split(r"(?=\n\s*\.section\s+\.text\.)", text)
    found = [part for part in parts if f".text.{symbol}," in part.lstrip().split("\n")[0]]
    if len(found) != 1:
        raise LookupError(f"bench.sass: {symbol} must be one section, found {len(found)}")
    return found[0].splitlines()


def loop_of(lines: list[str]) -> Loop | None:
    """As `product_loop`, of a kernel's text."""
    names: list[str] = []
    labels: dict[str, int] = {}
    jumps: list[tuple[int, str]] = []
    for line in lines:
        if label := _LABEL.match(line):
            labels[label[1]] = len(names)
        elif match := _INSTRUCTION.match(line):
            if match[2].startswith("BRA") and (target := re.search(r"(L_x_\d+)", match[3])):
                jumps.append((len(names), target[1]))
            names.append(match[2])
    bodies = [(labels[to], at + 1) for at, to in jumps if to in labels and labels[to] <= at]
    with_products = [b for b in bodies if any(n.startswith("HMMA") for n in names[slice(*b)])]
    innermost = [
        (a, b)
        for a, b in with_products
        if not any((c, d) != (a, b) and a <= c and d <= b for c, d in with_products)
    ]
    if not innermost:
        return None
    kinds = Counter(name.split(".")[0] for name in names[slice(*max(innermost, key=_length))])
    return Loop(
        sum(kinds.values()),
        kinds["HMMA"],
        kinds["LDS"] + kinds["LDSM"],
        kinds["LDG"] + kinds["LD"],
        kinds["LDL"] + kinds["STL"],
    )


def _length(body: tuple[int, int]) -> int:
    return body[1] - body[0]
