"""An index that does not fit: its lists stay on disk or in host memory and pass through the device.

    index = streamed.open(folder)                      what shards.save or streamed.build wrote
    distances, ids = streamed.search(search_params, index, queries, k)

A batch of queries is turned round, list by list, so each list that it probes is read once a batch,
one block ahead of the search: the larger the batch, the more queries share a read. The answer is
that of the index in memory, bit for bit.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gpuann import backends, kinds, validate
from gpuann._nvtx import annotate
from gpuann.arrays import HostArray
from gpuann.backends import Backend
from gpuann.backends.seam import Array
from gpuann.distributed import blocks
from gpuann.engine import ivf, survivors
from gpuann.index import SearchShape, check_results, given_filter
from gpuann.index import search as run_search
from gpuann.params import WORKSPACE_LIMIT, IvfSearchParams
from gpuann.partitioned.stored import Block, Loader, Stored, head, in_files, in_memory
from gpuann.partitioned.streamed_build import build

__all__ = ["StreamedIndex", "build", "open", "search"]

BLOCK_BYTES = 1 << 28
LEAST_BLOCK = 1 << 12
SPARE_LOADERS = 2


@dataclass(frozen=True, eq=False, repr=False)
class StreamedIndex:
    """Centres on the device, rows where they were: immutable."""

    backend: Backend
    stored: Stored
    centers: ivf.Core | None
    """An index without rows, to find lists with; None for brute force."""
    block_bytes: int
    _spare: list[Loader] = field(default_factory=list)
    """Loaders that no search has now: their memory is used again."""

    def __len__(self) -> int:
        return int(self.stored.sizes.sum())

    @property
    def next_id(self) -> int:
        """More than every id that a row of it ever had."""
        return self.stored.next_id

    def __repr__(self) -> str:
        of = self.stored
        rows = f"{len(self):,} rows, dim {of.dim}, {of.metric}, {len(of.sources)} shards"
        return f"streamed.StreamedIndex({kinds.name_of(of.models)}, {rows}, {self.backend.device})"

    @contextmanager
    def loader(self) -> Iterator[Loader]:
        """One for a search of its own."""
        try:
            own = self._spare.pop()
        except IndexError:
            own = Loader(self.stored, self.centers, self.backend, self.block_bytes)
        yield own
        if len(self._spare) < SPARE_LOADERS:
            self._spare.append(own)


@annotate("streamed.open")
def open(
    source: Any,
    *,
    device: str | None = None,
    block_bytes: int = BLOCK_BYTES,
    verify: bool = True,
) -> StreamedIndex:
    """Get ready to search an index that stays where it is.

    Parameters
    ----------
    source : path of a folder that shards.save, shards.extend or streamed.build wrote; or a sequence
        of distributed.Shard in host memory
    device : {"cpu", "cuda", "cuda:N"}, optional; default: CUDA if there is one
    block_bytes : int, default 268435456
        Rows are read in blocks of so many bytes, two of them at a time.
    verify : bool, default True; compare the checksums of all files first, which reads them once

    Notes
    -----
    Memory the centres and codebooks, 16 bytes a list and shard; a search adds two blocks (CUDA: on
           the device, and one pinned on the host) to its result and workspace_limit, which the
           index keeps for the next search.
    The shards must be of one model: scope "shared".
    """
    where = "streamed.open"
    block_bytes = validate.integer(where, "block_bytes", block_bytes, LEAST_BLOCK)
    backend = backends.choose(where, device)
    if isinstance(source, str | Path):
        stored = in_files(where, source, verify=verify)
    else:
        stored = in_memory(where, source)
    return StreamedIndex(backend, stored, head(backend, stored), block_bytes)


@annotate("streamed.search")
def search(
    search_params: IvfSearchParams | None,
    index: StreamedIndex,
    queries: Any,
    k: int,
    neighbors: Any = None,
    distances: Any = None,
    filter: Any = None,
) -> tuple[Any, Any]:
    """The k nearest rows: the answer of the index in memory.

    Parameters
    ----------
    search_params : SearchParams of the kind of index; None for brute force
    index : StreamedIndex
    queries : array (n_queries, dim), host or device; or chunks of such rows
    k : int
    neighbors : array (n_queries, k) int64, optional, to write the ids into
    distances : array (n_queries, k) float32, optional, to write the distances into; both are
        where the queries are
    filter : ids that may be returned, as in `ivf_flat.search`
        One that keeps so few that all of them are compared makes the search read every list.

    Returns
    -------
    distances (n_queries, k) float32, ids (n_queries, k) int64
        As the searches of the index in memory give them, to the last bit.

    Notes
    -----
    Cost   as in memory, and every probed list read once a batch. A batch is what fits
           workspace_limit: thousands of queries. It waits for the device, block by block.
    Memory see `open`.
    """
    where = "streamed.search"
    validate.instance(where, "index", index, StreamedIndex)
    kinds.check_search(where, search_params, index.stored.models)
    limit = search_params.workspace_limit if search_params else WORKSPACE_LIMIT
    n_lists = len(index.stored.sizes)
    n_probes = min(search_params.n_probes, n_lists) if search_params else n_lists
    backend, of = index.backend, index.stored
    check_results(where, backend, "n_probes", n_probes, of.dim)

    kept = given_filter(where, "filter", filter, queries, index)
    if kept is not None and index.centers is not None:
        width = index.centers.coarse.centers.shape[1]
        if survivors.is_exhaustive(kept, len(index), width, n_lists, n_probes):
            n_probes = n_lists

    def run(x: Array, k: int) -> tuple[Array, Array]:
        words = None if kept is None else kept.on(where, "filter", backend, len(x), len(index))

        def scan(batch: Array, found: int, part: slice) -> tuple[Array, Array]:
            keep = words if words is None or words.ndim == 1 else words[part]
            dists, ids = _scan(index, batch, found, n_probes, limit, keep)
            return ivf.without_direction(of.metric, batch, dists), ids

        total = len(index)
        return ivf.in_batches(backend, of.metric, x, k, total, n_probes, limit, scan)

    shape = SearchShape(backend, of.metric, of.dim, len(index))
    return run_search(where, shape, queries, k, neighbors, distances, run)


class _Pairs(NamedTuple):
    """The (query, probe) pairs of a batch, by list; a pair is q * n_probes + p."""

    n_probes: int
    order: HostArray
    """(n * n_probes,) int64, the pairs by list."""
    offsets: HostArray
    """(n_lists + 1,) int64, first of each list in `order`."""
    to_center: Array
    """(n * n_probes,) float32 on the device."""


def _scan(
    index: StreamedIndex, x: Array, k: int, n_probes: int, limit: int, keep: Array | None
) -> tuple[Array, Array]:
    """One batch x (n, dim) float32 -> scan distances (n, k) float32, ids (n, k) int64."""
    backend, ops, xp = index.backend, index.backend.ops, index.backend.xp
    pairs = _pairs(index, x, n_probes)
    best = xp.full((len(x), k), np.inf, xp.float32), xp.full((len(x), k), -1, xp.int64)
    wanted = np.flatnonzero(np.diff(pairs.offsets)).tolist()
    with index.loader() as loader:
        for block in blocks.ahead(loader.cut(wanted), loader.load):
            rows, probed = _probed(index, block, pairs)
            within = xp.ascontiguousarray(best[0][rows, k - 1])
            words = keep if keep is None or keep.ndim == 1 else keep[rows]
            got = ivf.scan_probed(block.core, x[rows], k, probed, limit, within, words)
            dists, ids = (
                xp.concatenate([old[rows][None], new[None]])
                for old, new in zip(best, got, strict=True)
            )
            best[0][rows], best[1][rows] = ops.merge_topk(dists, ids, k)
            backend.synchronize()  # before the block's memory is another one's
            del block, got
    return best


def _pairs(index: StreamedIndex, x: Array, n_probes: int) -> _Pairs:
    backend, n_lists = index.backend, len(index.stored.sizes)
    if index.centers is None:  # brute force: every query probes every list
        lists = np.tile(np.arange(n_lists), len(x))
        to_center = backend.xp.zeros(lists.size, backend.xp.float32)
    else:
        distances, nearest = ivf.nearest_lists(index.centers, x, n_probes)
        lists, to_center = backend.get(nearest).reshape(-1), distances.reshape(-1)
    order = np.argsort(lists, kind="stable")
    offsets = np.searchsorted(lists[order], np.arange(n_lists + 1))
    return _Pairs(n_probes, order, offsets, to_center)


def _probed(index: StreamedIndex, block: Block, pairs: _Pairs) -> tuple[Array, ivf.Probed]:
    """The queries (n,) int64 that probe lists of a block, and which: those with fewer than others
    probe its empty list too.
    """
    backend, xp = index.backend, index.backend.xp
    parts = [pairs.order[pairs.offsets[l] : pairs.offsets[l + 1]] for l in block.lists]
    local = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    pair = np.concatenate(parts)
    by_query = np.argsort(pair, kind="stable")
    pair, local = pair[by_query], local[by_query]
    rows, first, of, count = np.unique(
        pair // pairs.n_probes, return_index=True, return_inverse=True, return_counts=True
    )
    place = np.arange(len(pair)) - first[of]
    shape = len(rows), int(count.max())
    probes = np.full(shape, len(parts), np.int32)
    probes[of, place] = local
    to_center = xp.zeros(shape, xp.float32)
    to_center[backend.put(of), backend.put(place)] = pairs.to_center[backend.put(pair)]
    return backend.put(rows), ivf.Probed(to_center, backend.put(probes))
