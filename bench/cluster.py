"""An index on a cluster of local processes: round trips, stalls with and without hedges, a kill.

    python -m bench.cluster [--out bench/results/cluster.json]

round trip   200,000 x 96 (`gaussians`), IVF-PQ 256 lists x 24 bytes, 20 probes, 4 shards on 4
             processes of one thread, one query at a time; beside it one shard on one process, and
             the same index searched in this process
late         16 shards x 2 replicas on 4 processes, so about four shards in a call. 120 ms later
             come 1 % of the answers, so that 4 % of the searches are late; or 4 %, which is as
             often as one of four shards is late where each answers by itself: 15 % of the searches
kill         4 shards x 2 replicas; SIGKILL of one worker in a stream of searches
"""

import argparse
import asyncio
import json
import os
import random
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bench import machine

if __name__ == "__main__":
    machine.clear_presets()

import numpy as np
from distributed import Client, LocalCluster

import gpuann
from bench.data import gaussians
from gpuann import dask, distributed, ivf_pq
from gpuann.dask.holder import Holder

BARS = {
    "round trip of 4 shards, p50 ms": 5,
    "16 x 2, 4 % of the answers late, hedged, p95 ms": 30,
    "extra calls": 0.05,
}
PARAMS, ASKED = ivf_pq.IndexParams(n_lists=256, pq_dim=24), ivf_pq.SearchParams(n_probes=20)
STALL = 0.12
SHARES = {"1 % of the answers late": 0.01, "4 % of the answers late": 0.0394}
HEDGES = {"not hedged": None, "hedged after 20 ms": 20, "hedged, p95": "p95"}


def stall(share: float) -> None:
    """On a worker: that share of its answers is later, as after a pause of the network; the worker
    itself goes on meanwhile.
    """
    search, draw = Holder.search, random.Random(os.getpid())

    async def slowly(holder: Any, *arguments: Any) -> Any:
        if draw.random() < share:
            await asyncio.sleep(STALL)
        return await search(holder, *arguments)

    slowly.before = search  # type: ignore[attr-defined]
    Holder.search = slowly  # type: ignore[method-assign]


def unstall() -> None:
    """On a worker: as it was."""
    Holder.search = Holder.search.before  # type: ignore[attr-defined,method-assign]


def timed(n: int, search: Any) -> dict[str, float]:
    """n searches one after the other, after twenty that do not count."""
    for i in range(20):
        search(i)
    seconds = []
    for i in range(n):
        begin = time.perf_counter()
        search(i)
        seconds.append(time.perf_counter() - begin)
    found = np.percentile(seconds, [50, 95, 99]) * 1e3
    return dict(zip(("p50_ms", "p95_ms", "p99_ms"), found.tolist(), strict=True))


def round_trip(client: Client, folder: str, local: Any, queries: Any, n: int) -> dict[str, Any]:
    """One query at a time: in this process, over one shard, over four."""

    def one_of(index: Any) -> Any:
        return lambda i: dask.search(ASKED, index, queries[i % len(queries)][None], 10)

    def here(i: int) -> Any:
        return ivf_pq.search(ASKED, local, queries[i % len(queries)][None], 10)

    result = {"in this process": timed(n, here)}
    workers = sorted(client.scheduler_info(-1)["workers"])
    for n_shards in (1, 4):
        index = dask.load(folder, client=client, n_shards=n_shards, workers=workers[:n_shards])
        result[f"{n_shards} shards"] = timed(n, one_of(index))
        index.close()
    return result


def stalls(client: Client, folder: str, queries: Any, n: int, share: float) -> dict[str, Any]:
    """16 x 2, the same stalls with hedges and without."""
    client.run(stall, share)
    result: dict[str, Any] = {}
    for name, after in HEDGES.items():
        serve = dask.ServeParams(hedge_after=after)
        index = dask.load(folder, client=client, n_shards=16, n_replicas=2, serve=serve)
        found = timed(n, lambda i, one=index: dask.search(ASKED, one, queries[i % 100][None], 10))
        stats = index.stats()
        extra = stats["hedges"] / stats["calls"]
        result[name] = {**found, "extra calls": extra, "hedge_wins": stats["hedge_wins"]}
        index.close()
    client.run(unstall)
    return result


def kill(client: Client, folder: str, queries: Any, want: Any, n: int) -> dict[str, Any]:
    """A worker dies while searches go on: answers that were wrong, and the slowest search."""
    index = dask.load(folder, client=client, n_shards=4, n_replicas=2)
    victim = index.workers[0][0]
    pid = client.run(os.getpid, workers=[victim])[victim]
    wrong, seconds, killed = 0, [], threading.Timer(0.5, os.kill, (pid, signal.SIGKILL))
    killed.start()
    for i in range(n):
        at = i % len(want[1])
        begin = time.perf_counter()
        found = dask.search(ASKED, index, queries[at][None], 10)
        seconds.append(time.perf_counter() - begin)
        same = (found[0] == want[0][at]).all() and (found[1] == want[1][at]).all()
        wrong += not (same and found.coverage == 1.0)
    killed.join()
    index.settled()
    stats, ms = index.stats(), np.array(seconds) * 1e3
    names = ("lost", "retries", "reloads", "failed_reloads")
    result = {name: stats[name] for name in names}
    result |= {"searches": n, "wrong": wrong, "took_s": float(sum(seconds))}
    result |= {"p50_ms": float(np.median(ms)), "slowest_ms": float(ms.max())}
    index.close()
    return result


def text(found: dict[str, Any]) -> str:
    """The README's paragraph."""
    about, trip, kill = (found[n] for n in ("machine", "round trip", "kill"))
    here, one, four = (trip[n]["p50_ms"] for n in ("in this process", "1 shards", "4 shards"))
    rare, often = ([found[name][how] for how in HEDGES] for name in SHARES)
    return (
        f"`python -m bench.cluster` ({about['date']}, {about['cores']} cores of {about['cpu']}, 4 "
        f"processes of one thread, 200,000 x 96, IVF-PQ, 20 probes, one query at a time): "
        f"{here:.1f} ms (p50) in this process, {one:.1f} over one shard, {four:.1f} over four. "
        f"With 16 shards, two replicas and every 25th answer of a worker 120 ms late, which is "
        f"15 % of the searches, the p95 is {often[0]['p95_ms']:.0f} ms; with `hedge_after=20` it "
        f"is {often[1]['p95_ms']:.0f} ms for {100 * often[1]['extra calls']:.1f} % more calls, "
        f'with `hedge_after="p95"` {often[2]["p95_ms"]:.0f} ms for '
        f"{100 * often[2]['extra calls']:.1f} %. With every 100th late the p99 is "
        f"{rare[0]['p99_ms']:.0f}, {rare[1]['p99_ms']:.0f} and {rare[2]['p99_ms']:.0f} ms. Of "
        f"{kill['searches']} searches during which one of four workers was killed, "
        f"{kill['wrong']} had a wrong answer; the slowest took {kill['slowest_ms']:.0f} ms."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--searches", type=int, default=500)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows, queries = gaussians(arguments.rows, 96, 500)
    local, n = ivf_pq.build(PARAMS, rows, device="cpu"), arguments.searches
    want = ivf_pq.search(ASKED, local, queries, 10)
    with tempfile.TemporaryDirectory() as folder:
        shard = gpuann.updates.as_shard(local)
        parts = distributed.split(shard, 4)
        distributed.commit(folder, [distributed.write_shard(folder, part) for part in parts])
        options = {"threads_per_worker": 1, "dashboard_address": ":0"}
        with LocalCluster(n_workers=4, **options) as cluster, Client(cluster) as client:
            gpuann.set_num_threads(1)
            result: dict[str, Any] = {"machine": machine.describe(), "bars": BARS}
            result["round trip"] = round_trip(client, folder, local, queries, n)
            for name, share in SHARES.items():
                result[name] = stalls(client, folder, queries, n, share)
            result["kill"] = kill(client, folder, queries, want, n)
    for name, value in result.items():
        if name != "machine":
            print(f"{name}: {json.dumps(value, indent=1)}")
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
