"""Files of shards read in another number of parts: each is read alone, by runs of rows.

A part has about equally many rows of every list, so every device has its share of each query's
work, whatever ids the rows have. Where they lie is known from the sizes of the lists: no other row
is read to find out.
"""

from collections.abc import Sequence

import numpy as np

from gpuann.arrays import HostArray
from gpuann.backends.seam import Lists
from gpuann.codecs import payloads
from gpuann.distributed import blocks, sound
from gpuann.distributed.reshard import check_same, rows_anew
from gpuann.distributed.shard import Shard
from gpuann.distributed.shard_file import ROWS, damaged, read_head
from gpuann.errors import bad_value
from gpuann.storage import StoredFile


class FileParts:
    """The index of some files, whose models are the same, in n_parts parts: none is read yet."""

    def __init__(self, where: str, files: Sequence[StoredFile], n_parts: int) -> None:
        heads = [read_head(where, file) for file in files]
        check_same(where, heads)
        self._where, self._files, self._n_parts = where, files, n_parts
        self.first = heads[0]
        """A shard without rows: metric, dim, models."""
        self.next_id = max(head.next_id for head in heads)
        self._sources = [
            blocks.FileSource(file, head.lists) for file, head in zip(files, heads, strict=True)
        ]
        self._radius = [head.lists.radius for head in heads]
        self._payloads = [head.payload for head in heads]
        self._sizes = np.sum([np.diff(source.offsets) for source in self._sources], axis=0)
        if n_parts > self._sizes.sum():
            raise bad_value(where, "devices", f"be at most the {self._sizes.sum()} rows", n_parts)

    def read(self, number: int) -> Shard:
        """A part, which is all that is read and held; checksums are not compared."""
        start, stop = (dealt(self._sizes, self._n_parts, n) for n in (number, number + 1))
        lists = zip(range(len(start)), start.tolist(), stop.tolist(), strict=True)
        runs = blocks.runs(self._sources, [blocks.Piece(*piece) for piece in lists])
        n_rows, rows = int((stop - start).sum()), {}
        for name in ROWS:
            entry = self._sources[0].row(name)
            if entry is not None:
                rows[name] = np.empty((n_rows, *entry[1]), entry[0])
                blocks.read_runs(self._sources, name, runs, rows[name])
        used = sorted({run.source for run in runs})
        if wrong := sound.ids(rows["ids"]):
            raise damaged(self._where, self._files[used[0]].path, wrong)
        return self._shard(np.cumsum([0, *(stop - start)]), rows, used)

    def _shard(self, offsets: HostArray, rows: dict[str, HostArray], used: list[int]) -> Shard:
        first = self.first
        if first.models is None and len(used) > 1:  # their norms are about origins of their own
            return rows_anew(self._where, first.metric, rows["vectors"], rows["ids"])
        payload = payloads.with_rows(self._payloads[used[0]], rows)
        radius = np.max([self._radius[source] for source in used], axis=0)
        lists = Lists(offsets, rows["ids"], rows["norms"], radius)
        return Shard(first.metric, first.dim, first.models, payload, lists, next_id=self.next_id)


def dealt(sizes: HostArray, n_parts: int, part: int) -> HostArray:
    """How many rows of each list, of sizes (n_lists,), the parts before `part` have (n_lists,):
    what a list has left over goes on where the list before stopped, so no part has two more.
    """
    each, left = sizes // n_parts, sizes % n_parts
    turn = (np.cumsum(left) - left) % n_parts  # the part that gets the first one left over
    end = turn + left
    before = np.clip(np.minimum(part, end) - turn, 0, None)
    before += np.clip(np.minimum(part, end - n_parts), 0, None)  # round to part 0 again
    found: HostArray = each * part + before
    return found
