"""Everything a GPU is needed for, in stages of at most ten minutes each.

    python -m bench gpu_check --out FOLDER [--only tests,golden] [--again] [--dry-run]

Every stage's output is in FOLDER/STAGE.log as it comes, and its verdict in FOLDER/stages.json once
it ends; called again it goes on with what has not passed.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

LIMIT = 600.0  # seconds of a stage


class Stage(NamedTuple):
    """A command; what it writes goes to the folder."""

    name: str
    command: list[str]
    needs: str | None = None
    """A program that must be there."""


def stages(out: Path) -> list[Stage]:
    """In order of what is learned soonest."""
    python = [sys.executable]
    pytest = [*python, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
    run = [*python, "-m", "bench", "run", "--peers", "gpuann_cuda,cuvs,flashlib,faiss_gpu"]
    small = [*run, "--grid", "small", "--batch", "1,100,10000", "-o"]
    return [
        Stage("tests", pytest),
        Stage("golden", [*python, "-m", "bench.golden", "--out", str(out / "golden.npz")]),
        Stage("ops", [*python, "-m", "bench", "ops", "--out", str(out / "ops.json")]),
        Stage(
            "frontier",
            [*small, str(out / "frontier.json"), "--data", "clustered:1000000x128"],
        ),
        Stage(
            "sanitizer",
            ["compute-sanitizer", "--error-exitcode", "1", *pytest, "-x"],
            "compute-sanitizer",
        ),
    ]


def run(stage: Stage, out: Path, limit: float = LIMIT) -> dict[str, Any]:
    """Run one stage -> its verdict: passed, failed, stopped (too long) or missing (a program)."""
    if stage.needs is not None and shutil.which(stage.needs) is None:
        return {"verdict": "missing", "why": f"{stage.needs} is not on the path"}
    start = time.perf_counter()
    with (out / f"{stage.name}.log").open("w") as log:
        try:
            done = subprocess.run(stage.command, stdout=log, stderr=log, timeout=limit, check=False)
        except subprocess.TimeoutExpired:
            return {"verdict": "stopped", "seconds": limit}
    verdict = "failed" if done.returncode else "passed"
    return {"verdict": verdict, "code": done.returncode, "seconds": time.perf_counter() - start}


def check(asked: list[Stage], out: Path, again: bool = False, limit: float = LIMIT) -> bool:
    """Run the stages that have not passed yet; whether all have passed then."""
    out.mkdir(parents=True, exist_ok=True)
    place = out / "stages.json"
    found: dict[str, Any] = json.loads(place.read_text()) if place.exists() else {}
    for stage in asked:
        if not again and found.get(stage.name, {}).get("verdict") == "passed":
            print(f"{stage.name}: passed before")
            continue
        found[stage.name] = {"verdict": "started"}  # what a stop of this process leaves
        place.write_text(json.dumps(found, indent=1) + "\n")
        found[stage.name] = run(stage, out, limit)
        place.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{stage.name}: {found[stage.name]}", flush=True)
    return all(found[stage.name]["verdict"] == "passed" for stage in asked)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench gpu_check", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="", help="names of stages, with commas")
    parser.add_argument("--again", action="store_true", help="those that passed too")
    parser.add_argument("--dry-run", action="store_true", help="print the commands")
    asked = parser.parse_args(arguments)
    every = stages(asked.out)
    only = [name for name in asked.only.split(",") if name]
    if not set(only) <= {stage.name for stage in every}:
        parser.error(f"--only must be of {', '.join(s.name for s in every)}, got {asked.only}")
    every = [stage for stage in every if not only or stage.name in only]
    if asked.dry_run:
        for stage in every:
            print(f"{stage.name}: {' '.join(stage.command)}")
        return
    from gpuann.cuda import devices

    if missing := devices.why_not():
        raise SystemExit(f"bench gpu_check: a GPU must be there, but: {missing}")
    if not check(every, asked.out, asked.again):
        raise SystemExit(1)
