"""The README's tables from committed results: `python -m bench.report`."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def tables() -> str:
    """Both tables of the README, from the committed results."""
    plain, same = (
        json.loads((RESULTS / f"{name}.json").read_text())
        for name in ("cpu_vs_faiss", "cpu_vs_faiss_same_blas_core")
    )
    return f"{cpu_table(plain)}\n\nThe same with one OpenBLAS core for both:\n\n{cpu_table(same)}"


def cpu_table(found: dict[str, Any]) -> str:
    """faiss' time over ours, a row per work and data set."""
    about = found["machine"]
    blas = ", ".join(
        f"{lib['filepath']} {lib['version']} ({lib['architecture']})"
        for lib in about["blas"]
        if lib["user_api"] == "blas"
    )
    versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
    lines = [
        f"{about['date']}, {about['cores']} cores of {about['cpu']}, two threads each. {versions}.",
        f"BLAS: {blas}.",
        "",
        "| data | work | faiss-cpu | gpuann | faiss / gpuann | bar |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        theirs, ours = (_time(row["seconds"][side]["median"]) for side in ("faiss", "gpuann"))
        mark = "" if row["ratio"] >= row["bar"] else " (missed)"
        lines.append(
            f"| {row['data']} | {row['work']} | {theirs} | {ours} | {row['ratio']:.2f} | "
            f"{row['bar']}{mark} |"
        )
    return "\n".join(lines)


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def main() -> None:
    """Print them."""
    print(tables())


if __name__ == "__main__":
    main()
