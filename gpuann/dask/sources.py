"""The files of a folder as the shards of a served index: put together, or cut by ids."""

import itertools
from pathlib import Path

import numpy as np

from gpuann.dask.holder import Stored
from gpuann.distributed.manifest import Manifest, ShardEntry
from gpuann.distributed.reshard import id_cuts
from gpuann.distributed.shard_file import read_ids
from gpuann.engine.plan import cut_evenly
from gpuann.errors import bad_value


def cut(
    where: str, folder: Path, manifest: Manifest, wanted: int | None, n_workers: int
) -> tuple[list[Stored], list[int]]:
    """The files of a folder as shards, about equally large -> those, and their rows. wanted: how
    many shards; None: as many as workers, or as files that cannot be put together.
    """
    entries, n_shards = manifest.shards, wanted or n_workers
    if manifest.scope == "independent":
        if wanted not in (None, len(entries)):
            rule = f"be {len(entries)}, as the files with a model each"
            raise bad_value(where, "n_shards", rule, wanted)
        n_shards = len(entries)
    if n_shards == len(entries):
        alone = [Stored(str(folder), (entry,), manifest.scope) for entry in entries]
        return alone, [entry.n_rows for entry in entries]
    if n_shards < len(entries):
        groups = grouped([entry.n_rows for entry in entries], n_shards)
        some = [tuple(entries[part]) for part in groups]
        made = [Stored(str(folder), group, "shared") for group in some]
        return made, [sum(entry.n_rows for entry in group) for group in some]
    cuts = id_cuts(where, [read_ids(where, folder / e.file) for e in entries], n_shards)
    sizes = [part.stop - part.start for part in cut_evenly(manifest.n_rows, n_shards)]
    made = [Stored(str(folder), _within(entries, *run), "shared", run) for run in cuts]
    return made, sizes


def grouped(n_rows: list[int], n_groups: int) -> list[slice]:
    """Neighbours put together in n_groups runs, none empty, about equally many rows in each."""
    ends = np.cumsum(n_rows)
    wanted = ends[-1] * np.arange(1, n_groups) / n_groups
    cuts = np.searchsorted(ends, wanted, side="left") + 1
    for i in range(len(cuts)):  # none empty: neither before ...
        cuts[i] = max(cuts[i], i + 1, cuts[i - 1] + 1 if i else 0)
    for i in reversed(range(len(cuts))):  # ... nor behind
        cuts[i] = min(cuts[i], len(n_rows) - (len(cuts) - i))
    bounds = [0, *cuts.tolist(), len(n_rows)]
    return [slice(a, b) for a, b in itertools.pairwise(bounds)]


def _within(entries: tuple[ShardEntry, ...], low: int, high: int) -> tuple[ShardEntry, ...]:
    return tuple(e for e in entries if e.first_id <= high and e.last_id >= low)
