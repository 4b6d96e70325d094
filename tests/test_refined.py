"""An index with its rows: exact distances of its candidates, through updates and files."""

import pathlib

import emulated
import models
import numpy as np
import pytest
from compare import assert_same, assert_same_knn
from device_arrays import DeviceArray
from emu import Fibers
from engines import needs_fibers

import gpuann
from bench.data import clustered
from gpuann import (
    brute_force,
    filters,
    ivf_flat,
    ivf_pq,
    ivf_sq,
    refined,
    rerank,
    shards,
    storage,
)
from gpuann.distributed import shard_file

ROWS, QUERIES = clustered(600, 12, 25)
EVERY = ivf_pq.SearchParams(n_probes=8)
FILE = pathlib.Path(__file__).parent / "files" / "v1_refined.ann"


def build(rows=ROWS, metric="sqeuclidean", **more):
    return refined.build(models.build("ivf_pq", rows, metric, n_lists=8, pq_dim=4, **more), rows)


def search(index, queries=QUERIES, k=10, params=EVERY, **more):
    """With all rows as candidates: the answer of brute force."""
    return refined.search(params, index, queries, k, **{"k_factor": 100} | more)


def exact(rows=ROWS, queries=QUERIES, k=10, metric="sqeuclidean", **more):
    return brute_force.search(brute_force.build(rows, metric, device="cpu"), queries, k, **more)


@pytest.mark.parametrize("metric", models.METRICS)
def test_all_candidates_are_brute_force(metric):
    index = build(metric=metric)
    assert_same_knn(search(index), exact(metric=metric))
    few = refined.search(EVERY, index, QUERIES, 10, k_factor=1)
    found = ivf_pq.search(EVERY, index.inner, QUERIES, 10)
    assert_same(np.sort(few[1]), np.sort(found[1]))
    assert (index.dim, index.metric, index.device, index.next_id) == (12, metric, "cpu", 600)
    assert index.nbytes == index.inner.nbytes + ROWS.nbytes
    assert np.shares_memory(index.dataset, ROWS)


@pytest.mark.parametrize("metric", models.METRICS)
@pytest.mark.parametrize("module", [ivf_flat, ivf_sq, ivf_pq])
def test_candidates_are_what_the_index_finds(module, metric):
    """They come without canonical distances, which must not change which rows they are."""
    inner = module.build(module.IndexParams(n_lists=6, metric=metric), ROWS, device="cpu")
    index, params = refined.build(inner, ROWS), module.SearchParams(n_probes=2)
    for n, given in ((1, None), (25, None), (25, np.arange(9)), (25, np.arange(0, 600, 2))):
        found = module.search(params, inner, QUERIES[:n], 12, filter=given)[1]
        want = gpuann.refine(ROWS, QUERIES[:n], found, 4, metric, device="cpu")
        got = refined.search(params, index, QUERIES[:n], 4, filter=given, k_factor=3)
        assert_same_knn(got, want)


def test_ids_that_are_not_row_numbers():
    index = refined.delete(build(), [0, 7])
    assert not index.ids_are_rows
    assert build().ids_are_rows
    kept = np.delete(np.arange(600), [0, 7])
    dists, rows = exact(ROWS[kept])
    assert_same_knn(search(index), (dists, kept[rows]))


@pytest.mark.parametrize("metric", ["sqeuclidean", "cosine"])
def test_rows_that_are_not_finite(tmp_path, metric):
    """They are looked at where they are candidates only, in memory and in a file."""
    bad = ROWS.copy()
    bad[4, 4] = np.nan
    np.save(tmp_path / "rows.npy", bad)
    for rows in (bad, np.load(tmp_path / "rows.npy", mmap_mode="r")):
        for candidates in ([[7, 4]], [np.arange(600)]):
            with pytest.raises(ValueError, match=r"dataset must be finite .* in row 4, column 4"):
                gpuann.refine(rows, QUERIES[:1], candidates, metric=metric, device="cpu")
        found = gpuann.refine(rows, QUERIES[:1], [[7, 5, -1]], metric=metric, device="cpu")
        assert sorted(found[1][0]) == [-1, 5, 7]


def test_only_rows_in_memory_are_read_where_they_are(tmp_path, monkeypatch):
    """Those of a file are gathered in ascending order, others would be copied whole."""
    np.save(tmp_path / "rows.npy", ROWS)
    gpuann.save(tmp_path / "x", build())
    mapped, opened = (
        np.load(tmp_path / "rows.npy", mmap_mode="r"),
        gpuann.load(tmp_path / "x", device="cpu", mmap=True),
    )
    candidates = np.arange(200).reshape(25, 8)
    want = gpuann.refine(ROWS, QUERIES, candidates, device="cpu")
    monkeypatch.setattr(rerank, "_CANDIDATES_AT_ONCE", 30)
    assert_same_knn(gpuann.refine(ROWS, QUERIES, candidates, device="cpu"), want)
    monkeypatch.setattr(rerank, "_look_at", None)  # what is read in place is looked at first
    strided = np.repeat(ROWS, 2, axis=1)[:, ::2]
    for rows in (mapped, mapped[:], np.asarray(mapped), opened.dataset, strided):
        assert_same_knn(gpuann.refine(rows, QUERIES, candidates, device="cpu"), want)


def test_filters_and_outputs():
    index, mask = build(), np.arange(600) % 3 == 0
    want = exact(prefilter=mask)
    for given in (mask, filters.from_mask(mask), np.flatnonzero(mask)):
        assert_same_knn(search(index, filter=given), want)
    dists, ids = np.empty((25, 10), np.float32), np.empty((25, 10), np.int64)
    got = search(index, neighbors=ids, distances=dists)
    assert got[0] is dists
    assert got[1] is ids
    assert_same_knn(got, exact())
    few = search(index, filter=np.arange(4), k=6)
    assert (few[1][:, 4:] == -1).all()
    assert np.isinf(few[0][:, 4:]).all()


def test_changes_keep_both_parts_together():
    """Ids of one's own, gaps, rows replaced: distances are those of the rows that ids name."""
    index = build(ROWS[:500])
    index = refined.delete(index, np.arange(100, 200))
    index = refined.extend(index, ROWS[500:], np.arange(9500, 9600)[::-1])
    index = refined.extend(index, ROWS[100:103], [5, 150, 0], on_duplicate="replace")
    index = refined.extend(index, (part for part in np.split(ROWS[110:120], [3])))
    held = {i: ROWS[i] for i in (*range(100), *range(200, 500))}
    held |= zip(range(9599, 9499, -1), ROWS[500:], strict=True)
    held |= zip([5, 150, 0], ROWS[100:103], strict=True)
    held |= zip(range(9600, 9610), ROWS[110:120], strict=True)
    names = np.array(sorted(held))
    rows = np.stack([held[i] for i in names])
    assert_same(refined.reconstruct(index), rows)
    assert_same(refined.reconstruct(index, [9600, 5]), rows[np.searchsorted(names, [9600, 5])])
    dists, near = exact(rows)
    assert_same_knn(search(index), (dists, names[near]))
    parts = [refined.delete(index, names[:250]), refined.delete(index, names[250:])]
    again = refined.compact(refined.merge(parts))
    assert_same_knn(search(again), search(index))
    assert again.next_id == 9610
    with pytest.warns(UserWarning, match="2 of 3 ids are not in the index") as said:
        refined.delete(index, [5, 77777, 88888])
    assert said[0].filename == __file__, "at the line that asked for it"


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.uint8])
@pytest.mark.parametrize("mmap", [False, True])
def test_files(tmp_path, dtype, mmap):
    rows = np.rint(ROWS).clip(0, 100).astype(dtype)
    index = refined.delete(build(rows), [599, 7])
    refined.save(tmp_path / "x", index)
    for load in (gpuann.load, refined.load):
        again = load(tmp_path / "x", device="cpu", mmap=mmap)
        assert repr(again) == repr(index)
        assert_same(again.dataset, index.dataset)
        assert again.next_id == 600
        assert_same_knn(search(again, params=EVERY), search(index))
    gpuann.save(tmp_path / "y", again)
    assert (tmp_path / "y").read_bytes() == (tmp_path / "x").read_bytes()


def test_a_file_of_the_first_version_stays_readable():
    """Made by tests/make_files.py; the answers were noted then."""
    want = np.load(f"{FILE}.npz")
    index = gpuann.load(FILE, device="cpu")
    params = ivf_pq.SearchParams(n_probes=3)
    got = refined.search(params, index, want["queries"], 5, k_factor=4)
    assert_same_knn(got, (want["distances"], want["ids"]))


def test_damaged_files(tmp_path):
    path, index, rng = tmp_path / "x", build(), np.random.default_rng(0)
    refined.save(path, index)
    data = path.read_bytes()
    for _ in range(40):
        changed = bytearray(data)
        changed[int(rng.integers(8, len(data)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            found = gpuann.load(path, device="cpu")
        except ValueError as error:
            assert any(word in str(error) for word in ("damaged", "checksum", "gpuann index"))
        else:  # a space of the header
            assert_same_knn(search(found), search(index))
    shard = gpuann.updates.as_shard(index.inner)
    about, named = shard_file.about(shard), shard_file.arrays_of(shard)
    for dataset in (None, ROWS[:-1], ROWS[:, :-1], ROWS.astype(np.int64)):
        more = {} if dataset is None else {"dataset": dataset}
        storage.write(path, shard_file.REFINED, about, {**named, **more})
        with pytest.raises(ValueError, match="must hold an index, got a damaged one: rows of"):
            gpuann.load(path, device="cpu")


@needs_fibers
def test_on_a_device(tmp_path):
    """Rows stay on the host; device queries have device results."""
    gpuann.save(tmp_path / "x", refined.delete(build(), [3, 4]))
    with emulated.stands_in(emulated.EmulatedDevice(Fibers(checked=False))) as device:
        there = gpuann.load(tmp_path / "x", device="cuda")
        want = search(gpuann.load(tmp_path / "x", device="cpu"), QUERIES[:4], k_factor=8)
        assert_same_knn(search(there, QUERIES[:4], k_factor=8), want)
        got = search(there, device.array(QUERIES[:4]), k_factor=8)
        assert all(isinstance(part, DeviceArray) for part in got)
        assert_same_knn(emulated.to_host(got), want)


ERRORS = {
    "refined.build: dataset must have the rows of the index, .600, 12., got .599, 12.": (
        lambda i, _: refined.build(i.inner, ROWS[:-1])
    ),
    "refined.build: index must be an Index of brute_force.*, got ndarray": (
        lambda _i, _: refined.build(ROWS, ROWS)
    ),
    "refined.search: index must be refined.Index, got ivf_pq.Index": (lambda i, _: search(i.inner)),
    "refined.search: queries must be one array, got chunks": (
        lambda i, _: search(i, [QUERIES, QUERIES])
    ),
    r"refined.search: queries must have shape \(n, 12\), got \(25, 11\)": (
        lambda i, _: search(i, QUERIES[:, :11])
    ),
    "k_factor must be at least 1, got 0": lambda i, _: search(i, k_factor=0),
    "search_params must be ivf_pq.SearchParams, got builtins.NoneType": (
        lambda i, _: search(i, params=None)
    ),
    "refined.search: search_params must be None for brute force, got SearchParams": (
        lambda _i, _: search(refined.build(brute_force.build(ROWS), ROWS))
    ),
    r"refined.search: neighbors must have shape \(25, 10\), got \(25, 9\)": (
        lambda i, _: search(i, neighbors=np.empty((25, 9), np.int64))
    ),
    "refined.extend: new_vectors must be float32 as the rows there are, got float16": (
        lambda i, _: refined.extend(i, ROWS.astype(np.float16))
    ),
    "new_indices must be new, got 5 again; on_duplicate": (
        lambda i, _: refined.extend(i, ROWS[:1], [5])
    ),
    "refined.merge: indexes must be a list of indexes": lambda i, _: refined.merge(i),
    "refined.reconstruct: ids must be in the index, got 600": (
        lambda i, _: refined.reconstruct(i, [600])
    ),
    "extend: index must be an .*, got refined.Index; gpuann.refined has": (
        lambda i, _: ivf_pq.extend(i, ROWS)
    ),
    "gpuann.save: arguments must be a filename, then an index, got them the other": (gpuann.save),
    "gpuann.save: index must be an Index of": lambda _i, path: gpuann.save(path, ROWS),
    "ivf_pq.load: .* must hold an index of ivf_pq, got one of refined; load it with refined.load": (
        lambda _i, path: ivf_pq.load(path)
    ),
    "must hold an index alone, got rows beside it; load it with gpuann.load, and save its": (
        lambda _i, path: shards.load(path, ["cpu"])
    ),
}


@pytest.mark.parametrize("words", ERRORS)
def test_errors(tmp_path, words):
    index = build()
    refined.save(tmp_path / "x", index)
    with pytest.raises((ValueError, TypeError), match=words):
        ERRORS[words](index, tmp_path / "x")
