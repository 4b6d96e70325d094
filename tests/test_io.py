"""Files of vectors: what is written is read, by others too; what is damaged is refused."""

import io as bytes_io
import struct
import subprocess
import sys
import tracemalloc

import models
import numpy as np
import pytest
from compare import assert_same, assert_same_knn

import gpuann
from gpuann import io

RNG = np.random.default_rng(3)
DTYPES = {
    ".npy": "float32",
    ".fvecs": "float32",
    ".bvecs": "uint8",
    ".ivecs": "int32",
    ".fbin": "float32",
    ".f16bin": "float16",
    ".u8bin": "uint8",
    ".i8bin": "int8",
    ".ibin": "int32",
    ".hdf5": "float32",
    ".h5": "int8",
    ".parquet": "float32",
    ".arrow": "float16",
    ".feather": "uint8",
}
RAW = [s for s in DTYPES if s not in (".hdf5", ".h5", ".parquet", ".arrow", ".feather")]


def rows_of(dtype, n=57, dim=9):
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return RNG.standard_normal((n, dim)).astype(dtype)
    low, high = (-100, 100) if dtype.kind == "i" else (0, 200)
    return RNG.integers(low, high, (n, dim)).astype(dtype)


def read(found):
    return found.whole() if isinstance(found, io.Chunks) else np.asarray(found)


@pytest.mark.parametrize("suffix", DTYPES)
def test_what_is_written_is_read(tmp_path, suffix):
    rows, path = rows_of(DTYPES[suffix]), tmp_path / f"x{suffix}"
    assert io.write_vectors(path, rows) == (57, 9)
    found = io.open_vectors(path)
    assert found.shape == (57, 9)
    assert found.dtype == rows.dtype
    assert_same(read(found), rows)
    again = rows[::-1]  # in place of the first, in chunks
    io.write_vectors(str(path), [again[:10], again[10:]])
    assert_same(read(io.open_vectors(str(path))), again)
    assert [p.name for p in tmp_path.iterdir()] == [f"x{suffix}"]


@pytest.mark.parametrize("suffix", [".fbin", ".f16bin", ".u8bin", ".i8bin", ".ibin"])
@pytest.mark.parametrize("bits", [32, 64])
def test_both_widths_of_the_header(tmp_path, suffix, bits):
    rows, path = rows_of(DTYPES[suffix]), tmp_path / f"x{suffix}"
    io.write_vectors(path, rows, header_bits=bits)
    head = struct.pack("<2I" if bits == 32 else "<2Q", 57, 9)
    assert path.read_bytes() == head + rows.tobytes()
    assert_same(read(io.open_vectors(path)), rows)


def test_texmex_rows_begin_with_their_length(tmp_path):
    for suffix in (".fvecs", ".bvecs", ".ivecs"):
        rows, path = rows_of(DTYPES[suffix], 3, 5), tmp_path / f"x{suffix}"
        want = b"".join(struct.pack("<i", 5) + row.tobytes() for row in rows)
        io.write_vectors(path, rows)
        assert path.read_bytes() == want


def test_other_readers(tmp_path):
    h5py, parquet = pytest.importorskip("h5py"), pytest.importorskip("pyarrow.parquet")
    rows = rows_of("float32")
    io.write_vectors(tmp_path / "x.npy", rows)
    assert_same(np.load(tmp_path / "x.npy"), rows)
    io.write_vectors(tmp_path / "x.hdf5", rows)
    io.write_vectors(tmp_path / "x.hdf5", rows[:5], column="test")
    with h5py.File(tmp_path / "x.hdf5") as file:
        assert_same(file["train"][:], rows)
        assert_same(file["test"][:], rows[:5])
    assert_same(io.open_vectors(tmp_path / "x.hdf5", column="test").whole(), rows[:5])
    io.write_vectors(tmp_path / "x.parquet", rows)
    found = parquet.read_table(tmp_path / "x.parquet")["vector"].to_pylist()
    assert_same(np.array(found, np.float32), rows)


def test_lists_of_any_length_that_are_all_alike(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = rows_of("float32")
    table = arrow.table(
        {"id": np.arange(57), "v": arrow.array(rows.tolist(), arrow.list_(arrow.float32()))}
    )
    parquet.write_table(table, tmp_path / "x.parquet", row_group_size=10)
    assert_same(io.open_vectors(tmp_path / "x.parquet").whole(), rows)
    two = table.append_column("w", table["v"])
    parquet.write_table(two, tmp_path / "y.parquet")
    with pytest.raises(ValueError, match=r"column must be named, of .* with columns of lists v, w"):
        io.open_vectors(tmp_path / "y.parquet")
    assert_same(io.open_vectors(tmp_path / "y.parquet", column="w").whole(), rows)
    with pytest.raises(ValueError, match=r"column must be one of v, w of .*, got 'id'"):
        io.open_vectors(tmp_path / "y.parquet", column="id")
    for bad, words in [
        ([[1.0, 2.0], [3.0]], "lists of another length"),
        ([[1.0, 2.0], None], "must have a list in every row, got none in row 1"),
        ([[1.0, None], [1.0, 2.0]], "must have a number in every place"),
    ]:
        ragged = arrow.table({"v": arrow.array(bad, arrow.list_(arrow.float32()))})
        parquet.write_table(ragged, tmp_path / "z.parquet")
        with pytest.raises(ValueError, match=words):
            read(io.open_vectors(tmp_path / "z.parquet"))


LANCE = """
import sys
from pathlib import Path
import numpy as np
from gpuann import io

rows, path = np.random.default_rng(0).random((57, 9), np.float32), sys.argv[1]
io.write_vectors(path, [rows[:20], rows[20:]])
found = io.open_vectors(path)
assert found.shape == (57, 9)
assert (found.whole() == rows).all()
io.write_vectors(path, rows[:5])

def failing():
    failing.times += 1
    yield rows[:7]
    if failing.times > 1:
        raise KeyboardInterrupt

for there in (path, path + "2.lance"):
    failing.times = 0
    try:
        io.write_vectors(there, failing)
    except BaseException as error:
        print(type(error).__name__)
    else:
        raise AssertionError("written")
assert [one.name for one in Path(path).parent.iterdir()] == [Path(path).name]
assert (io.open_vectors(path).whole() == rows[:5]).all()
"""


def test_lance(tmp_path):
    """In a process of its own: the library forbids others to fork."""
    subprocess.run([sys.executable, "-c", LANCE, tmp_path / "x.lance"], check=True)


@pytest.mark.parametrize("suffix", [".fvecs", ".fbin", ".hdf5", ".parquet", ".npy"])
def test_an_index_of_a_file(tmp_path, suffix):
    rows = RNG.standard_normal((700, 8)).astype(np.float32)
    io.write_vectors(tmp_path / f"x{suffix}", rows)
    found = io.open_vectors(tmp_path / f"x{suffix}")
    want = models.build("ivf_flat", rows, device="cpu")
    index = models.build("ivf_flat", found, device="cpu")
    queries = io.open_vectors(tmp_path / f"x{suffix}")
    assert_same_knn(models.search(index, queries, 5), models.search(want, rows, 5))


def test_a_file_is_not_held_whole(tmp_path):
    rows = RNG.standard_normal((40_000, 256)).astype(np.float32)  # 40 MB
    for suffix in (".fbin", ".fvecs"):
        io.write_vectors(tmp_path / f"x{suffix}", rows)
        tracemalloc.start()
        found = io.open_vectors(tmp_path / f"x{suffix}")
        some = np.asarray(found[30_000:30_010])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert_same(some, rows[30_000:30_010])
        assert peak < 1 << 20


@pytest.mark.parametrize("suffix", DTYPES)
def test_damaged_files_are_refused(tmp_path, suffix):
    """Flips, cuts and things put in: a clear error, or rows of the size that the file has."""
    path, rows = tmp_path / f"x{suffix}", rows_of(DTYPES[suffix], 30, 4)
    io.write_vectors(path, rows)
    data, rng = path.read_bytes(), np.random.default_rng(5)
    for turn in range(120):
        changed, at = (
            bytearray(data),
            int(rng.integers(len(data) if turn % 2 else min(len(data), 128))),
        )
        if turn % 5 == 4:
            changed = changed[:at]
        elif turn % 5 == 3:
            changed[at:at] = rng.bytes(int(rng.integers(1, 9)))
        else:
            changed[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        tracemalloc.start()
        try:
            found = read(io.open_vectors(path))
            assert found.nbytes <= 20 * len(data)
        except (ValueError, TypeError) as error:
            assert str(error).startswith("io.open_vectors: "), error
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 1 << 23


@pytest.mark.parametrize("suffix", RAW[1:])
def test_forged_headers(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    wide = 2**31 - 1
    for head in (
        struct.pack("<2I", 2**32 - 1, 2**32 - 1),
        struct.pack("<2i", -1, 4),
        struct.pack("<2i", wide, wide),
        struct.pack("<2Q", 2**63, 2**63),
        b"",
        b"\0" * 3,
        b"\0" * 64,
    ):
        path.write_bytes(head)
        with pytest.raises(ValueError, match="must be a whole file of its format, got a damaged"):
            io.open_vectors(path)


def test_npy_that_is_no_matrix(tmp_path):
    for array, words in [
        (np.ones(3), r"hold one array \(n, dim\), got \(3,\)"),
        (np.array([["a", "b"]]), "hold numbers, got <U1"),
    ]:
        np.save(tmp_path / "x.npy", array)
        with pytest.raises((ValueError, TypeError), match=words):
            io.open_vectors(tmp_path / "x.npy")
    buffer = bytes_io.BytesIO()
    np.save(buffer, np.array([[{}]], object), allow_pickle=True)
    (tmp_path / "x.npy").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="damaged"):  # nothing in it is executed
        io.open_vectors(tmp_path / "x.npy")


ERRORS = {
    "no rows": (lambda d: io.write_vectors(d / "x.fvecs", np.ones((0, 2))), "must be one at least"),
    "suffix": (lambda d: io.open_vectors(d / "x.txt"), "must end with one of .npy .fvecs"),
    "no folder": (
        lambda d: io.write_vectors(d / "none" / "x.npy", np.ones((2, 2))),
        "none must be a folder, got none of that name",
    ),
    "a folder": (
        lambda d: (d / "x.npy").mkdir() or io.write_vectors(d / "x.npy", np.ones((2, 2))),
        "x.npy must be the name of a file, got a folder",
    ),
    "nothing": (lambda d: io.open_vectors(d / "x.npy"), "must be there, got no such file"),
    "path": (lambda _: io.open_vectors(3), "path must be a path, got int"),
    "dtype": (
        lambda d: io.write_vectors(d / "x.fbin", np.ones((2, 2))),
        "rows must be float32 for .fbin, got float64; convert it with rows.astype",
    ),
    "axes": (lambda d: io.write_vectors(d / "x.npy", np.ones(2)), r"shape \(n, dim\), got \(2,\)"),
    "objects": (lambda d: io.write_vectors(d / "x.npy", np.array([["a"]])), "rows must be one of"),
    "bits": (
        lambda d: io.write_vectors(d / "x.fbin", np.ones((2, 2)), header_bits=16),
        "header_bits must be 32 or 64, got 16",
    ),
    "ragged": (
        lambda d: io.write_vectors(d / "x.npy", [np.ones((2, 2)), np.ones((2, 3))]),
        r"every chunk of rows must have shape \(n, 2\), got \(2, 3\)",
    ),
    "column": (
        lambda d: io.open_vectors(_saved(d), column="x"),
        "column must be None for .npy, got 'x'",
    ),
}


def _saved(folder):
    io.write_vectors(folder / "there.npy", np.ones((2, 2)))
    return folder / "there.npy"


@pytest.mark.parametrize("name", ERRORS)
def test_errors(tmp_path, name):
    call, words = ERRORS[name]
    with pytest.raises((ValueError, TypeError), match=words):
        call(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    for suffix in DTYPES:
        rows, path = rows_of(DTYPES[suffix]), tmp_path / f"x{suffix}"
        io.write_vectors(path, rows)
        times = []

        def chunks(rows=rows, times=times):
            times.append(1)
            yield rows[:3]
            if len(times) > 1:
                raise RuntimeError("no more")

        with pytest.raises(RuntimeError, match="no more"):
            io.write_vectors(path, chunks)
        assert_same(read(io.open_vectors(path)), rows)
    assert len(list(tmp_path.iterdir())) == len(DTYPES)


def test_bfloat16():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    rows = RNG.standard_normal((500, 8)).astype(ml_dtypes.bfloat16)
    wide = rows.astype(np.float32)
    for kind in models.KINDS:
        index = models.build(kind, rows, device="cpu")
        want = models.search(models.build(kind, wide, device="cpu"), wide, 5)
        assert_same_knn(models.search(index, rows, 5), want)
    assert gpuann.io is io
