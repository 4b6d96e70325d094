"""Builds on a cluster: from blocks, files, futures, arrays; the same on any number of workers."""

import os
import signal
import time

import dask.array as da
import numpy as np
import on_disk
import pytest
from compare import assert_same_knn
from on_disk import folder
from test_dask_index import client, started

from gpuann import BackendError, dask, distributed, io, ivf_pq, ivf_sq, shards
from gpuann.dask import building, clients, engine, tasks

__all__ = ["client", "folder"]  # fixtures

SIZES = (150, 0, 120, 200, 40, 190)  # of the blocks of on_disk.ROWS
ENDS = np.cumsum(SIZES)


def blocks(rows=on_disk.ROWS):
    return [rows[end - n : end] for n, end in zip(SIZES, ENDS, strict=True)]


def as_dask(rows=on_disk.ROWS):
    return da.concatenate([da.from_array(block, chunks=block.shape) for block in blocks(rows)])


def by_hand(kind, parts, ids=None, n_shards=3):
    """The same build by the engine-free functions, in this process -> an index."""
    params, first, made = on_disk.KINDS[kind][0], 0, []
    n_rows, parts = sum(map(len, parts)), [part for part in parts if len(part)]
    models = params
    if not isinstance(params, str):
        needs = distributed.sample_needs(params, n_rows, 16)
        plan = distributed.plan_sample([len(part) for part in parts], needs, 16, seed=params.seed)
        samples = [
            distributed.sample_part(part, n, metric=params.metric, part=i, seed=plan.seed)
            for i, (part, n) in enumerate(zip(parts, plan.rows, strict=True))
        ]
        models = distributed.train_local(params, samples)
    for part in parts:
        own = first if ids is None else ids[first : first + len(part)]
        made.append(distributed.build_part(models, part, own))
        first += len(part)
    return shards.from_shards(made, ["cpu"])


def searched(kind, folder):
    return on_disk.search(kind, shards.load(folder, ["cpu"]))


@pytest.mark.parametrize("kind", on_disk.KINDS)
def test_a_build_is_that_of_the_functions_by_hand(client, folder, kind):
    made = dask.build(on_disk.KINDS[kind][0], as_dask(), folder, client=client, n_shards=2)
    assert (made.n_rows, len(made.shards)) == (700, 2)
    want = on_disk.search(kind, by_hand(kind, blocks()))
    assert_same_knn(searched(kind, folder), want)
    assert on_disk.files(folder) == sorted(["manifest.json", *(s.file for s in made.shards)])


def test_a_build_is_searched_where_it_was_made(client, folder):
    params = on_disk.KINDS["ivf_pq"]
    dask.build(params[0], as_dask(), folder, client=client)
    index = dask.load(folder, client=client, n_replicas=2)
    found = dask.search(params[1], index, on_disk.QUERIES, 10)
    index.close()
    assert_same_knn(found, on_disk.search("ivf_pq", by_hand("ivf_pq", blocks())))


@pytest.mark.parametrize("n_shards", [1, 3, 50])
def test_the_number_of_shards_changes_no_answer(client, folder, n_shards):
    params = on_disk.KINDS["ivf_flat"][0]
    made = dask.build(params, as_dask(), folder, client=client, n_shards=n_shards)
    assert len(made.shards) == min(n_shards, 5)
    want = on_disk.search("ivf_flat", by_hand("ivf_flat", blocks()))
    assert_same_knn(searched("ivf_flat", folder), want)


def test_the_number_of_workers_changes_no_byte_of_the_models(client, folder):
    params = on_disk.KINDS["ivf_pq"][0]
    with started(1, processes=False) as (_, one):
        alone = dask.build(params, as_dask(), folder, client=one)
        assert dask.build(params, as_dask(), folder / "b", client=client).shards[0].fingerprint == (
            alone.shards[0].fingerprint
        )


def test_futures_blocks_of_unknown_size_and_arrays(client, folder):
    params = on_disk.KINDS["ivf_flat"][0]
    want = on_disk.search("ivf_flat", by_hand("ivf_flat", blocks()))
    futures = client.scatter(blocks(), hash=False)
    dask.build(params, futures, folder / "futures", client=client)
    assert_same_knn(searched("ivf_flat", folder / "futures"), want)
    unknown = as_dask()
    unknown = unknown[unknown[:, 0] > -np.inf]  # of shape (nan, 16)
    dask.build(params, unknown, folder / "unknown", client=client)
    assert_same_knn(searched("ivf_flat", folder / "unknown"), want)
    dask.build(params, on_disk.ROWS, folder / "array", client=client)
    whole = on_disk.search("ivf_flat", by_hand("ivf_flat", [on_disk.ROWS]))
    assert_same_knn(searched("ivf_flat", folder / "array"), whole)


@pytest.mark.parametrize("suffix", [".npy", ".fbin", ".fvecs", ".parquet"])
def test_files_are_read_by_the_workers(client, folder, tmp_path, suffix):
    paths = [tmp_path / f"part{i}{suffix}" for i in range(2)]
    for path, rows in zip(paths, np.split(on_disk.ROWS, [300]), strict=True):
        io.write_vectors(path, rows)
    params = on_disk.KINDS["ivf_flat"][0]
    dask.build(params, paths, folder, client=client)
    want = on_disk.search("ivf_flat", by_hand("ivf_flat", np.split(on_disk.ROWS, [300])))
    assert_same_knn(searched("ivf_flat", folder), want)


def test_sums_travel_where_there_is_much_to_do(client, folder, monkeypatch):
    """The other way to train: the same models to the rounding of float64 sums."""
    params = ivf_pq.IndexParams(n_lists=10, pq_dim=5, kmeans_n_iters=4)
    monkeypatch.setattr(building, "_GROUP_ROWS", 100)
    rounds = []
    dask.build(params, as_dask(), folder / "local", client=client)
    monkeypatch.setattr(building, "_TRAVELS", 1)
    told = lambda stage, done, n: rounds.append((stage, done, n))  # noqa: E731
    dask.build(params, as_dask(), folder / "sums", client=client, progress=told)
    near, far = (shards.load(folder / name, ["cpu"]).models[0] for name in ("local", "sums"))
    np.testing.assert_allclose(far.centers, near.centers, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(far.codebooks, near.codebooks, rtol=1e-4, atol=1e-4)
    assert sum(stage == "training" for stage, *_ in rounds) > 8
    monkeypatch.setattr(engine, "_LARGE", 1)  # centres are sent to the workers once a round
    again = dask.build(params, as_dask(), folder / "sent", client=client)
    assert again.shards[0].fingerprint == far.fingerprint


def test_evened_lists_are_trained_in_one_place(client, folder, monkeypatch):
    monkeypatch.setattr(building, "_TRAVELS", 1)
    params = ivf_pq.IndexParams(n_lists=10, pq_dim=4, balanced=True)
    assert dask.build(params, as_dask(), folder, client=client).n_rows == 700


def test_ids_are_the_callers(client, folder):
    params = on_disk.KINDS["ivf_sq"][0]
    ids = np.random.default_rng(3).permutation(7000)[:700]
    dask.build(params, as_dask(), folder, client=client, ids=ids)
    want = on_disk.search("ivf_sq", by_hand("ivf_sq", blocks(), ids))
    assert_same_knn(searched("ivf_sq", folder), want)
    made = dask.build(params, as_dask(), folder, client=client, ids=1000, replace=True)
    assert min(s.first_id for s in made.shards) == 1000
    assert made.next_id == 1700
    with pytest.raises(ValueError, match=r"dask\.build: ids must be distinct, got 4 twice"):
        dask.build(params, as_dask(), folder, client=client, ids=np.full(700, 4), replace=True)


@pytest.mark.parametrize("kind", ["ivf_flat", "brute_force"])
def test_a_row_that_is_not_finite_is_named_by_part_and_number(client, folder, kind):
    bad = on_disk.ROWS.copy()
    bad[400, 5] = np.nan
    params = on_disk.KINDS[kind][0]
    with pytest.raises(
        ValueError, match=r"dask\.build: block 2: dataset must be finite .* row 400"
    ):
        dask.build(params, as_dask(bad), folder, client=client)
    assert on_disk.files(folder) == []
    bad[270:] = np.inf  # of blocks 3 to 5 no row is left
    made = dask.build(params, as_dask(bad), folder, client=client, non_finite="drop", n_shards=5)
    assert made.n_rows == 270
    found = shards.search(on_disk.KINDS[kind][1], shards.load(folder, ["cpu"]), bad[:270], 1)
    np.testing.assert_array_equal(found[1][:, 0], np.arange(270))
    bad[:] = np.nan
    with pytest.raises(ValueError, match=r"a row that is finite|at most the 0 rows"):
        dask.build(params, as_dask(bad), folder, client=client, non_finite="drop", replace=True)
    assert shards.load(folder, ["cpu"]) is not None  # the old one is still there


def test_an_index_that_is_there_is_kept_or_replaced_in_one_step(client, folder):
    params = on_disk.KINDS["ivf_flat"][0]
    first = dask.build(params, as_dask(), folder, client=client)
    with pytest.raises(ValueError, match=r"no index yet.*replace=True"):
        dask.build(params, as_dask(), folder, client=client)
    second = dask.build(params, as_dask(), folder, client=client, replace=True)
    assert not {s.file for s in first.shards} & {s.file for s in second.shards}
    assert on_disk.files(folder) == sorted(["manifest.json", *(s.file for s in second.shards)])


WRONG = [
    (lambda: as_dask().astype(np.float64), {}, TypeError, r"block 0, must be one of float32"),
    (lambda: da.zeros((4, 4, 4), dtype="f4"), {}, ValueError, r"have shape \(n, dim\)"),
    (lambda: da.zeros((0, 16), dtype="f4"), {}, ValueError, r"at least one row, got none"),
    (as_dask, {"column": "x"}, TypeError, r"column must be None"),
    (as_dask, {"n_shards": 0}, ValueError, r"n_shards must be at least 1"),
    (as_dask, {"retries": -1}, ValueError, r"retries must be at least 0"),
    (as_dask, {"progress": "yes"}, TypeError, r"progress must be a bool or callable"),
    (as_dask, {"device": "cuda:9"}, BackendError, r"must .*gpuann and the device"),
    (lambda: "nowhere.npy", {}, ValueError, r"nowhere\.npy"),
    (lambda: da.zeros((9, 16), dtype="f4"), {}, ValueError, r"n_lists must be at most the 9 rows"),
]


@pytest.mark.parametrize(("data", "more", "kind", "says"), WRONG)
def test_wrong_arguments_are_refused(client, folder, data, more, kind, says):
    with pytest.raises(kind, match=r"dask\.build: .*" + says):
        dask.build(on_disk.KINDS["ivf_flat"][0], data(), folder, client=client, **more)


def test_parts_that_differ_are_refused(client, folder):
    params = on_disk.KINDS["ivf_flat"][0]
    for other, kind, says in [
        (np.zeros((9, 5), np.float32), ValueError, r"future 1, must have shape \(n, 16\)"),
        (np.zeros((9, 16), np.float16), TypeError, r"future 1, must be float32, as future 0"),
        (np.zeros(9, np.float32), ValueError, r"future 1: dataset must have shape"),
    ]:
        with pytest.raises(kind, match=says):
            dask.build(
                params, client.scatter([on_disk.ROWS, other], hash=False), folder, client=client
            )


def test_a_folder_that_workers_do_not_see_is_refused_before_any_work(client, folder, monkeypatch):
    monkeypatch.setattr(clients, "__version__", "0")
    with pytest.raises(BackendError, match="have gpuann 0, as this process"):
        dask.build("euclidean", as_dask(), folder, client=client)
    monkeypatch.undo()
    monkeypatch.setattr(building.tasks, "about", lambda device, mark: told)
    told = {"version": clients.__version__, "folder": False}
    with pytest.raises(BackendError, match=r"must see .*; give a folder that all machines share"):
        dask.build("euclidean", as_dask(), folder, client=client)
    monkeypatch.undo()
    assert on_disk.files(folder) == []
    mark = folder / "mark"
    assert tasks.about("cpu", mark) == told
    mark.touch()
    assert tasks.about("cpu", mark) == told | {"folder": True}
    with pytest.raises(OSError, match="index"):  # a folder cannot be written to, nor can this
        tasks.about("cpu", folder)


def slow(block):
    time.sleep(0.2)
    return block


def test_a_worker_that_is_killed_does_not_end_a_build(folder):
    with started(2, processes=True) as (_, client):
        pids = list(client.run(os.getpid).values())

        def kill(stage, done, n):
            if pids:
                os.kill(pids.pop(), signal.SIGKILL)
                pids.clear()

        data = as_dask().map_blocks(slow, dtype="f4")
        params = on_disk.KINDS["ivf_flat"][0]
        made = dask.build(params, data, folder, client=client, progress=kill)
        assert not pids
    assert made.n_rows == 700
    want = on_disk.search("ivf_flat", by_hand("ivf_flat", blocks()))
    assert_same_knn(searched("ivf_flat", folder), want)
    assert on_disk.files(folder) == sorted(["manifest.json", *(s.file for s in made.shards)])


def test_no_worker_for_a_while_is_an_error(folder, monkeypatch):
    monkeypatch.setattr(engine, "_NO_WORKER", 0.5)
    with started(1, processes=False) as (cluster, client):
        own = engine.Engine("dask.build", client, 0, False)
        asked = own.start(slow, as_dask().map_blocks(slow).to_delayed()[0, 0])
        cluster.scale(0)
        with pytest.raises(BackendError, match=r"the cluster must have a worker, got none for"):
            own.wait([asked])


def fails(where, left):
    left = [int(path.name) for path in where.iterdir()]
    (where / str(len(left))).touch()
    if len(left) < 2:
        raise OSError("the network")
    return len(left)


def test_what_cannot_be_read_is_tried_again(client, tmp_path):
    for name, retries in [("enough", 2), ("few", 1)]:
        place = tmp_path / name
        place.mkdir()
        own = engine.Engine("dask.build", client, retries, False)
        asked = own.start(fails, place, 0)
        if name == "enough":
            assert own.ask("reading", [asked]) == [2]
        else:
            with pytest.raises(BackendError, match="every task must end, got OSError: the network"):
                own.wait([asked])


def test_scalar_codes_of_parts_have_the_bounds_of_all(client, folder):
    """Each part at a scale of its own: bounds of one part would cut the others off."""
    scales = np.repeat([1, 10, 100, 1000], 175).astype(np.float32)
    rows = on_disk.ROWS * scales[:, None]
    params = ivf_sq.IndexParams(n_lists=1, by_residual=False)
    data = da.from_array(rows, chunks=(175, 16))
    dask.build(params, data, folder, client=client)
    found = shards.search(ivf_sq.SearchParams(), shards.load(folder, ["cpu"]), rows[525:], 1)
    np.testing.assert_array_equal(found[1][:, 0], np.arange(525, 700))
