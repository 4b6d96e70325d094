"""What the commands do; `cli` reads their arguments. Each gives back what it would say as JSON."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gpuann import (
    brute_force,
    factory,
    files,
    io,
    ivf_flat,
    ivf_pq,
    ivf_sq,
    kinds,
    planning,
    refined,
    rerank,
)
from gpuann.arrays import HostArray
from gpuann.errors import bad_value
from gpuann.exchange import from_faiss, to_faiss
from gpuann.exchange.read_faiss import import_faiss
from gpuann.io.formats import check_target

_LARGEST_INT32 = 2**31 - 1


def build(
    data: Path, out: Path, index: str, metric: str, *, column: str | None, **more: Any
) -> dict[str, Any]:
    """An index file of a file of vectors."""
    where = "gpuann build"
    if out.suffix.lower() in io.SUFFIXES:
        raise bad_value(where, str(out), "not end as a file of vectors", repr(out.suffix))
    files.check_target(where, out)  # before the work
    rows = io.open_vectors(data, column=column)
    device, seed = more.pop("device"), more.pop("seed")
    n_iters = more.pop("kmeans_n_iters")
    named = {"seed": seed, "kmeans_n_iters": n_iters}
    given = {name: value for name, value in named.items() if value is not None}
    made = factory.index_factory(rows.shape[1], index, metric, **given)
    begin = time.perf_counter()
    found = made.build(rows, device=device, progress=True)
    built = time.perf_counter() - begin
    files.save(out, found)
    size = out.stat().st_size
    return {"index": repr(found), "file": str(out), "bytes": size, "build_seconds": built}


def search(
    index: Path,
    queries: Path,
    k: int,
    *,
    n_probes: int,
    column: str | None,
    refine: Path | None,
    k_factor: int,
    ids: Path | None,
    distances: Path | None,
    device: str | None,
) -> dict[str, Any]:
    """Neighbours of the vectors of a file, to files or to be shown."""
    if ids is not None:
        check_target("gpuann search", ids, _dtype_of_ids(ids))  # before the work
    if distances is not None:
        check_target("gpuann search", distances, np.dtype(np.float32))
    found, x = files.load(index, device=device), io.open_vectors(queries, column=column)
    run = _searcher(found, n_probes, refine, k_factor, device)
    begin = time.perf_counter()
    dists, names = run(x, k)
    seconds = time.perf_counter() - begin
    result: dict[str, Any] = {
        "queries": len(names),
        "k": k,
        "seconds": seconds,
        "queries_per_second": len(names) / max(seconds, 1e-9),
    }
    if ids is not None:
        io.write_vectors(ids, _narrow("gpuann search", ids, names))
        result["ids"] = str(ids)
    if distances is not None:
        io.write_vectors(distances, dists)
        result["distances"] = str(distances)
    if ids is None and distances is None:
        result["neighbors"] = names.tolist()
        result["neighbor_distances"] = [[_finite(x) for x in row] for row in dists.tolist()]
    return result


def _finite(x: float) -> float | None:
    """JSON has no infinity."""
    return x if np.isfinite(x) else None


def _dtype_of_ids(path: Path) -> np.dtype[Any]:
    return np.dtype(np.int32 if path.suffix.lower() in (".ivecs", ".ibin") else np.int64)


def _narrow(where: str, path: Path, ids: HostArray) -> HostArray:
    """Ids as the format has them: 32 bits where that is all there is."""
    if _dtype_of_ids(path) == np.int64:
        return ids
    if ids.max(initial=0) > _LARGEST_INT32:
        way_out = "write a .npy"
        raise bad_value(where, str(path), "hold ids below 2^31", int(ids.max()), way_out)
    return ids.astype(np.int32)


def _searcher(
    index: Any, n_probes: int, refine: Path | None, k_factor: int, device: str | None
) -> Callable[[Any, int], tuple[HostArray, HostArray]]:
    """search(queries, k) of any index."""
    inner: Any = index.inner if isinstance(index, refined.Index) else index
    module = {m.Index: m for m in (brute_force, ivf_flat, ivf_pq, ivf_sq)}[type(inner)]
    asked = None if module is brute_force else module.SearchParams(n_probes=n_probes)
    if k_factor < 1:
        raise bad_value("gpuann search", "--k-factor", "be at least 1", k_factor)
    rows = None if refine is None else _array(io.open_vectors(refine))

    def run(x: Any, k: int) -> tuple[HostArray, HostArray]:
        x = _array(x)
        if rows is None and isinstance(index, refined.Index):
            return refined.search(asked, index, x, k, k_factor=k_factor)
        wanted = k if rows is None else min(k * k_factor, max(k, len(index)))
        if module is brute_force:
            found = brute_force.search(inner, x, wanted)
        else:
            found = module.search(asked, inner, x, wanted)
        if rows is None:
            return found
        return rerank.refine(rows, x, found[1], k, index.metric, device=device)

    return run


def _array(found: Any) -> HostArray:
    return found.whole() if isinstance(found, io.Chunks) else found


def evaluate(
    index: Path,
    queries: Path,
    *,
    truth: Path | None,
    data: Path | None,
    k: int,
    n_probes: list[int],
    column: str | None,
    device: str | None,
) -> dict[str, Any]:
    """Recall and speed of an index, for several n_probes."""
    where = "gpuann eval"
    found, x = files.load(index, device=device), _array(io.open_vectors(queries, column=column))
    if truth is not None:
        named = "neighbors" if truth.suffix.lower() in (".hdf5", ".h5") else None
        want = _array(io.open_vectors(truth, column=named)).astype(np.int64)
        if len(want) != len(x) or want.shape[1] < k:
            rule = f"hold {len(x)} rows of {k} ids or more"
            raise bad_value(where, str(truth), rule, want.shape)
    elif data is not None:
        whole = brute_force.build(io.open_vectors(data), found.metric, device=device)
        want = brute_force.search(whole, x, k)[1]
    else:
        raise bad_value(where, "--truth", "be given, or --data to find it", "neither")
    points = []
    for n in n_probes:
        run = _searcher(found, n, None, 4, device)
        run(x[:1], k)  # compiled and loaded
        begin = time.perf_counter()
        ids = run(x, k)[1]
        seconds = time.perf_counter() - begin
        pairs = zip(ids.tolist(), want[:, :k].tolist(), strict=True)
        recall = sum(len(set(a) & set(b)) for a, b in pairs) / max(1, want[:, :k].size)
        points.append({"n_probes": n, "recall": recall, "queries_per_second": len(x) / seconds})
        if type(found) is brute_force.Index:
            break
    return {"index": repr(found), "k": k, "queries": len(x), "points": points}


def info(path: Path, *, column: str | None) -> dict[str, Any]:
    """What a file holds: an index, or vectors."""
    if path.suffix.lower() in io.SUFFIXES:
        found = io.open_vectors(path, column=column)
        n, dim = found.shape
        return {"file": str(path), "rows": n, "dim": dim, "dtype": str(found.dtype)}
    index = files.load(path, device="cpu", mmap=True)
    inner = index.inner if isinstance(index, refined.Index) else index
    result: dict[str, Any] = {
        "file": str(path),
        "bytes": path.stat().st_size,
        "kind": kinds.of_index(index),
        "rows": len(index),
        "dim": index.dim,
        "metric": index.metric,
    }
    for name in ("n_lists", "pq_dim", "pq_bits", "pq_len", "by_residual", "imbalance"):
        if hasattr(inner, name):
            result[name] = getattr(inner, name)
    return result


def convert(source: Path, out: Path, *, column: str | None, header_bits: int) -> dict[str, Any]:
    """Vectors from one format to another; an index to FAISS' file and from it."""
    where = "gpuann convert"
    suffixes = source.suffix.lower(), out.suffix.lower()
    if suffixes[0] in io.SUFFIXES:
        n, dim = io.write_vectors(
            out, io.open_vectors(source, column=column), header_bits=header_bits
        )
        return {"file": str(out), "rows": n, "dim": dim}
    faiss = import_faiss(where)
    if ".faiss" in suffixes:
        files.check_target(where, out)
    if suffixes[0] == ".faiss":
        if not source.exists():
            raise bad_value(where, str(source), "be there", "no such file")
        try:
            read = faiss.read_index(str(source))
        except RuntimeError as error:
            got = f"a damaged one: {str(error).splitlines()[0]}"
            raise bad_value(where, str(source), "be a whole file of FAISS", got) from None
        index = from_faiss(read, device="cpu")
        files.save(out, index)
        return {"file": str(out), "index": repr(index)}
    if suffixes[1] != ".faiss":
        rule = f"end with .faiss, or one of {' '.join(io.SUFFIXES)}"
        raise bad_value(where, "one of the files", rule, f"{source.name} and {out.name}")
    hidden = out.with_name(f".{out.name}.part")
    try:
        faiss.write_index(to_faiss(files.load(source, device="cpu")), str(hidden))
        hidden.replace(out)
    finally:
        hidden.unlink(missing_ok=True)
    return {"file": str(out), "bytes": out.stat().st_size}


def plan(*, curve: Path | None, **given: Any) -> planning.Plan:
    """An index on paper; the curve is what `gpuann eval --json` said."""
    points = None
    if curve is not None:
        try:
            found = json.loads(curve.read_text())["points"]
            points = [(int(one["n_probes"]), float(one["recall"])) for one in found]
        except (ValueError, KeyError, TypeError) as error:
            rule, got = "be what `gpuann eval --json` says", f"{type(error).__name__}: {error}"
            raise bad_value("gpuann plan", f"--curve {curve}", rule, got) from None
    return planning.plan(curve=points, **given)
