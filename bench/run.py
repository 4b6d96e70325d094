"""Measure libraries side by side: each in its own process, the same threads, turn about.

    python -m bench run --data clustered:100000x96 --peers gpuann,faiss --batch 1,100,10000 -o F

The order of work: every peer builds its grid; a pass over some queries finds the recall of every
setting and warms it up; then all settings are timed in turns, one call of each library after the
other, those of each spread over the turn and every other turn in reverse: what disturbs a part of a
turn meets all libraries. The file is written after every turn, so a run that is stopped leaves what
it has.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bench import datasets, machine, measures, peers, truth
from bench.processes import Peer
from gpuann.errors import bad_value
from gpuann.io import SUFFIXES

CPU = "gpuann,faiss,hnswlib,usearch,scann,lance"
CALLS = {1: 100, 10: 50, 100: 10, 1000: 3}  # in a turn; batches above these: one
ENOUGH, TOO_LOW = 0.995, 0.8  # a curve ends at the first, settings under the second are not timed
LONGEST = 15.0  # seconds of a call
NOISE = 0.1  # share of the cores that others may take from a timed turn


class Run:
    """What is asked for, and what has been found."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.found: dict[str, Any] = {
            "machine": machine.about(),
            "threads": asked.threads,
            "command": command(),
            "train": peers.TRAINING,
            "peers": {},
            "sets": [],
            "builds": [],
            "points": [],
        }
        self.workers: list[Peer] = []

    def start(self) -> None:
        """A process for every peer that is there; the others are named with the reason."""
        has_gpu = machine.has_gpu()
        for name in self.asked.peers:
            reason = peers.missing(name, has_gpu)
            if reason is None:
                peer = Peer(name, self.asked.threads)
                answer = peer.ask("about")
                reason = answer.get("error")
                if reason is None:
                    self.workers.append(peer)
                    about = {"version": peers.version(name), **answer}
                    self.found["peers"][name] = about
                    continue
            self.found["peers"][name] = {"missing": reason}
            print(f"{name} is left out: {reason}", file=sys.stderr)

    def data_set(self, data: truth.Stored) -> None:
        """All peers on one data set."""
        about = {"name": data.name, "rows": list(data.rows.shape), "sha256": data.sha256}
        self.found["sets"].append(about | {"queries": len(data.queries)})
        built = self.build(data)
        points = self.recalls(data, built)
        try:
            for turn in range(self.asked.turns):
                self.turn(points, data, turn)
                self.keep(data, points)
        finally:  # stopped in the middle of a turn, too
            self.keep(data, points)
        for peer, number, *_ in built:
            peer.ask("drop", number=number)

    def build(self, data: truth.Stored) -> list[tuple[Peer, int, list[Any]]]:
        """Every configuration of every peer, turn about."""
        plans: list[tuple[int, Peer, list[Any]]] = []
        for peer in self.workers:
            if "error" in (answer := peer.ask("load", folder=str(data.folder))):
                self.note(data, peer, answer["error"])
                continue
            configs = peer.ask("configs", grid=self.asked.grid)["configs"]
            wanted = self.asked.kinds
            kept = [c for c in configs if not wanted or c[0].split("+")[0] in wanted]
            plans += [(i, peer, config) for i, config in enumerate(kept)]
        plans.sort(key=lambda plan: plan[0])
        built = []
        for i, peer, config in _bar(plans, "building"):
            answer = peer.ask("build", number=i, config=config)
            kind, params, _ = config
            row = {"data": data.name, "peer": peer.name, "kind": kind, "build": params}
            self.found["builds"].append(row | answer)
            if "error" not in answer:
                built.append((peer, i, config))
        return built

    def recalls(
        self, data: truth.Stored, built: list[tuple[Peer, int, list[Any]]]
    ) -> list[dict[str, Any]]:
        """A pass over some queries for each setting; a curve ends when it has recall enough."""
        n = len(data.truth)
        queries, points = data.queries[:n], []
        for peer, number, (kind, params, settings) in _bar(built, "recall"):
            for k in self.asked.k:
                ended: set[str] = set()
                for how in settings:
                    rest = str(list(how.items())[1:])
                    if rest in ended:
                        continue
                    with tempfile.TemporaryDirectory() as folder:
                        file = f"{folder}/ids.npy"
                        job = {"number": number, "how": how, "k": k, "first": 0, "ids": file}
                        answer = peer.ask("search", batch=n, calls=1, **job)
                        if "error" in answer:
                            self.note(data, peer, f"{kind} {params} {how}: {answer['error']}")
                            ended.add(rest)
                            continue
                        ids = np.load(file)
                    true = data.truth[:n, :k]
                    found = measures.recall(ids, true)
                    few = slice(0, 200)
                    ties = measures.recall_by_distance(ids[few], data.rows, queries[few], true[few])
                    if found >= ENOUGH:
                        ended.add(rest)
                    point = {"data": data.name, "peer": peer.name, "kind": kind, "build": params}
                    point |= {"search": how, "k": k, "recall": found}
                    point |= {"recall_by_distance": ties, "first_seconds": answer["seconds"][0]}
                    if found >= TOO_LOW:
                        points.append(point | {"worker": peer, "number": number, "times": {}})
        return points

    def turn(self, points: list[dict[str, Any]], data: truth.Stored, turn: int) -> None:
        """Each setting once for each batch; one library after the other."""
        order = spread_over_turn(points, turn)
        label = f"turn {turn + 1} of {self.asked.turns}"
        # a set with fewer queries than a batch has a batch of them all, and it is called that
        batches = sorted({min(b, len(data.queries)) for b in self.asked.batch})
        for batch, point in _bar([(b, p) for b in batches for p in order], label):
            size = batch  # of which a library that takes minutes is asked a part
            expected = point["first_seconds"] * size / len(data.truth)
            if expected > LONGEST:
                size = max(1, int(size * LONGEST / expected))
            calls = next((c for b, c in sorted(CALLS.items()) if batch <= b), 1)
            calls = max(1, min(calls, len(data.queries) // size))
            time.sleep(0.01)  # OpenMP's threads spin on for a while
            answer = point["worker"].ask(
                "search",
                number=point["number"],
                how=point["search"],
                k=point["k"],
                batch=size,
                calls=calls,
                first=turn * calls * size,
                ids="",
            )
            if "error" in answer:
                self.note(data, point["worker"], answer["error"])
                continue
            kept = point["times"].setdefault(
                batch, {"seconds": [], "turns": [], "foreign": [], "asked": size}
            )
            kept["seconds"] += answer["seconds"]
            kept["turns"].append(answer["n"] / sum(answer["seconds"]))
            kept["foreign"].append(answer["foreign"])

    def keep(self, data: truth.Stored, points: list[dict[str, Any]]) -> None:
        """What is known of these points, in the result and its file."""
        others = [p for p in self.found["points"] if p["data"] != data.name]
        self.found["points"] = others + [row for p in points for row in rows_of(p)]
        self.save()

    def note(self, data: truth.Stored, peer: Peer, error: str) -> None:
        """What went wrong is part of the result."""
        self.found.setdefault("errors", []).append(
            {"data": data.name, "peer": peer.name, "error": error}
        )
        print(f"{peer.name}: {error}", file=sys.stderr)

    def save(self) -> None:
        """Write the file anew."""
        whole = json.dumps(rounded(self.found))
        self.asked.out.parent.mkdir(parents=True, exist_ok=True)
        # a line for each row, so that two results can be told apart
        for name in ("builds", "points", "errors"):
            whole = whole.replace(f'"{name}": [{{', f'\n"{name}": [\n{{')
        self.asked.out.write_text(whole.replace("}}, {", "}},\n{") + "\n")


def spread_over_turn(points: list[dict[str, Any]], turn: int) -> list[dict[str, Any]]:
    """The points of a turn in the order of timing: three settings of a library are at a sixth, a
    half and five sixths of the turn; odd turns go backwards.
    """
    of_peer: dict[str, list[dict[str, Any]]] = {}
    for point in points:
        of_peer.setdefault(point["peer"], []).append(point)
    placed = [((i + 0.5) / len(own), p) for own in of_peer.values() for i, p in enumerate(own)]
    ordered = [point for _, point in sorted(placed, key=lambda place: place[0])]
    return ordered[::-1] if turn % 2 else ordered


def command() -> str:
    """What was typed, with the one variable that changes the result."""
    core = os.environ.get("BENCH_CORETYPE")
    return (
        (f"BENCH_CORETYPE={core} " if core else "")
        + "python -m bench run "
        + " ".join(sys.argv[2:])
    )


def rows_of(point: dict[str, Any]) -> list[dict[str, Any]]:
    """A point of the result for each batch."""
    said = {k: v for k, v in point.items() if k not in ("worker", "number", "times")}
    rows = []
    for batch, kept in point["times"].items():
        seconds, turns = measures.percentiles(kept["seconds"]), kept["turns"]
        noisy = float(np.median(kept["foreign"])) > NOISE or max(turns) > 1.25 * min(turns)
        qps = float(np.median(turns))
        more = {
            "batch": batch,
            "asked": kept["asked"],
            "qps": qps,
            "seconds": seconds,
            "turns": turns,
        }
        rows.append(said | more | {"noisy": bool(noisy), "foreign": max(kept["foreign"])})
    return rows


def rounded(value: Any) -> Any:
    """Floats of a result to five digits."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list) else value


def _bar(items: list[Any], label: str) -> Any:
    return tqdm(items, label, file=sys.stderr, mininterval=1, dynamic_ncols=True)


def numbers(text: str) -> list[int]:
    """ "1,100" -> [1, 100]."""
    return [int(x.replace("_", "")) for x in text.split(",")]


def names(text: str) -> list[str]:
    """ "a,b" -> ["a", "b"]."""
    return [x.strip() for x in text.split(",") if x.strip()]


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m bench run", description=__doc__)
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    made.add_argument("--data", type=names, required=True, help=f"names, files ({SUFFIXES[0]} ...)")
    made.add_argument("--peers", type=names, default=names(CPU), help=f"default {CPU}")
    made.add_argument("--kinds", type=names, default=[], help="only these, as IVF-Flat,HNSW")
    made.add_argument("--batch", type=numbers, default=[1, 100, 10_000])
    made.add_argument("-k", type=numbers, default=[10])
    made.add_argument("--grid", choices=("small", "full"), default="full")
    made.add_argument("--threads", type=int, default=machine.cores())
    made.add_argument("--turns", type=int, default=3)
    made.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "gpuann-bench")
    made.add_argument("-o", "--out", type=Path, required=True)
    return made


def main(arguments: list[str]) -> None:
    """Measure and write."""
    asked = parser().parse_args(arguments)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what is there is written
    for name in asked.peers:
        if name not in peers.PEERS:
            raise bad_value("bench", "--peers", f"be of {', '.join(peers.PEERS)}", repr(name))
    run = Run(asked)
    run.start()
    try:
        for name in asked.data:
            run.data_set(truth.store(datasets.get(name, asked.cache), asked.cache))
    finally:
        for peer in run.workers:
            peer.close()
        run.save()
    print(f"written: {asked.out}", file=sys.stderr)
