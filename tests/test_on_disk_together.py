"""An index in a folder under several writers and readers, with bad names, after crashes."""

import dataclasses
from pathlib import Path

import models
import numpy as np
import pytest
from compare import assert_same, assert_same_knn
from on_disk import ROWS, build, files, folder, saved, search

from gpuann import distributed, shards, storage, streamed
from gpuann.distributed import compact, manifest
from gpuann.distributed import folder as folders

__all__ = ["folder", "saved"]  # fixtures


@pytest.mark.parametrize(
    "tidy", [lambda f: distributed.rebalance_folder(f, 2), distributed.compact_folder]
)
def test_rows_that_come_while_files_are_moved_stay(saved, monkeypatch, tidy):
    plain, added = folders.change, []

    def late(where, folder, *more, **named):
        if not added:
            added.append(1)
            shards.extend(folder, ROWS[:5], device="cpu")
        return plain(where, folder, *more, **named)

    for module in (folders, compact):
        monkeypatch.setattr(module, "change", late)
    assert tidy(saved).n_rows == 705
    assert len(shards.load(saved, ["cpu"])) == 705
    assert len(files(saved)) == len(manifest.read_manifest("test", saved).shards) + 1


def test_two_that_move_the_same_rows(saved, monkeypatch):
    plain, done = folders.change, []

    def late(where, folder, *more, **named):
        if not done:
            done.append(1)
            distributed.compact_folder(saved)
        return plain(where, folder, *more, **named)

    monkeypatch.setattr(folders, "change", late)
    monkeypatch.setattr(compact, "change", plain)
    with pytest.raises(ValueError, match="changed it meanwhile; try again"):
        distributed.rebalance_folder(saved, 5)
    assert len(files(saved)) == 2, "the refused files are gone"
    assert len(shards.load(saved, ["cpu"])) == 700


@pytest.mark.parametrize("read", [lambda f: shards.load(f, ["cpu"]), streamed.open])
def test_a_reader_beside_one_who_moves_reads_again(saved, monkeypatch, read):
    plain, done = storage.StoredFile.__init__, []

    def late(self, where, path, kind):
        if where in ("shards.load", "streamed.open") and not done:
            done.append(1)
            distributed.rebalance_folder(saved, 2)
        plain(self, where, path, kind)

    monkeypatch.setattr(storage.StoredFile, "__init__", late)
    assert len(read(saved)) == 700
    assert done


def test_extends_at_the_same_time_get_ids_of_their_own(saved):
    got = models.at_once(lambda _: shards.extend(saved, ROWS[:4], device="cpu"), 6)
    assert_same(np.sort(np.concatenate(got)), np.arange(700, 724))
    assert len(shards.load(saved, ["cpu"])) == 724


def test_rows_of_another_kind_are_refused_when_they_come(saved):
    with pytest.raises(ValueError, match="rows must be float32, as the index', got uint8; convert"):
        shards.extend(saved, (ROWS[:9] * 3).astype(np.uint8), device="cpu")
    assert len(files(saved)) == 4


def test_entries_come_from_an_iterator_or_twice(saved):
    models = shards.load(saved, ["cpu"]).models[0]
    parts = [distributed.build_part(models, ROWS[:3], at, device="cpu") for at in (1000, 1003)]
    entries = [distributed.write_shard(saved, part) for part in parts]
    assert distributed.commit(saved, iter(entries)).n_rows == 706
    assert distributed.commit(saved, entries).n_rows == 706, "an engine may try again"
    with pytest.raises(TypeError, match=r"every entry must be manifest.ShardEntry"):
        distributed.commit(saved, [parts[0]])


def test_files_outside_the_folder_are_not_touched(saved):
    outside = saved.parent / "precious"
    outside.write_text("mine")
    entry = manifest.read_manifest("test", saved).shards[0]
    for name in ("../precious", str(outside), "precious"):
        with pytest.raises(ValueError, match="file of a shard must be named shard-"):
            distributed.commit(saved, [dataclasses.replace(entry, file=name)])
    assert outside.read_text() == "mine"


def test_what_was_cut_off_is_cleaned_up(saved):
    part = distributed.build_part("cosine", ROWS[:3], device="cpu")
    left = [distributed.write_shard(saved, part).file]
    for name in (".shard-1.safetensors.12345678", ".manifest.json.12345678", "notes.txt"):
        (saved / name).write_text("")
    assert distributed.clean_folder(saved) == [], "younger than an hour"
    assert distributed.clean_folder(saved, older_than=-1) == [
        ".manifest.json.12345678",
        ".shard-1.safetensors.12345678",
        *left,
    ]
    assert len(shards.load(saved, ["cpu"])) == 700
    assert (saved / "notes.txt").exists()


def test_a_damaged_index_can_be_replaced(saved):
    (saved / "manifest.json").write_text("{")
    index = build("ivf_flat", 2)
    shards.save(saved, index, replace=True)
    assert_same_knn(search("ivf_flat", shards.load(saved, ["cpu"])), search("ivf_flat", index))


def test_many_shards_take_few_descriptors(folder):
    models = build("ivf_flat").models[0]
    entries = [
        distributed.write_shard(
            folder, distributed.build_part(models, ROWS[i : i + 2], 2 * i, device="cpu")
        )
        for i in range(120)
    ]
    distributed.commit(folder, entries)
    before = len(list(Path("/proc/self/fd").iterdir()))
    _, opened = folders.open_shards("test", folder, mapped=True)
    held = len(list(Path("/proc/self/fd").iterdir())) - before
    assert held <= 120, "one a file"
    assert sum(len(shard) for shard in opened) == 240


def test_a_folder_is_a_path_to_one(saved, tmp_path):
    (tmp_path / "file").write_text("")
    for call in (
        shards.extend,
        distributed.compact_folder,
        streamed.open,
        distributed.clean_folder,
    ):
        more = [ROWS] if call is shards.extend else []
        with pytest.raises(ValueError, match="file must be a folder, got a file"):
            call(tmp_path / "file", *more)
    with pytest.raises(TypeError, match=r"shards.extend: folder must be a path, got Sha"):
        shards.extend(shards.load(saved, ["cpu"]), ROWS)


def test_dropped_rows_are_counted_on():
    rows = ROWS[:50].copy()
    rows[3] = np.nan
    part = distributed.build_part("cosine", rows, non_finite="drop", device="cpu")
    assert distributed.merge(distributed.split(part, 3)).n_dropped == 1
