"""Files in the form of Google Benchmark, which cuvs-bench exports to CSV and plots.

The exporter counts columns: `threads` and `cpu_time` come before the parameters, and no parameter
of a build has the name of one of a search.
"""

import json
from pathlib import Path
from typing import Any

import gpuann


def build_record(name: str, seconds: float, cpu: float, n_bytes: int, given: Any) -> dict[str, Any]:
    return {
        **_head(name, seconds, cpu, "s"),
        **_numbers(given),
        "index_size": n_bytes,
    }


def search_record(
    name: str, given: Any, k: int, batch: int, latencies: list[float], cpu: float, recall: float
) -> dict[str, Any]:
    """latencies : seconds of each call with a whole batch; cpu : seconds of one call"""
    mean = sum(latencies) / len(latencies)
    ordered = sorted(latencies)
    tails = {f"latency_p{p}": ordered[round(p / 100 * (len(ordered) - 1))] for p in (50, 95, 99)}
    return {
        **_head(name, mean, cpu, "s", len(latencies)),
        **_numbers(given),
        "Latency": mean,
        "Recall": recall,
        "end_to_end": sum(latencies),
        "items_per_second": batch / mean,
        "k": k,
        "n_queries": batch,
        "total_queries": batch * len(latencies),
        **tails,
    }


def write(path: Path, records: list[dict[str, Any]], keep: str) -> None:
    """keep : what stays of a file that is there: "none", "all", or "others" than of these names"""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = []
    if keep != "none" and path.exists():
        before = json.loads(path.read_text())["benchmarks"]
    if keep == "others":
        names = {record["name"] for record in records}
        before = [record for record in before if record["name"] not in names]
    context = {"gpuann": gpuann.__version__, "threads": gpuann.get_num_threads()}
    path.write_text(json.dumps({"context": context, "benchmarks": before + records}, indent=1))


def _head(name: str, real: float, cpu: float, unit: str, iterations: int = 1) -> dict[str, Any]:
    return {
        "name": name,
        "run_name": name,
        "run_type": "iteration",
        "repetitions": 1,
        "repetition_index": 0,
        "threads": gpuann.get_num_threads(),
        "iterations": iterations,
        "real_time": real,
        "cpu_time": cpu,
        "time_unit": unit,
    }


def _numbers(given: dict[str, Any]) -> dict[str, Any]:
    """A word would have a comma in the CSV sooner or later, which the plot splits at."""
    return {name: value for name, value in given.items() if isinstance(value, int | float)}
