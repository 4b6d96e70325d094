"""Writes the files that later versions must be able to read: once for each format version.

python tests/make_files.py, from the project's folder
"""

import pathlib

import models
import numpy as np
from test_updates import KINDS, QUERIES, ROWS, build, module_of

from gpuann import ivf_pq, refined, storage

HERE = pathlib.Path(__file__).parent / "files"


def main():
    HERE.mkdir(exist_ok=True)
    for kind in KINDS:
        index, queries = build(kind, ROWS[:200]), QUERIES[:6]
        path = HERE / f"v{storage.VERSION}_{kind.replace(' ', '_')}.ann"
        module_of(kind).save(path, index)
        dists, ids = models.search(index, queries, 5, n_probes=3)
        np.savez(f"{path}.npz", queries=queries, distances=dists, ids=ids)
    index = refined.delete(refined.build(build("ivf_pq", ROWS[:200]), ROWS[:200]), [199, 50])
    path = HERE / f"v{storage.VERSION}_refined.ann"
    refined.save(path, index)
    dists, ids = refined.search(ivf_pq.SearchParams(n_probes=3), index, queries, 5, k_factor=4)
    np.savez(f"{path}.npz", queries=queries, distances=dists, ids=ids)


if __name__ == "__main__":
    main()
