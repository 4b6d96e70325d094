"""The container: whole or not there, read in pieces, refused with its reason."""

import json
import os

import numpy as np
import pytest
import safetensors.numpy as safetensors_numpy
from compare import assert_same

from gpuann import atomic, storage

ARRAYS = {
    "codes": np.arange(15, dtype=np.uint8).reshape(5, 3),
    "norms": np.linspace(-1, 1, 5, dtype=np.float32),
    "ids": np.arange(5, dtype=np.int64) * 2**40,
    "half": np.array([[0.5, -2]], np.float16),
    "offsets": np.zeros((0, 4), np.int32),
    "wide": np.array(3.5),
    "small": np.array([-3, 3], np.int8),
}


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "a.safetensors"
    storage.write(file, "shard", {"n": 5, "name": "é"}, ARRAYS)
    return file


def opened(path, kind="shard"):
    return storage.StoredFile("test.open", path, kind)


def test_what_is_written_is_read(path):
    file = opened(path)
    assert file.about == {"n": 5, "name": "é"}
    assert set(file.entries) == set(ARRAYS)
    for name, want in ARRAYS.items():
        assert_same(file.read(name), want)
        assert_same(np.asarray(file.map(name)), want)
        assert file.entries[name].start % want.dtype.itemsize == 0
    file.verify()
    assert [p.name for p in path.parent.iterdir()] == [path.name], "no other file is left"


def test_rows_are_read_and_written_in_pieces(tmp_path):
    rows = np.random.default_rng(0).standard_normal((50, 7)).astype(np.float32)
    path = tmp_path / "pieces"
    shapes = {"rows": (rows.dtype, rows.shape), "zero": (np.dtype(np.int64), (4,))}
    with storage.create(path, "shard", {}, shapes) as file:
        for at in (30, 0, 10):
            file.put("rows", at, rows[at : at + 20])
        assert not path.exists(), "it gets its name at the end"
    file = opened(path)
    assert_same(file.read("rows"), rows)
    assert_same(file.read("zero"), np.zeros(4, np.int64))
    out = np.empty((3, 7), np.float32)
    file.read_rows("rows", 47, out)
    assert_same(out, rows[47:])
    with pytest.raises(ValueError, match="damaged one: it has become shorter"):
        file.read_rows("zero", 3, np.empty(500, np.int64))


def test_a_failed_write_leaves_nothing(tmp_path):
    path = tmp_path / "a"
    storage.write(path, "shard", {}, {"x": np.arange(3)})
    with (
        pytest.raises(RuntimeError),
        storage.create(path, "shard", {}, {"x": (np.dtype(int), (9,))}),
    ):
        raise RuntimeError("no room")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert_same(opened(path).read("x"), np.arange(3))


def test_it_is_the_format_of_safetensors(path):
    """Their reader opens ours."""
    theirs = safetensors_numpy.load_file(path)
    assert set(theirs) == set(ARRAYS)
    for name, want in ARRAYS.items():
        assert_same(theirs[name], want)


def test_every_flipped_byte_is_found(path):
    whole = path.read_bytes()
    header = int.from_bytes(whole[:8], "little")
    text = whole[8 : 8 + header].rstrip(b" ")
    places = [*range(8 + len(text)), *range(8 + header, len(whole))]
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"damaged|checksum|format version|gpuann shard"):
            opened(path).verify()
    path.write_bytes(whole)
    opened(path).verify()


def test_every_shortened_file_is_refused(path):
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="must be a whole file, got a damaged one"):
            opened(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(ValueError, match="damaged"):
        opened(path)


def test_a_flipped_array_is_refused_when_it_is_read(path):
    place = opened(path).entries["norms"].start
    with path.open("r+b") as handle:
        handle.seek(place)
        handle.write(b"\xff")
    file = opened(path)
    assert_same(file.read("codes"), ARRAYS["codes"])
    with pytest.raises(ValueError, match=r"must have the checksum of norms .*the file is damaged"):
        file.read("norms")


def rewritten(path, change):
    """The header changed by someone who keeps the format."""
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda h: h["__metadata__"].update(version="2"),
            "have format version 1, got 2; use",
        ),
        (
            lambda h: h["__metadata__"].update(format="gpuann index"),
            "shard, got 'gpuann i",
        ),
        (lambda h: h.pop("__metadata__"), "be a gpuann shard, got 'none of ours'"),
        (lambda h: h.update(__metadata__=3), "be a gpuann shard"),
        (lambda h: h["codes"].update(dtype="BF16"), "damaged one: its header cannot be understood"),
        (lambda h: h["codes"].update(shape=[5, 4]), "damaged one: .*shape and size differ"),
        (lambda h: h["codes"].update(shape=[-5, -3]), "damaged one: .*no sizes"),
        (lambda h: h["codes"].update(shape=[2**32, 2**32]), "damaged one: .*shape and size differ"),
        (lambda h: h["codes"].update(shape=[2.5, 6]), "damaged one: .*no sizes"),
        (lambda h: h["codes"].update(shape=["5", 3]), "damaged one: .*no sizes"),
        (lambda h: h["codes"].update(data_offsets=[-15, 0]), "damaged one: .*no sizes"),
        (lambda h: h["__metadata__"].update(about='{"n": 6}'), "have the checksum of its header"),
        (lambda h: h["__metadata__"].update(checksums="{}"), "damaged one: its header"),
    ],
)
def test_other_headers_are_refused(path, change, text):
    rewritten(path, change)
    with pytest.raises(ValueError, match=text):
        opened(path)


def test_what_is_no_file_of_ours(tmp_path):
    for name, data in [
        ("empty", b""),
        ("text", b"hello, hello, hello"),
        ("list", b"\2" + b"\0" * 7 + b"[]"),
    ]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match="damaged"):
            opened(tmp_path / name)
    with pytest.raises(ValueError, match=r"test.open: .*nowhere must be there"):
        opened(tmp_path / "nowhere")


def test_the_file_is_synced_before_it_gets_its_name(tmp_path, monkeypatch):
    steps = []
    sync, replace = os.fsync, storage.Path.replace
    monkeypatch.setattr(os, "fsync", lambda n: steps.append("sync") or sync(n))
    monkeypatch.setattr(
        atomic.Path, "replace", lambda *names: steps.append("rename") or replace(*names)
    )
    storage.write(tmp_path / "a", "shard", {}, {"x": np.arange(3)})
    assert steps == ["sync", "rename", "sync"]
