"""A build on a cluster from a Lance data set, fragment by fragment."""

import subprocess
import sys

FROM_LANCE = """
import sys
from pathlib import Path

import lance, numpy as np, pyarrow
from distributed import Client, LocalCluster

from gpuann import brute_force, dask, shards

def main(place):
    rows = np.random.default_rng(0).standard_normal((500, 8), dtype=np.float32)
    flat = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.ravel()), 8)
    table = pyarrow.table({"v": flat})
    lance.write_dataset(table, place / "x.lance", max_rows_per_file=150)
    options = {"threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(n_workers=2, **options) as cluster, Client(cluster) as client:
        made = dask.build("sqeuclidean", place / "x.lance", place / "y", client=client, n_shards=2)
    assert made.n_rows == 500, made
    found = shards.search(None, shards.load(place / "y", ["cpu"]), rows[:20], 5)
    want = brute_force.search(brute_force.build(rows, device="cpu"), rows[:20], 5)
    assert all((a == b).all() for a, b in zip(found, want, strict=True))

if __name__ == "__main__":
    main(Path(sys.argv[1]))
"""


def test_a_lance_data_set_is_built_by_its_fragments(tmp_path):
    """In a process of its own: the library forbids others to fork."""
    (tmp_path / "script.py").write_text(FROM_LANCE)
    subprocess.run([sys.executable, "script.py", tmp_path], check=True, cwd=tmp_path, timeout=100)
