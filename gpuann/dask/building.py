"""Builds on a cluster: rows are drawn, coded and written where they are, and only sums travel."""

import itertools
import secrets
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client, Future

from gpuann import kinds, validate
from gpuann import metric as metrics
from gpuann._nvtx import annotate
from gpuann.arrays import HostArray
from gpuann.dask import clients, tasks
from gpuann.dask.engine import Engine, Progress
from gpuann.dask.inputs import Part, parts_of
from gpuann.dask.tasks import Given
from gpuann.distributed import manifest as manifests
from gpuann.distributed.folder import change, given_folder, no_index_yet
from gpuann.distributed.manifest import Manifest, ShardEntry
from gpuann.distributed.sampling import SamplePlan, plan_sample, sample_needs
from gpuann.distributed.shard import LARGEST_ID, names_of
from gpuann.distributed.train import train_distributed
from gpuann.errors import bad_type, bad_value
from gpuann.params import IvfIndexParams
from gpuann.trained import TrainedModels
from gpuann.training import CodeShape, residual_step

_SHARD_BYTES = 1 << 29  # of the rows of a shard
_GROUP_ROWS = 1 << 15  # training rows that are worth a task of their own
_TRAVELS = 4e9  # multiply-adds of a round of k-means that are worth sending it to all workers
_SELECT = 32  # multiply-adds that take about as long as comparing a score does
_WRITE_FIRST = 10  # priority: coded parts are written before others are coded


@annotate("dask.build")
def build(
    index_params: IvfIndexParams | str,
    dataset: Any,
    folder: Any,
    *,
    client: Client | None = None,
    n_shards: int | None = None,
    ids: Any = 0,
    column: str | None = None,
    non_finite: str = "raise",
    replace: bool = False,
    device: str | None = None,
    retries: int = 2,
    progress: Progress = False,
) -> Manifest:
    """Train on a sample of all parts, store the rows where they are, write a folder of shards.

    Parameters
    ----------
    index_params : IndexParams of ivf_flat, ivf_pq or ivf_sq, or a metric's name for brute force
    dataset : dask.array (n_rows, dim); paths of files, as `io.open_vectors` reads them; Futures of
        arrays; or what other builds take, which is sent to the workers
        Of float32, float16, int8 or uint8. A block, a piece of a file, a Future is a part. A block
        is computed twice, to draw from it and to store it, and never held between.
    folder : path that every worker and this process see, made if it is not there
    client : distributed.Client, optional; default: the one that is there
    n_shards : int, optional
        Files that are written, at most; default: as many as workers, or 512 MiB of rows in each.
        Neighbouring parts come into one file, answers do not depend on it.
    ids : array (n_rows,) of integers, or int, default 0
        The rows' names, 0 or more, distinct; or the first of running ones.
    column : str, optional, of files: as in `io.open_vectors`
    non_finite : {"raise", "drop"}, default "raise"; as in `distributed.build_part`
    replace : bool, default False; whether an index that is there already may be replaced
    device : {"cpu", "cuda", "cuda:N"}, optional; default: CUDA on the workers that have it
    retries : int, default 2; how often a task whose file cannot be read or written is done again
    progress : bool, or callable(stage, n_done, n), default False
        Bars, if standard error is a terminal; or what is called, from the thread that builds, with
        n None where nobody knows.

    Returns
    -------
    Manifest : `dask.load` searches the folder on a cluster, `shards.load` in one process,
        `streamed.open` where it is.

    Raises
    ------
    ValueError and the like of a part: the message names the part, and a row by its number of all.
    BackendError, if a worker has another version, not the device, or cannot write to the folder; if
    a task kills its workers; if there is no worker for a minute.

    Notes
    -----
    Cost   files are read three times: checked, sampled, stored. A round of k-means sends out the
           centres and brings back as much, whatever the rows; small ones are done by one worker.
    Memory of a worker: for each of its shards, what is stored, twice, and a part. This process:
           the models, and 300 bytes a part; a `dataset` of its own and `ids` beside it.
    Order  same parts, same seed: the same models and answers on any number of workers.
    """
    where = "dask.build"
    there = clients.given_client(where, client)
    clients.outside_the_loop(where, there)
    validate.one_of(where, "non_finite", non_finite, ("raise", "drop"))
    retries = validate.integer(where, "retries", retries, 0)
    if n_shards is not None:
        n_shards = validate.integer(where, "n_shards", n_shards, 1)
    if not isinstance(progress, bool) and not callable(progress):
        raise bad_type(where, "progress", "be a bool or callable", type(progress).__name__)
    if isinstance(index_params, str):
        metric: str = metrics.check(where, index_params)
    else:
        kinds.check_build(where, index_params)
        metric = index_params.metric
    place = given_folder(where, folder).absolute()
    if manifests.exists(place) and not replace:
        raise no_index_yet(where, place)
    n_workers = _preflight(where, there, place, device)

    engine, token = Engine(where, there, retries, progress), secrets.token_hex(12)
    given, entries = Given(metric, non_finite, device), []
    try:
        parts = parts_of(engine, dataset, column)
        n_rows = sum(part.n_rows for part in parts)
        if np.ndim(ids) == 0:  # no array of them all here
            names: HostArray | int = validate.integer(where, "ids", ids, 0, LARGEST_ID - n_rows + 1)
        else:
            names = names_of(where, "ids", ids, n_rows)
        models: TrainedModels | str = metric
        if not isinstance(index_params, str):
            models = _train(engine, index_params, parts, given)
        groups = _groups(parts, n_shards, n_workers)
        entries = _store(engine, models, parts, groups, names, given, place, token)
        return change(where, place, entries, "shared", of_all=replace, fresh=not replace)
    finally:
        engine.finish()
        _clean(place, token)


def _preflight(where: str, client: Client, place: Path, device: str | None) -> int:
    """Look at every worker before it is given any work -> how many there are."""
    place.mkdir(parents=True, exist_ok=True)
    mark = place / f".shard-{secrets.token_hex(16)}.safetensors.seen"  # `clean_folder` knows these
    try:
        mark.touch()
        told = client.run(tasks.about, device, mark, on_error="return")
    finally:
        mark.unlink(missing_ok=True)
    return len(clients.sound_workers(where, told, place))


def _train(
    engine: Engine, params: IvfIndexParams, parts: list[Part], given: Given
) -> TrainedModels:
    """Models of rows of all parts: by one worker, or by all where that is much work. Which of the
    two depends on parameters and data, so that the models do not depend on the workers.
    """
    where, n_rows, dim = engine.where, sum(part.n_rows for part in parts), parts[0].dim
    if params.n_lists > n_rows:
        rule = f"be at most the {n_rows} rows of dataset"
        raise bad_value(where, "n_lists", rule, params.n_lists)
    sizes = [part.n_rows for part in parts]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of samples that are large for one place
        plan = plan_sample(sizes, sample_needs(params, n_rows, dim), dim, seed=params.seed)
    drawn = _draw(engine, parts, plan, given)
    samples = [
        engine.start(tasks.join, [drawn[i] for i in group]) if len(group) > 1 else drawn[group[0]]
        for group in _neighbours(plan.rows, max(params.n_lists, _GROUP_ROWS))
    ]
    del drawn
    if params.balanced or _round_work(params, plan.n_rows, dim) < _TRAVELS:
        trained = [engine.start(tasks.train, samples, params, given.device)]
        models: TrainedModels = engine.ask("training", trained)[0]
        return models
    return train_distributed(
        params,
        samples,
        run=engine.run,
        fetch=engine.fetch,
        reduce=engine.reduce,
        device=given.device,
    )


def _round_work(params: IvfIndexParams, n_rows: int, dim: int) -> int:
    """Multiply-adds of a round of k-means over n_rows, of the lists and of the codebooks."""
    work = n_rows * params.n_lists * (dim + _SELECT)
    shape = kinds.code_shape("dask.build", params, dim)
    if isinstance(shape, CodeShape):
        coded = -(-n_rows // residual_step(shape, n_rows))
        work += coded * shape.pq_dim * shape.pq_book_size * (shape.pq_len + _SELECT)
    return work


def _draw(engine: Engine, parts: list[Part], plan: SamplePlan, given: Given) -> list[Future]:
    firsts = [0, *itertools.accumulate(part.n_rows for part in parts)]
    asked = []
    for i, part in enumerate(parts):
        more = firsts[i], i, plan.rows[i], plan.seed, given
        asked.append(engine.start(tasks.draw, part.handle, *more, name=part.name))
    engine.wait(asked, "drawing the sample")
    return asked


def _neighbours(rows: tuple[int, ...], least: int) -> list[list[int]]:
    """Numbers of parts, cut so that each run has as many rows as `least`, or the last ones."""
    groups: list[list[int]] = []
    held = least
    for i, n in enumerate(rows):
        if held >= least:
            groups.append([])
            held = 0
        groups[-1].append(i)
        held += n
    return groups


def _groups(parts: list[Part], n_shards: int | None, n_workers: int) -> list[list[int]]:
    """Numbers of the parts of each shard: neighbours, about as many rows in each."""
    total = sum(part.n_rows for part in parts)
    if n_shards is None:
        n_bytes = total * parts[0].dim * np.dtype(parts[0].dtype).itemsize
        n_shards = max(n_workers, -(-n_bytes // _SHARD_BYTES))
    groups: dict[int, list[int]] = {}
    before = 0
    for i, part in enumerate(parts):
        middle = before + part.n_rows // 2
        groups.setdefault(middle * n_shards // total, []).append(i)
        before += part.n_rows
    return list(groups.values())


def _store(
    engine: Engine,
    models: TrainedModels | str,
    parts: list[Part],
    groups: list[list[int]],
    names: HostArray | int,
    given: Given,
    place: Path,
    token: str,
) -> list[ShardEntry]:
    """Code all parts and write the shards -> their entries."""
    told = engine.send(models)
    firsts = [0, *itertools.accumulate(part.n_rows for part in parts)]
    written: list[Future] = []
    for number, group in enumerate(groups):
        coded = []
        for i in group:
            first, last = firsts[i : i + 2]
            own = names + first if isinstance(names, int) else names[first:last]
            some = parts[i].handle, told, own, first, given
            coded.append(engine.start(tasks.encode, *some, name=parts[i].name))
        file = f"shard-{token}{number:08x}.safetensors"
        written.append(engine.start(tasks.write, coded, place, file, first=_WRITE_FIRST))
        del coded  # or the cluster would keep what has been written
    found: list[ShardEntry | None] = engine.ask("storing", written)
    entries = [entry for entry in found if entry is not None]
    if not entries:
        raise bad_value(engine.where, "dataset", "have a row that is finite", "none")
    return entries


def _clean(place: Path, token: str) -> None:
    """Remove the files of a build that did not come into the index."""
    listed: set[str] = set()
    if manifests.exists(place):
        listed = {entry.file for entry in manifests.read_manifest("dask.build", place).shards}
    for path in place.glob(f"*shard-{token}*"):
        if path.name not in listed:
            path.unlink(missing_ok=True)
