"""The process of one library, as the bench asks it; the other end is `bench.worker`."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench import machine, worker


class Peer:
    """The process of one library."""

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "bench.worker", name, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=worker.environment(threads),
            cwd=Path(__file__).parents[1],
        )

    def ask(self, do: str, **job: Any) -> dict[str, Any]:
        """One answer; a process that died answers with an error."""
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("the process has no pipes")
        before, start = machine.busy_seconds(), time.perf_counter()
        try:
            self.process.stdin.write(json.dumps({"do": do, **job}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            return {"error": f"the process ended with {self.process.wait()}"}
        answer: dict[str, Any] = json.loads(line)
        wall = max(time.perf_counter() - start, 1e-9)
        others = machine.busy_seconds() - before - answer["cpu_seconds"]
        # the system counts in hundredths of a second: a short turn says nothing
        answer["foreign"] = max(0.0, others / wall / machine.cores()) if wall > 0.2 else 0.0
        return answer

    def close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
