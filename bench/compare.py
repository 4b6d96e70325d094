"""What got faster or slower between two results, beyond noise.

    python -m bench compare before.json after.json

A difference counts where the turns of the two do not overlap and the medians differ by more than
10 %; a point that either side marked as noisy is named, not counted.
"""

import argparse
import json
from pathlib import Path
from typing import Any

LEAST = 1.1


def key(p: dict[str, Any]) -> str:
    """What makes two points the same one."""
    return json.dumps([p[n] for n in ("data", "peer", "kind", "build", "search", "k", "batch")])


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, list[str]]:
    """Lines by verdict: faster, slower, noisy, recall (it changed by more than .005), gone, new."""
    old, new = ({key(p): p for p in r["points"]} for r in (before, after))
    found: dict[str, list[str]] = {
        v: [] for v in ("faster", "slower", "noisy", "recall", "gone", "new")
    }
    for name in old.keys() | new.keys():
        if name not in new or name not in old:
            found["gone" if name in old else "new"].append(name)
            continue
        a, b = old[name], new[name]
        ratio = b["qps"] / a["qps"]
        line = f"{ratio:5.2f}x  {name}"
        if abs(a["recall"] - b["recall"]) > 0.005:
            found["recall"].append(f"{a['recall']:.3f} -> {b['recall']:.3f}  {name}")
        apart = min(b["turns"]) > max(a["turns"]) or max(b["turns"]) < min(a["turns"])
        if apart and not 1 / LEAST < ratio < LEAST:
            noisy = a["noisy"] or b["noisy"]
            found["noisy" if noisy else "faster" if ratio > 1 else "slower"].append(line)
    return {verdict: sorted(lines) for verdict, lines in found.items()}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench compare", description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    asked = parser.parse_args(arguments)
    before, after = (json.loads(p.read_text()) for p in (asked.before, asked.after))
    for field in ("cpu", "cores"):
        if before["machine"][field] != after["machine"][field]:
            print(f"not the same {field}: ratios say little")
    for verdict, lines in changes(before, after).items():
        print(f"{verdict}: {len(lines)}")
        for line in lines:
            print(f"  {line}")
