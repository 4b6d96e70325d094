"""An index in a folder: the same answers on any number of devices; whole before and after."""

import contextlib
import json

import emulated
import numpy as np
import pytest
from compare import assert_same, assert_same_knn
from emu import Fibers
from engines import needs_fibers
from models import at_once
from on_disk import KINDS, ROWS, build, files, folder, saved, search

from gpuann import atomic, brute_force, distributed, ivf_flat, shards, storage
from gpuann.distributed import compact, manifest
from gpuann.distributed import folder as folders

__all__ = ["folder", "saved"]  # fixtures


@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_devices_answers_as_the_index_that_was_saved(folder, kind):
    index = build(kind)
    want = search(kind, index)
    shards.save(folder, index)
    assert len(files(folder)) == 4
    for n, replicas in [(1, 1), (2, 1), (3, 1), (5, 1), (4, 2), (3, 3)]:
        loaded = shards.load(folder, ["cpu"] * n, n_replicas=replicas)
        assert len(loaded.shards) == n // replicas
        assert_same_knn(search(kind, loaded), want)


@needs_fibers
@pytest.mark.parametrize("kind", KINDS)
def test_what_one_machine_saves_another_loads(folder, kind):
    """Saved on devices, loaded on the CPU and the other way round, in other numbers."""
    want = search(kind, build(kind))
    with contextlib.ExitStack() as stack:
        for number in range(2):
            device = emulated.EmulatedDevice(Fibers(checked=False), emulated.RTX, number)
            device.watched = True
            stack.enter_context(emulated.stands_in(device))
        there = shards.build(KINDS[kind][0], ROWS, ["cuda:0", "cuda:1"])
        shards.save(folder, there)
        assert_same_knn(search(kind, shards.load(folder, ["cpu"] * 3)), want)
        devices = ["cuda:1", "cuda:0", "cpu"]
        assert_same_knn(search(kind, shards.load(folder, devices)), want)


def test_independent_models_are_kept(folder):
    index = build("ivf_flat", scope="independent")
    want = search("ivf_flat", index)
    shards.save(folder, index)
    for n in (1, 2, 3):
        loaded = shards.load(folder, ["cpu"] * n)
        assert not loaded.has_one_model
        assert_same_knn(search("ivf_flat", loaded), want)
    with pytest.raises(ValueError, match="devices must be at most the 3 shards, got 4"):
        shards.load(folder, ["cpu"] * 4)
    for change in (
        lambda: shards.extend(folder, ROWS),
        lambda: distributed.rebalance_folder(folder, 2),
    ):
        with pytest.raises(ValueError, match='must be of scope "shared"'):
            change()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_come_later_are_found_and_ids_stay(folder, kind):
    index = shards.build(KINDS[kind][0], ROWS[:500], ["cpu", "cpu"])
    shards.save(folder, index)
    added = shards.extend(folder, ROWS[500:600], device="cpu")
    assert_same(added, np.arange(500, 600))
    own = np.arange(9000, 9100)
    assert_same(shards.extend(folder, iter([ROWS[600:650], ROWS[650:]]), own, device="cpu"), own)
    loaded = shards.load(folder, ["cpu"] * 2)
    assert len(loaded) == 700
    names = np.concatenate([np.arange(600), own])
    models = index.models[0] or "cosine"
    whole = distributed.build_part(models, ROWS, names, device="cpu")
    want = search(kind, shards.from_shards([whole], ["cpu"]))
    assert (want[1] >= 9000).any()
    assert_same_knn(search(kind, loaded), want)
    assert distributed.rebalance_folder(folder, 2).n_rows == 700
    assert len(files(folder)) == 3, "the old files are gone"
    assert_same_knn(search(kind, shards.load(folder, ["cpu"])), want)
    assert_same(shards.extend(folder, ROWS[:1], device="cpu"), np.array([9100]))


@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_flat cosine", "ivf_pq"])
@pytest.mark.parametrize("most", [256, 2])
def test_many_shards_become_one(folder, kind, most, monkeypatch):
    """The rows of a list in the order of the shards: for runs of ids the single index."""
    monkeypatch.setattr(compact, "_MOST_OPEN", most)
    index = build(kind, 5)
    shards.save(folder, index)
    want = search(kind, index)
    before = folders.open_shards("test", folder, mapped=False)[1]
    made = distributed.compact_folder(folder, block_bytes=2000)
    assert made.n_rows == 700
    assert len(files(folder)) == 2, "nothing else is left"
    after = folders.open_shards("test", folder, mapped=False)[1]
    whole = distributed.merge(before)
    for got, wanted in [(after[0].payload, whole.payload), (after[0].lists, whole.lists)]:
        for a, b in zip(got, wanted, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                assert_same(a, b)
    assert_same_knn(search(kind, shards.load(folder, ["cpu"] * 2)), want)


def test_what_cannot_become_one(folder):
    shards.save(folder, build("brute_force"))
    with pytest.raises(ValueError, match="must be an IVF index of scope"):
        distributed.compact_folder(folder)
    before = files(folder)
    models = build("ivf_flat").models[0]
    parts = [
        distributed.build_part(models, rows, at, device="cpu")
        for rows, at in [(ROWS[:20], 0), (ROWS[20:40].astype(np.float16), 20)]
    ]
    entries = [distributed.write_shard(folder, part) for part in parts]
    with pytest.raises(ValueError, match="rows must be float32, as the index', got float16; conv"):
        folders.change("test", folder, entries, "shared", of_all=True, keep_refused=True)
    with pytest.raises(ValueError, match="have vectors of one kind in all shards"):
        compact.merge_files("test", folder, entries, 1000)
    assert len(files(folder)) == len(before) + 2


def test_an_id_is_there_once(saved):
    rule = "ids must be those of no other row of the index, got"
    for ids, text in [([700, 5], "5, which shard-"), ([699, 700], "699, which")]:
        with pytest.raises(ValueError, match=rf"shards.extend: {rule} {text}"):
            shards.extend(saved, ROWS[:2], ids, device="cpu")
    assert len(shards.load(saved, ["cpu"])) == 700
    shards.extend(saved, ROWS[:2], [2000, 1000], device="cpu")
    shards.extend(saved, ROWS[:2], [1001, 1999], device="cpu")
    with pytest.raises(ValueError, match="got 1000, which"):
        shards.extend(saved, ROWS[:3], [3000, 1000, 1500], device="cpu")


def test_ids_are_compared_with_those_of_new_shards_only(saved, monkeypatch):
    """Shards that share a range of ids are compared once, when the later one comes."""
    shards.extend(saved, ROWS[:2], [1000, 2000], device="cpu")
    shards.extend(saved, ROWS[:2], [1500, 2500], device="cpu")
    read, plain = [], manifest.read_ids
    monkeypatch.setattr(
        manifest, "read_ids", lambda where, path: read.append(path) or plain(where, path)
    )
    shards.extend(saved, ROWS[:2], device="cpu")
    assert read == []
    shards.extend(saved, ROWS[:1], [1700], device="cpu")
    assert len(read) == 3
    with pytest.raises(ValueError, match="got 1500, which shard-"):
        shards.extend(saved, ROWS[:1], [1500], device="cpu")


def test_a_file_without_a_line_in_the_manifest_is_not_part_of_it(saved):
    index = shards.load(saved, ["cpu"])
    more = distributed.build_part(index.models[0], ROWS[:5], 700, device="cpu")
    entry = distributed.write_shard(saved, more)
    assert len(shards.load(saved, ["cpu"])) == 700
    travelled = distributed.ShardEntry(**json.loads(json.dumps(vars(entry))))
    assert distributed.commit(saved, [travelled]).n_rows == 705
    assert len(shards.load(saved, ["cpu"])) == 705


def test_models_of_others_are_refused(saved):
    own = distributed.train_local(
        ivf_flat.IndexParams(n_lists=10, seed=1),
        [distributed.sample_part(ROWS, 700)],
        device="cpu",
    )
    more = distributed.build_part(own, ROWS[:5], 700, device="cpu")
    entry = distributed.write_shard(saved, more)
    with pytest.raises(ValueError, match=r"must have the models .* of the first"):
        distributed.commit(saved, [entry])
    with pytest.raises(ValueError, match=r'scope must be that of .*, "shared"'):
        distributed.commit(saved, [entry], scope="independent")
    other = distributed.write_shard(saved, distributed.build_part("cosine", ROWS[:5], 700))
    with pytest.raises(ValueError, match="must be ivf_flat, sqeuclidean, dim 16, as the first"):
        distributed.commit(saved, [other])
    with pytest.raises(ValueError, match="must be there, got no such file"):
        distributed.commit(saved / "elsewhere", [other])
    with pytest.raises(ValueError, match="entries must be at least one"):
        distributed.commit(saved, [])


CHANGES = {  # with the number of files that it writes: shards, then the manifest
    "extend": (lambda folder: shards.extend(folder, ROWS[:5], device="cpu"), 2),
    "rebalance": (lambda folder: distributed.rebalance_folder(folder, 4), 5),
    "save": (lambda folder: shards.save(folder, build("ivf_flat", 2), replace=True), 3),
}


@pytest.mark.parametrize(
    ("change", "at"), [(name, at) for name, (_, n) in CHANGES.items() for at in range(n)]
)
def test_a_failure_leaves_the_index_whole(saved, monkeypatch, change, at):
    """The disk fails after a file has got its name: shard files first, the manifest last."""
    want, before = search("ivf_flat", shards.load(saved, ["cpu"])), files(saved)
    call, n_files = CHANGES[change]
    synced = []

    def full(_):
        synced.append(1)
        if len(synced) == at + 1:
            raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "sync_folder", full)
        with pytest.raises(OSError, match="no space"):
            call(saved)
    index = shards.load(saved, ["cpu"])
    if at < n_files - 1:
        assert files(saved) == before, "nothing is left behind"
        assert_same_knn(search("ivf_flat", index), want)
    else:  # the manifest had its name: the change is done, though it may not survive a power cut
        assert len(index) == 705 if change == "extend" else len(index) == 700


def test_saving_over_an_index_is_asked_for(saved):
    index = build("ivf_pq", 2)
    with pytest.raises(ValueError, match=r"have no index yet, got manifest.json; use replace=True"):
        shards.save(saved, index)
    shards.save(saved, index, replace=True)
    assert len(files(saved)) == 3
    assert_same_knn(search("ivf_pq", shards.load(saved, ["cpu"])), search("ivf_pq", index))


def test_writers_wait_for_each_other(saved):
    models = shards.load(saved, ["cpu"]).models[0]
    entries = [
        distributed.write_shard(saved, distributed.build_part(models, ROWS[:3], at, device="cpu"))
        for at in range(1000, 1080, 10)
    ]
    at_once(lambda i: distributed.commit(saved, [entries[i]]), len(entries))
    assert len(manifest.read_manifest("test", saved).shards) == 3 + 8


def test_a_manifest_is_whole_or_refused(saved):
    path = saved / "manifest.json"
    whole, want = path.read_bytes(), manifest.read_manifest("test", saved)
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            got = manifest.read_manifest("test", saved)
        except ValueError as error:
            assert "manifest.json" in str(error)
        else:
            assert got == want, place
    for length in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"manifest.json must be whole, got a damaged one"):
            shards.load(saved, ["cpu"])


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("version", 2, "have format version 1, got 2; use a newer gpuann"),
        ("format", "lance", "be of gpuann shards, got 'lance'"),
        ("scope", "independent", "its checksum is another"),
    ],
)
def test_other_manifests_are_refused(saved, key, value, text):
    path = saved / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=text):
        shards.load(saved, ["cpu"])


def test_damaged_and_missing_files_are_named(saved):
    name = manifest.read_manifest("test", saved).shards[1].file
    path = saved / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match=rf"{name} must have the checksum of"):
        shards.load(saved, ["cpu"])
    path.write_bytes((saved / manifest.read_manifest("test", saved).shards[0].file).read_bytes())
    with pytest.raises(ValueError, match=rf"shards.load: .*{name} must be as the manifest says"):
        shards.load(saved, ["cpu"])
    path.unlink()
    with pytest.raises(ValueError, match=rf"{name} must be there, got no such file"):
        shards.load(saved, ["cpu"])


def test_arrays_that_do_not_fit_are_refused(tmp_path):
    """Written by a program that has its own idea of a shard."""
    from gpuann.distributed import shard_file

    made = distributed.build_part("cosine", ROWS[:9], device="cpu")
    arrays = shard_file.arrays_of(made)
    for name, wrong in [
        ("offsets", np.array([0, 8])),
        ("offsets", np.array([0, 12, 9])),
        ("norms", arrays["norms"][:-1]),
    ]:
        storage.write(tmp_path / "x", "index", shard_file.about(made), arrays | {name: wrong})
        with pytest.raises(ValueError, match="x must hold an index, got a damaged one: "):
            shard_file.read_shard("test", tmp_path / "x", mapped=False)


def test_nothing_there(tmp_path):
    with pytest.raises(ValueError, match=r"must have a manifest.json, as shards.save writes it"):
        shards.load(tmp_path, ["cpu"])
    with pytest.raises(TypeError, match="index must be"):
        shards.save(tmp_path, brute_force.build(ROWS, device="cpu"))
