"""Building and searching, timed as the C++ back end does it: whole batches, an index from its file.

On a GPU (written against the signatures; none has run it) the queries lie there and the call is
waited for. `latency` and `throughput` are the same here: one call after another, threads inside.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cuvs_bench.backends._utils import compute_recall
from cuvs_bench.backends.base import BenchmarkBackend, BuildResult, SearchResult

import gpuann
from gpuann import brute_force, refined
from gpuann_cuvs_bench import kinds, results

ERRORS = (ValueError, TypeError, OSError, MemoryError, gpuann.BackendError)
Search = Callable[[Any], tuple[Any, Any]]


class GpuannBackend(BenchmarkBackend):
    """What goes wrong with one index is told, and the others go on."""

    @property
    def algo(self) -> str:
        return self.config["algo"]

    @property
    def device(self) -> str:
        return self.config["device"]

    def _check_gpu_available(self) -> bool:
        try:
            brute_force.build(np.zeros((1, 1), np.float32), device="cuda")
        except gpuann.BackendError:
            return False
        return True

    def cleanup(self) -> None:
        gpuann.set_num_threads(None)

    def _file(self, step: str, number: int) -> Path:
        return Path(self.config["folder"]) / step / f"{self.config['output_filename'][number]}.json"

    def build(
        self, dataset: Any, indexes: list[Any], force: bool = False, dry_run: bool = False
    ) -> BuildResult:
        skip = self._pre_flight_check()
        if skip:
            return self._built(indexes, [], [f"{self.algo}: not run, {skip}"])
        records, errors = [], []
        wanted = [index for index in indexes if force or not Path(index.file).exists()]
        for index in wanted:
            if dry_run:
                print(f"would build {index.name} into {index.file}")
                continue
            try:
                records.append(self._build_one(dataset, index))
            except ERRORS as error:
                errors.append(f"{index.name}: {error}")
        if records:
            results.write(self._file("build", 0), records, "others")
        return self._built(indexes, records, errors, n_there=len(indexes) - len(wanted))

    def _build_one(self, dataset: Any, index: Any) -> dict[str, Any]:
        rows = dataset.training_vectors
        cpu, start = time.process_time(), time.perf_counter()
        built = kinds.build(
            index.algo, index.build_param, dataset.distance_metric, rows, self.device
        )
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        Path(index.file).parent.mkdir(parents=True, exist_ok=True)
        gpuann.save(index.file, built)
        return results.build_record(index.name, seconds, cpu, built.nbytes, index.build_param)

    def _built(
        self, indexes: list[Any], records: list[Any], errors: list[str], n_there: int = 0
    ) -> BuildResult:
        _tell(errors)
        return BuildResult(
            index_path=indexes[0].file if indexes else "",
            build_time_seconds=sum(record["real_time"] for record in records),
            index_size_bytes=sum(record["index_size"] for record in records),
            algorithm=self.algo,
            build_params=indexes[0].build_param if indexes else {},
            metadata={"n_built": len(records), "n_there": n_there, "device": self.device},
            success=not errors or bool(records) or n_there > 0,
            error_message="; ".join(errors) or None,
        )

    def search(
        self,
        dataset: Any,
        indexes: list[Any],
        k: int,
        batch_size: int = 10000,
        mode: str = "latency",
        force: bool = False,
        search_threads: Any = None,
        dry_run: bool = False,
    ) -> SearchResult:
        skip = self._pre_flight_check()
        if skip:
            return self._searched(indexes, [], [f"{self.algo}: not run, {skip}"], k)
        if search_threads is not None:
            gpuann.set_num_threads(_threads(search_threads))
        records, errors, last = [], [], None
        for index in indexes:
            if dry_run:
                print(f"would search {index.name} in {len(index.search_params)} ways")
                continue
            try:
                for record, found in self._search_one(dataset, index, k, batch_size):
                    records.append(record)
                    last = found
            except ERRORS as error:
                errors.append(f"{index.name}: {error}")
        if records:
            keep = "all" if self.config.get("append_results") else "none"
            results.write(self._file("search", 1), records, keep)
        return self._searched(indexes, records, errors, k, last)

    def _search_one(self, dataset: Any, index: Any, k: int, batch_size: int) -> Any:
        """A record and (distances, ids) for each set of search parameters."""
        held = gpuann.load(index.file, device=self.device)
        ways = [kinds.search_params(index.algo, given) for given in index.search_params]
        if any(ratio > 1 for _, ratio in ways):
            kept = refined.build(held, dataset.training_vectors)
        queries, truth = dataset.query_vectors, dataset.groundtruth_neighbors
        n = min(batch_size, len(queries))
        batches = [queries[at : at + n] for at in range(0, len(queries) - n + 1, n)]
        placed, wait = _placed(batches, self.device)
        for number, (given, (params, ratio)) in enumerate(
            zip(index.search_params, ways, strict=True)
        ):
            one = _searcher(index.algo, params, held if ratio == 1 else kept, k, ratio)
            distances, ids = _all_of(one, placed)
            latencies, cpu = _timed(one, placed, wait, self.config["min_seconds"])
            recall = float("nan")
            if truth is not None:
                recall = compute_recall(ids, np.asarray(truth)[: len(ids)], k)
            name = f"{index.name}/{number}"
            yield (
                results.search_record(name, given, k, n, latencies, cpu, recall),
                (distances, ids),
            )

    def _searched(
        self,
        indexes: list[Any],
        records: list[dict[str, Any]],
        errors: list[str],
        k: int,
        last: Any = None,
    ) -> SearchResult:
        """Means over all records, as the C++ back end gives them; neighbours of the last."""
        _tell(errors)
        empty = np.empty((0, k), np.float32), np.empty((0, k), np.int64)
        distances, ids = last or empty
        one = records[0] if len(records) == 1 else {}
        tails = {p: one[f"latency_{p}"] * 1e3 for p in ("p50", "p95", "p99")} if one else None
        return SearchResult(
            neighbors=ids,
            distances=distances,
            search_time_ms=sum(record["Latency"] for record in records) * 1e3,
            queries_per_second=_mean(records, "items_per_second"),
            recall=_mean(records, "Recall"),
            algorithm=self.algo,
            search_params=[given for index in indexes for given in index.search_params],
            latency_percentiles=tails,
            metadata={"device": self.device, "per_search_param_results": records},
            success=bool(records) or not errors,
            error_message="; ".join(errors) or None,
        )


def _searcher(kind: str, params: Any, index: Any, k: int, ratio: int) -> Search:
    if params is None:
        return lambda queries: brute_force.search(index, queries, k)
    if ratio > 1:
        return lambda queries: refined.search(params, index, queries, k, k_factor=ratio)
    return lambda queries: kinds.MODULES[kind].search(params, index, queries, k)


def _placed(batches: list[np.ndarray], device: str) -> tuple[list[Any], Callable[[], None]]:
    """The batches where they are searched, and what waits for a search."""
    if device == "cpu":
        return batches, lambda: None
    import cupy

    return [cupy.asarray(batch) for batch in batches], cupy.cuda.get_current_stream().synchronize


def _all_of(search: Search, batches: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """(distances, ids) of all batches on the host; it also warms up."""
    found = [search(batch) for batch in batches]
    on_host = [[a.get() if hasattr(a, "get") else a for a in pair] for pair in found]
    distances, ids = (np.concatenate(arrays) for arrays in zip(*on_host, strict=True))
    return distances, ids


def _timed(
    search: Search, batches: list[Any], wait: Callable[[], None], min_seconds: float
) -> tuple[list[float], float]:
    """Seconds of each call, over all batches until `min_seconds` are full; CPU seconds of one."""
    latencies: list[float] = []
    cpu = time.process_time()
    while sum(latencies) < min_seconds:
        for batch in batches:
            start = time.perf_counter()
            search(batch)
            wait()
            latencies.append(time.perf_counter() - start)
    return latencies, (time.process_time() - cpu) / len(latencies)


def _threads(given: Any) -> int:
    text = str(given)
    if not text.isdecimal() or int(text) < 1:
        way_out = "gpuann's searches share one set of threads, so a range of them is no choice"
        raise ValueError(f"gpuann: search_threads must be one number, got {text!r}; {way_out}")
    return int(text)


def _mean(records: list[dict[str, Any]], name: str) -> float:
    return sum(record[name] for record in records) / len(records) if records else 0.0


def _tell(errors: list[str]) -> None:
    for error in errors:
        print(f"gpuann: {error}")
