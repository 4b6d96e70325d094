"""Shards put together and taken apart: rows move, ids stay.

Shards of one model hold the very arrays of the single index, cut by rows: `merge` of all of them is
the single index, and any number of them answers as it does.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from gpuann import arrays, backends, validate
from gpuann.arrays import HostArray
from gpuann.backends.seam import Lists, Payload
from gpuann.codecs import payloads, vectors
from gpuann.distributed.shard import Shard, distinct, shard_of
from gpuann.engine.plan import cut_evenly
from gpuann.errors import bad_type, bad_value
from gpuann.indexes import brute_force
from gpuann.metric import Metric
from gpuann.trained import TrainedModels

_ROWS_AT_ONCE = 1 << 16


def merge(shards: Iterable[Shard]) -> Shard:
    """One shard with the rows of all, ordered by (list, id).

    Refused for shards of other models: their codes mean other rows. Those can only be searched side
    by side, `shards.from_shards(..., scope="independent")`. Ids must be distinct.

    Notes
    -----
    Memory the result, and once more its largest array.
    """
    where = "distributed.merge"
    shards = given_shards(where, shards)
    first = shards[0]
    check_same(where, shards)
    ids = np.concatenate([shard.ids for shard in shards])
    distinct(where, ids)
    n_dropped, next_id = sum(s.n_dropped for s in shards), max(s.next_id for s in shards)
    if first.models is None:
        return _merged_rows(shards, ids, n_dropped, next_id)
    labels = np.concatenate([labels_of(shard) for shard in shards])
    order = np.lexsort((ids, labels))
    norms = np.concatenate([shard.lists.norms for shard in shards])[order]
    radius = np.max([shard.lists.radius for shard in shards], axis=0)
    offsets = np.sum([shard.lists.offsets for shard in shards], axis=0)
    lists = Lists(offsets, ids[order], norms, radius)
    parts = [payloads.rows_of(shard.payload) for shard in shards]
    moved = {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]}
    payload = payloads.with_rows(first.payload, moved)
    return Shard(first.metric, first.dim, first.models, payload, lists, n_dropped, next_id)


def _merged_rows(shards: Sequence[Shard], ids: HostArray, n_dropped: int, next_id: int) -> Shard:
    """Brute force: built anew, for the norms of parts are about origins of their own."""
    order = np.argsort(ids, kind="stable")
    rows = np.concatenate([shard.payload[0] for shard in shards])[order]
    made = rows_anew("distributed.merge", shards[0].metric, rows, ids[order])
    return dataclasses.replace(made, n_dropped=n_dropped, next_id=next_id)


def rows_anew(where: str, how: Metric, rows: HostArray, ids: HostArray) -> Shard:
    """Brute force of rows (n, dim), about an origin of their own."""
    data = arrays.Rows(where, "shards", rows)
    return shard_of(None, brute_force.build_part(backends.choose(where, "cpu"), data, how, ids))


def select(shard: Shard, keep: HostArray) -> Shard:
    """The rows of a shard, in storage order, where keep (n_rows,) bool says so."""
    if shard.models is None:
        offsets = np.array([0, int(keep.sum())])
    else:
        sizes = np.bincount(labels_of(shard)[keep], minlength=shard.models.n_lists)
        offsets = np.concatenate([[0], np.cumsum(sizes)])
    lists = shard.lists._replace(
        offsets=offsets, ids=shard.ids[keep], norms=shard.lists.norms[keep]
    )
    moved = {name: rows[keep] for name, rows in payloads.rows_of(shard.payload).items()}
    payload = payloads.with_rows(shard.payload, moved)
    return Shard(shard.metric, shard.dim, shard.models, payload, lists, next_id=shard.next_id)


def tightened(shard: Shard) -> Shard:
    """The shard with the radius of every list that its rows have, not of those that it once had."""
    if shard.models is None:
        return merge([shard])
    parts = shard.metric, shard.dim, shard.models, shard.payload
    radius = measured(*parts, shard.lists.offsets, shard.ids).lists.radius
    return dataclasses.replace(shard, lists=shard.lists._replace(radius=radius))


def measured(
    how: Metric,
    dim: int,
    models: TrainedModels,
    payload: Payload,
    offsets: HostArray,
    ids: HostArray,
) -> Shard:
    """A shard of stored rows, whose norms and reach are looked up."""
    cpu, n_lists = backends.choose("distributed", "cpu"), models.n_lists
    norms, radius = np.empty(len(ids), np.float32), np.zeros(n_lists, np.float32)
    labels = np.repeat(np.arange(n_lists), np.diff(offsets))
    of_center = vectors.lengths(np, models.centers)
    for at in range(0, len(ids), _ROWS_AT_ONCE):
        rows = np.arange(at, min(at + _ROWS_AT_ONCE, len(ids)))
        some = labels[rows]
        norms[rows], reach = payloads.measure(cpu, how, payload, rows, some, of_center)
        np.maximum.at(radius, some, reach)
    return Shard(how, dim, models, payload, Lists(offsets, ids, norms, radius))


def split(shard: Shard, n_shards: int) -> list[Shard]:
    """The rows of shard in n_shards about equal runs of ids: `merge` puts them together again."""
    return rebalance([shard], n_shards)


def rebalance(shards: Iterable[Shard], n_shards: int) -> list[Shard]:
    """The rows of all shards in n_shards about equal runs of ids; ids stay."""
    where = "distributed.rebalance"
    shards = given_shards(where, shards)
    check_same(where, shards)
    cuts = id_cuts(where, [shard.ids for shard in shards], n_shards)
    return list(runs_of_ids(shards, cuts))


def runs_of_ids(shards: Sequence[Shard], cuts: Sequence[tuple[int, int]]) -> Iterator[Shard]:
    """A shard for each run of ids; the first one tells how many rows were dropped in all."""
    n_dropped = sum(shard.n_dropped for shard in shards)
    for low, high in cuts:
        yield dataclasses.replace(run_of_ids(shards, low, high), n_dropped=n_dropped)
        n_dropped = 0


def id_cuts(where: str, ids: Sequence[HostArray], n_shards: int) -> list[tuple[int, int]]:
    """[low, high] ids of n_shards about equal runs."""
    ordered = np.sort(np.concatenate(list(ids)))
    n_shards = validate.integer(where, "n_shards", n_shards, 1)
    if n_shards > len(ordered):
        raise bad_value(where, "n_shards", f"be at most the {len(ordered)} rows", n_shards)
    cuts = cut_evenly(len(ordered), n_shards)
    return [(int(ordered[cut.start]), int(ordered[cut.stop - 1])) for cut in cuts]


def run_of_ids(shards: Sequence[Shard], low: int, high: int) -> Shard:
    """The rows of all shards with ids from low to high, as one shard."""
    some = []
    for shard in shards:
        keep = (shard.ids >= low) & (shard.ids <= high)
        if keep.any():
            some.append(select(shard, keep))
    return merge(some)


def check_same(where: str, shards: Sequence[Shard]) -> None:
    """Raise unless all shards have the models and the kind of rows of the first."""
    want = shards[0].fingerprint
    for number, shard in enumerate(shards):
        if shard.fingerprint != want:
            rule = f"have the models {want} of the first"
            way_out = 'build it with those, or search side by side with scope="independent"'
            raise bad_value(where, f"shard {number}", rule, shard.fingerprint, way_out)
        dtype = shards[0].payload[0].dtype
        if shard.payload[0].dtype != dtype:
            rule = f"have rows of {dtype} as the first"
            raise bad_type(where, f"shard {number}", rule, shard.payload[0].dtype)


def given_shards(where: str, shards: Iterable[Shard]) -> list[Shard]:
    """Shards as a user gives them, one at least, in a list."""
    if isinstance(shards, Shard):
        raise bad_type(where, "shards", "be several, in a list", "one distributed.Shard")
    some = list(shards)
    for number, shard in enumerate(some):
        if not isinstance(shard, Shard):
            got = type(shard).__name__
            raise bad_type(where, f"shard {number}", "be a distributed.Shard", got)
    if not some:
        raise bad_value(where, "shards", "be at least one", 0)
    return some


def labels_of(shard: Shard) -> HostArray:
    """The list of each stored row (n_rows,) int64."""
    sizes = np.diff(shard.lists.offsets)
    return np.repeat(np.arange(len(sizes)), sizes)
