"""Files in pieces: together they are the file, wherever and in whichever order they are opened."""

import pickle
import subprocess
import sys

import numpy as np
import pyarrow
import pytest
from compare import assert_same
from pyarrow import parquet

from gpuann import io

ROWS = np.random.default_rng(5).standard_normal((40_000, 8)).astype(np.float32)


def opened(piece):
    found = piece.open()
    return found.whole() if isinstance(found, io.Chunks) else np.asarray(found)


def write(path):
    if path.suffix == ".parquet":
        rows = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(ROWS.ravel()), 8)
        parquet.write_table(pyarrow.table({"v": rows}), path, row_group_size=13_000)
    else:
        io.write_vectors(path, ROWS)


@pytest.mark.parametrize(
    ("suffix", "sizes"),
    [
        (".npy", [8192] * 4 + [7232]),
        (".fvecs", [8192] * 4 + [7232]),
        (".fbin", [8192] * 4 + [7232]),
        (".hdf5", [8192] * 4 + [7232]),
        (".arrow", [40_000]),
        (".parquet", [13_000] * 3 + [1000]),
    ],
)
def test_the_pieces_are_the_file(tmp_path, suffix, sizes):
    path = tmp_path / f"rows{suffix}"
    write(path)
    cut = pickle.loads(pickle.dumps(io.pieces(path)))
    assert [piece.n_rows for piece in cut] == sizes
    assert [piece.first for piece in cut] == np.cumsum([0, *sizes])[:-1].tolist()
    backwards = [opened(piece) for piece in reversed(cut)]
    assert_same(np.concatenate(backwards[::-1]), ROWS)


LANCE = """
import pickle, sys
import lance, numpy as np, pyarrow
from gpuann import io
path, want = sys.argv[1], np.arange(4000, dtype=np.float32).reshape(500, 8)
rows = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(want.ravel()), 8)
lance.write_dataset(pyarrow.table({"v": rows}), path, max_rows_per_file=150)
cut = pickle.loads(pickle.dumps(io.pieces(path)))
assert [piece.n_rows for piece in cut] == [150, 150, 150, 50], cut
got = [piece.open().whole() for piece in reversed(cut)][::-1]
assert (np.concatenate(got) == want).all()
"""


def test_pieces_of_lance_are_its_fragments(tmp_path):
    """In a process of its own: the library forbids others to fork."""
    subprocess.run([sys.executable, "-c", LANCE, tmp_path / "x.lance"], check=True)


def test_a_piece_is_small_where_the_file_is_large(tmp_path):
    io.write_vectors(tmp_path / "rows.npy", ROWS)
    assert len(io.pieces(tmp_path / "rows.npy", most_bytes=100 * 8 * 4)) == 400
    assert len(io.pieces(tmp_path / "rows.npy", most_bytes=1)) == 40_000


def test_a_file_that_changed_is_refused(tmp_path):
    path = tmp_path / "rows.npy"
    io.write_vectors(path, ROWS)
    last = io.pieces(path)[-1]
    io.write_vectors(path, ROWS[:4500])
    with pytest.raises(ValueError, match="be as it was when it was cut"):
        last.open()
