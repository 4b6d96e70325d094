"""One file per index: what is loaded is what was saved; what is damaged is refused."""

import json
import pathlib
import pickle
import re
import signal
import subprocess
import sys
import time

import emulated
import models
import numpy as np
import pytest
from compare import assert_same, assert_same_knn
from emu import Fibers
from engines import needs_fibers
from test_updates import KINDS, QUERIES, build, everything, module_of

import gpuann
from gpuann import brute_force, io, ivf_flat, ivf_pq, shards, storage
from gpuann.distributed import shard_file

HERE = pathlib.Path(__file__).parent


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", models.METRICS)
def test_a_file_is_the_index(tmp_path, kind, metric):
    index, module, path = build(kind, metric=metric), module_of(kind), tmp_path / "x.ann"
    module.save(path, index)
    want = everything(index), models.search(index, QUERIES, 10)
    for again in (
        module.load(path, device="cpu"),
        gpuann.load(str(path), device="cpu"),
        gpuann.load(path, device="cpu", mmap=True),
    ):
        assert type(again) is type(index)
        assert repr(again) == repr(index)
        assert_same_knn(everything(again), want[0])
        assert_same_knn(models.search(again, QUERIES, 10), want[1])
    module.save(tmp_path / "y.ann", again)
    assert (tmp_path / "y.ann").read_bytes() == path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.ann", "y.ann"]


@needs_fibers
@pytest.mark.parametrize("kind", KINDS)
def test_from_a_device_to_another(tmp_path, kind):
    index, module = build(kind), module_of(kind)
    module.save(tmp_path / "here", index)
    with emulated.stands_in(emulated.EmulatedDevice(Fibers(checked=False))):
        there = gpuann.load(tmp_path / "here", device="cuda")
        assert there.device == "cuda:0"
        assert_same_knn(models.search(there, QUERIES, 10), models.search(index, QUERIES, 10))
        module.save(tmp_path / "there", there)
    assert (tmp_path / "there").read_bytes() == (tmp_path / "here").read_bytes()


def test_a_file_is_a_shard_too(tmp_path):
    index = build("ivf_pq")
    ivf_pq.save(tmp_path / "x.ann", index)
    shard = shard_file.read_shard("test", tmp_path / "x.ann", mapped=False)
    two = shards.from_shards([shard], ["cpu", "cpu"])
    asked = ivf_pq.SearchParams(n_probes=4)
    assert_same_knn(shards.search(asked, two, QUERIES, 10), models.search(index, QUERIES, 10))


def test_what_it_says_of_itself(tmp_path):
    ivf_pq.save(tmp_path / "x.ann", build("ivf_pq packed"))
    data = (tmp_path / "x.ann").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert header["__metadata__"]["format"] == "gpuann index"
    about = json.loads(header["__metadata__"]["about"])
    assert (about["kind"], about["metric"], about["dim"]) == ("ivf_pq", "sqeuclidean", 12)
    assert about["parameters"] == {
        "n_lists": 16,
        "pq_dim": 5,
        "pq_bits": 5,
        "pq_len": 3,
        "rotation": False,
    }


def test_other_readers_of_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    index = build("ivf_flat")
    ivf_flat.save(tmp_path / "x.ann", index)
    found = safetensors.load_file(tmp_path / "x.ann")
    assert_same(found["vectors"], index.core.payload.vectors)


@pytest.mark.parametrize("kind", ["brute_force", "ivf_pq turned", "ivf_sq"])
def test_every_damage_is_refused(tmp_path, kind):
    """Flips, cuts, things put in: a clear error, or the same index (a space of the header)."""
    path = tmp_path / "x.ann"
    index = build(kind)
    module_of(kind).save(path, index)
    data, rng = path.read_bytes(), np.random.default_rng(4)
    length = int.from_bytes(data[:8], "little")
    refused = 0
    for turn in range(150):
        changed = bytearray(data)
        end = len(data) if turn % 2 else 8 + length  # the header is short: half of them there
        where = int(rng.integers(end))
        if turn % 5 == 4:
            changed = changed[:where]
        elif turn % 5 == 3:
            changed[where:where] = rng.bytes(int(rng.integers(1, 9)))
        else:
            changed[where] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            found = gpuann.load(path, device="cpu")
        except ValueError as error:
            refused += 1
            words = "damaged", "checksum", "format version", "gpuann index"
            assert any(word in str(error) for word in words), error
        else:
            assert_same_knn(everything(found), everything(index))
    assert refused > 130


FORGED = {
    "dim": lambda about, _: about.update(dim=2**40),
    "dim text": lambda about, _: about.update(dim="12"),
    "metric": lambda about, _: about.update(metric="../../etc/passwd"),
    "residual": lambda about, _: about.update(by_residual=3),
    "next id": lambda about, _: about.update(next_id=-1),
    "next id text": lambda about, _: about.update(next_id="7"),
    "dropped": lambda about, _: about.update(n_dropped=[1]),
    "dropped text": lambda about, _: about.update(n_dropped="many"),
    "no dim": lambda about, _: about.pop("dim"),
    "codes": lambda _, a: a.update(codes=a["codes"][:, :-1]),
    "codes' dtype": lambda _, a: a.update(codes=a["codes"].view(np.int8)),
    "books": lambda _, a: a.update(codebooks=a["codebooks"][:, :-1]),
    "rotation": lambda _, a: a.update(rotation=a["rotation"][:-1]),
    "offsets": lambda _, a: a["offsets"].__setitem__(3, 2**40),
    "negative": lambda _, a: a["offsets"].__setitem__(1, -4),
    "ids": lambda _, a: a.update(ids=a["ids"][:-1]),
    "radius": lambda _, a: a.update(radius=a["radius"][:-1]),
    "no norms": lambda _, a: a.pop("norms"),
    "no codes": lambda _, a: a.pop("codes"),
    "vectors": lambda _, a: a.update(vectors=a["codes"]),
    "centers": lambda _, a: a.update(centers=a["centers"][:, :-1]),
    "other books": lambda _, a: a["codebooks"].__iadd__(1),
    "strange": lambda _, a: a.update(__reduce__=a["ids"]),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_files_are_refused(tmp_path, name):
    """Whole files with good checksums whose arrays make no index."""
    shard = gpuann.updates.as_shard(build("ivf_pq turned"))
    about = shard_file.about(shard)
    named = {key: array.copy() for key, array in shard_file.arrays_of(shard).items()}
    FORGED[name](about, named)
    storage.write(tmp_path / "x", shard_file.KIND, about, named)
    for load in (
        lambda: gpuann.load(tmp_path / "x", device="cpu"),
        lambda: shards.load(tmp_path / "x", ["cpu", "cpu"]),
    ):
        with pytest.raises(ValueError, match=r"x must hold an index, got a damaged one: "):
            load()


def test_brute_force_without_rows_is_refused(tmp_path):
    """An inverted-file index may have none yet, brute force is its rows."""
    shard = gpuann.updates.as_shard(build("brute_force"))
    named = shard_file.arrays_of(shard)
    none = {name: named[name][:0] for name in ("ids", "norms", "vectors")}
    named |= none | {"offsets": named["offsets"] * 0}
    storage.write(tmp_path / "x", shard_file.KIND, shard_file.about(shard), named)
    for load in (gpuann.load, lambda path: shards.load(path, ["cpu"])):
        with pytest.raises(ValueError, match=r"x must hold an index, got a damaged one: no rows"):
            load(tmp_path / "x")


@pytest.mark.parametrize("about", [None, [], "index", [["dim", 3]]])
def test_a_description_that_is_none_is_refused(tmp_path, about):
    storage.write(tmp_path / "x", shard_file.KIND, about, {"ids": np.zeros(3, np.int64)})
    with pytest.raises(ValueError, match=r"a damaged one: its header cannot be understood"):
        gpuann.load(tmp_path / "x", device="cpu")


def test_another_kind(tmp_path):
    brute_force.save(tmp_path / "x", build("brute_force"))
    words = (
        "ivf_pq.load: .*x must hold an index of ivf_pq, got one of brute_force; load it with bru"
    )
    with pytest.raises(ValueError, match=words):
        ivf_pq.load(tmp_path / "x")
    with pytest.raises(ValueError, match="must be there, got no such file"):
        gpuann.load(tmp_path / "y", device="cpu")
    with pytest.raises(ValueError, match="must be the file of one index, got a folder; open"):
        gpuann.load(tmp_path, device="cpu")
    with pytest.raises(ValueError, match="must be the name of a file, got a folder"):
        brute_force.save(tmp_path, build("brute_force"))
    with pytest.raises(TypeError, match="filename must be a path, got int"):
        gpuann.load(3)
    (tmp_path / "z").write_bytes(b"hello, hello, hello")
    with pytest.raises(ValueError, match="got a damaged one: it is cut short, or no gpuann file"):
        gpuann.load(tmp_path / "z", device="cpu")


def written(folder, suffix):
    """A file, or a folder, that people take for an index."""
    path = folder / f"x{suffix}"
    if suffix == ".pkl":
        path.write_bytes(pickle.dumps({"rows": QUERIES}))
    elif suffix == ".npz":
        np.savez(path, rows=QUERIES)
    elif suffix == ".cuvs":
        with path.open("wb") as handle:
            np.lib.format.write_array(handle, np.array(4, np.int32))
            np.lib.format.write_array(handle, QUERIES)
    elif suffix == ".lance":  # known by its name; the library forbids this process to fork
        path.mkdir()
    else:
        io.write_vectors(path, QUERIES)
    return path


OTHERS = {
    ".npy": "an array of NumPy; gpuann.io.open_vectors reads it, and a build",
    ".hdf5": "an HDF5 file; gpuann.io.open_vectors",
    ".parquet": "a Parquet file; gpuann.io.open_vectors",
    ".arrow": "an Arrow file; gpuann.io.open_vectors",
    ".fbin": "vectors, by its name .fbin; gpuann.io.open_vectors",
    ".fvecs": "vectors, by its name .fvecs; gpuann.io.open_vectors",
    ".lance": "a Lance data set; gpuann.io.open_vectors",
    ".pkl": "a pickle; gpuann opens none, for it may run any code",
    ".npz": "a zip archive, as .npz and torch.save are; gpuann opens none",
    ".cuvs": "arrays of NumPy one behind the other, as cuVS writes an index; load it with cuVS",
}


@pytest.mark.parametrize("suffix", OTHERS)
def test_files_of_others_are_named_with_a_way_out(tmp_path, suffix):
    path = written(tmp_path, suffix)
    words = f"gpuann.load: {path} must be the file of a gpuann index, got {OTHERS[suffix]}"
    with pytest.raises(ValueError, match=re.escape(words)):
        gpuann.load(path, device="cpu")


@pytest.mark.parametrize(
    "line", ["Flat", "IVF4,Flat", "IVF4,PQ2x4", "IVF4,SQ8", "HNSW8", "PQ2x4", "OPQ2,IVF4,PQ2x4"]
)
def test_files_of_faiss_are_named_with_a_way_out(tmp_path, line):
    faiss = pytest.importorskip("faiss")
    index = faiss.index_factory(12, line)
    rows = np.random.default_rng(0).random((400, 12), np.float32)
    index.train(rows)
    index.add(rows)
    faiss.write_index(index, str(tmp_path / "x.ann"))
    words = "got an index of FAISS; gpuann.from_faiss(faiss.read_index(name)) takes it"
    with pytest.raises(ValueError, match=re.escape(words)):
        ivf_pq.load(tmp_path / "x.ann")


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_while_it_saves(tmp_path):
    """The old file stays whole, whenever the axe falls."""
    path, index = tmp_path / "x.ann", build("ivf_flat")
    ivf_flat.save(path, index)
    want = everything(index)
    code = f"""
import numpy as np, gpuann
rows = np.random.default_rng(0).random((40000, 64)).astype(np.float32)
index = gpuann.brute_force.build(rows, device="cpu")
print("ready", flush=True)
while True:
    gpuann.save({str(path)!r}, index)
    print("saved", flush=True)
"""
    for delay in (0.0, 0.01, 0.03):
        ivf_flat.save(path, index)
        command = [sys.executable, "-c", code]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout.readline() == "ready\n"
            time.sleep(delay)
            child.send_signal(signal.SIGKILL)
            saved = "saved" in child.stdout.read()
        found = gpuann.load(path, device="cpu")
        assert len(found) in (900, 40000)
        assert len(found) == 40000 or not saved
        if len(found) == 900:
            assert_same_knn(everything(found), want)


OLD = [path for path in sorted((HERE / "files").glob("v*.ann")) if "refined" not in path.name]


@pytest.mark.parametrize("path", OLD, ids=lambda p: p.name)
def test_files_of_every_version_stay_readable(path):
    """Made by `python -m tests.make_files`; the answers were noted then."""
    want = np.load(HERE / "files" / f"{path.name}.npz")
    index = gpuann.load(path, device="cpu")
    got = models.search(index, want["queries"], 5, n_probes=3)
    assert_same(got[1], want["ids"])
    assert_same(got[0], want["distances"])


def test_there_is_a_file_of_every_kind():
    names = {path.name for path in OLD}
    assert names == {f"v1_{kind.replace(' ', '_')}.ann" for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_one_file_on_several_devices(tmp_path, kind):
    index, module = build(kind), module_of(kind)
    module.save(tmp_path / "x.ann", index)
    three = shards.load(tmp_path / "x.ann", ["cpu"] * 3)
    params = None if kind == "brute_force" else module.SearchParams(n_probes=4)
    assert_same_knn(shards.search(params, three, QUERIES, 10), models.search(index, QUERIES, 10))
