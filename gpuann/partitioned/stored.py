"""An index whose rows stay on disk or in host memory, and blocks of it on a device."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gpuann import metric as metrics
from gpuann.arrays import HostArray
from gpuann.backends import Backend
from gpuann.backends.seam import Array, FlatPayload, Lists, Payload
from gpuann.codecs import payloads
from gpuann.distributed import blocks
from gpuann.distributed.folder import given_folder, open_files
from gpuann.distributed.manifest import Manifest, reading
from gpuann.distributed.reshard import check_same, given_shards
from gpuann.distributed.shard import Shard, distinct
from gpuann.distributed.shard_file import ROWS, models_in
from gpuann.engine import building, ivf
from gpuann.errors import bad_type, bad_value
from gpuann.metric import Metric
from gpuann.trained import TrainedModels

_ALIGNED = 64  # bytes: where arrays begin in a block


class Stored(NamedTuple):
    """What is kept in memory of an index whose rows are not."""

    metric: Metric
    dim: int
    models: TrainedModels | None
    """None for brute force: its shards are lists, each with an origin of its own."""
    sources: tuple[blocks.Source, ...]
    sizes: HostArray
    """(n_lists,) int64, rows of each list in all sources."""
    radius: HostArray
    """(n_lists,) float32, see `Lists`."""
    shifts: tuple[HostArray | None, ...]
    """(dim,) float32 or None, of each list for brute force, else of all."""
    next_id: int
    """More than every id that a row of it ever had."""

    @property
    def row_bytes(self) -> int:
        """Of a row in all arrays."""
        return blocks.row_bytes(self.sources[0], ROWS)


class Block(NamedTuple):
    """Some lists on the device, and after them one that is empty."""

    core: ivf.Core
    lists: list[int]


def in_files(where: str, folder: Any, *, verify: bool) -> Stored:
    """The index of a folder."""
    place = given_folder(where, folder)
    return reading(where, place, lambda manifest: _in_files(where, place, manifest, verify))


def _in_files(where: str, place: Path, manifest: Manifest, verify: bool) -> Stored:
    if manifest.scope != "shared":
        rule, way_out = 'be of scope "shared"', "load it with shards.load"
        raise bad_value(where, str(place), rule, f'"{manifest.scope}"', way_out)
    files = open_files(where, place, manifest, verify=verify)
    how = metrics.check(where, manifest.shards[0].metric)
    sources = [blocks.FileSource(file) for file in files]
    radius = [file.read("radius") for file in files]
    shifts = [file.read("shift") if "shift" in file.entries else None for file in files]
    models = models_in(files[0])
    next_id = max(manifest.next_id, *(file.about.get("next_id", 0) for file in files))
    return _stored(where, how, manifest.shards[0].dim, models, sources, radius, shifts, next_id)


def in_memory(where: str, shards: Sequence[Shard]) -> Stored:
    """An index of shards on the host."""
    shards = given_shards(where, shards)
    check_same(where, shards)
    distinct(where, np.concatenate([shard.ids for shard in shards]))
    first, sources = shards[0], [blocks.ShardSource(shard) for shard in shards]
    radius = [shard.lists.radius for shard in shards]
    shifts = [p.shift if isinstance(p, FlatPayload) else None for p in (s.payload for s in shards)]
    next_id = max(shard.next_id for shard in shards)
    shape = first.metric, first.dim, first.models
    return _stored(where, *shape, sources, radius, shifts, next_id)


def _stored(
    where: str,
    how: Metric,
    dim: int,
    models: TrainedModels | None,
    sources: Sequence[blocks.Source],
    radius: list[HostArray],
    shifts: list[HostArray | None],
    next_id: int,
) -> Stored:
    for name in ROWS:
        for number, source in enumerate(sources):
            if source.row(name) != sources[0].row(name):
                rule = f"have {name} of {sources[0].row(name)} as the first"
                raise bad_type(where, f"shard {number}", rule, source.row(name))
    if models is None:
        alone = [blocks.OnlyList(one, at, len(sources)) for at, one in enumerate(sources)]
        sizes = np.array([one.offsets[-1] for one in sources])
        most, own = np.concatenate(radius), tuple(shifts)
        return Stored(how, dim, None, tuple(alone), sizes, most, own, next_id)
    sizes = np.sum([np.diff(one.offsets) for one in sources], axis=0)
    most, own = np.max(radius, axis=0), (models.shift,)
    return Stored(how, dim, models, tuple(sources), sizes, most, own, next_id)


def head(backend: Backend, stored: Stored) -> ivf.Core | None:
    """An index without rows, to find lists with; None for brute force."""
    if stored.models is None:
        return None
    with backend.active():
        centers = backend.put(stored.models.centers)
        axes = payloads.axes_of(backend, stored.models)
        coarse = building.make_coarse(backend, centers, axes, stored.metric)
        codec = payloads.codec_of(backend, stored.models, centers, axes)
        payload = codec.allocate(backend, 0, stored.dim, np.float32)
        n_lists = stored.models.n_lists
        no_rows = Lists(
            backend.put(np.zeros(n_lists + 1, np.int64)),
            backend.put(np.zeros(0, np.int64)),
            backend.put(np.zeros(0, np.float32)),
            backend.put(np.zeros(n_lists, np.float32)),
        )
        backend.synchronize()
        return ivf.Core(backend, stored.metric, stored.dim, coarse, payload, no_rows)


class Loader:
    """Reads blocks into staging memory and puts them on the device, on a stream of its own."""

    def __init__(self, stored: Stored, centers: ivf.Core | None, backend: Backend, n_bytes: int):
        self._stored, self._centers, self._backend = stored, centers, backend
        self._most_rows = max(1, n_bytes // stored.row_bytes)
        room = self._most_rows * stored.row_bytes + _ALIGNED * len(ROWS)
        # on a device a block leaves its staging memory before the next one is read
        n_sets = 2 if backend.cuda is None else 1
        with backend.active():
            self._staging = [backend.staging(room) for _ in range(n_sets)]
            self._stream = backend.stream()
        self._turn = 0

    def cut(self, wanted: list[int]) -> list[list[blocks.Piece]]:
        """The wanted lists in blocks that fit; brute force: each with one origin."""
        sizes, alone = self._stored.sizes, self._stored.models is None
        groups = [[l] for l in wanted] if alone else [wanted]
        return [b for group in groups for b in blocks.cut(sizes, group, self._most_rows)]

    def load(self, pieces: list[blocks.Piece]) -> Block:
        """A block on the device; on the CPU valid until the next but one is loaded."""
        backend, stored = self._backend, self._stored
        lists = [piece.list for piece in pieces]
        sizes = [piece.stop - piece.start for piece in pieces]
        with backend.active(), self._stream:
            rows = self._rows(pieces, sum(sizes))
            offsets = np.cumsum([0, *sizes, 0])
            radius = np.append(stored.radius[lists], np.float32(0))
            names, norms = rows["ids"], rows["norms"]
            held = Lists(backend.put(offsets), names, norms, backend.put(radius))
            core = self._core(lists, rows, held)
            backend.synchronize()  # the search is on another stream
        return Block(core, lists)

    def _rows(self, pieces: list[blocks.Piece], n_rows: int) -> dict[str, Array]:
        """Every array that has an entry a row, on the device."""
        staging, at = self._staging[self._turn], 0
        self._turn = (self._turn + 1) % len(self._staging)
        made = {}
        for name in ROWS:
            entry = self._stored.sources[0].row(name)
            if entry is None:
                continue
            dtype, shape = entry
            n_bytes = n_rows * dtype.itemsize * int(np.prod(shape))
            view = staging[at : at + n_bytes].view(dtype).reshape(n_rows, *shape)
            blocks.read_block(self._stored.sources, name, pieces, view)
            made[name] = self._backend.upload(view)
            at += -(-n_bytes // _ALIGNED) * _ALIGNED
        return made

    def _core(self, lists: list[int], rows: dict[str, Array], held: Lists) -> ivf.Core:
        """The block as an index of its own, with those of the centres that it has rows of."""
        backend, stored = self._backend, self._stored
        if self._centers is None:
            shift = stored.shifts[lists[0]]
            origin = None if shift is None else backend.put(shift)
            payload: Payload = FlatPayload(rows["vectors"], rows.get("scale"), origin)
            none: Any = None  # brute force is scanned without centres
            return ivf.Core(backend, stored.metric, stored.dim, none, payload, held)
        whole = self._centers.coarse
        some = backend.put(np.array([*lists, 0]))  # the empty list has any centre
        centers, norms = whole.centers[some], whole.lists.norms[some]
        coarse = whole._replace(centers=centers, lists=whole.lists._replace(norms=norms))
        payload = payloads.with_rows(self._centers.payload, rows, centers)
        return ivf.Core(backend, stored.metric, stored.dim, coarse, payload, held)
