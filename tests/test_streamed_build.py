"""Builds that never hold the data: the same index from any source, whole or not there."""

import numpy as np
import pytest
from compare import assert_same, assert_same_knn

from bench.data import clustered
from gpuann import brute_force, ivf_flat, ivf_pq, shards, streamed
from gpuann.partitioned import streamed_build
from gpuann.partitioned.streamed_build import LEAST_MEMORY

ROOM = LEAST_MEMORY - streamed_build._TILES

ROWS, QUERIES = clustered(3000, 16, 40)
KINDS = {
    "brute_force": ("inner_product", None),
    "ivf_flat": (ivf_flat.IndexParams(n_lists=20), ivf_flat.SearchParams(n_probes=20)),
    "ivf_pq": (
        ivf_pq.IndexParams(n_lists=20, pq_dim=8, kmeans_n_iters=4),
        ivf_pq.SearchParams(n_probes=6),
    ),
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Shards of some hundred rows and chunks of 100: what a large data set meets."""
    monkeypatch.setattr(streamed_build, "_SHARD", 100_000 / ROOM)
    monkeypatch.setattr(streamed_build, "_CHUNK", 6400 / ROOM)


def build(kind, data, folder, **more):
    more = {"memory_limit": LEAST_MEMORY, "device": "cpu", **more}
    return streamed.build(KINDS[kind][0], data, folder, **more)


def search(kind, folder):
    index = streamed.open(folder, device="cpu", block_bytes=20_000)
    return streamed.search(KINDS[kind][1], index, QUERIES, 10)


def chunks():
    return iter([ROWS[:1], ROWS[1:700], ROWS[700:2500], ROWS[2500:]])


@pytest.mark.parametrize("kind", KINDS)
def test_any_source_gives_the_same_index(tmp_path, kind):
    made = build(kind, ROWS, tmp_path / "0")
    assert made.n_rows == 3000
    assert (len(made.shards) > 3) == (kind == "brute_force"), "others are merged"
    want = search(kind, tmp_path / "0")
    with_empty = iter([*chunks(), ROWS[:0]])
    sources = [chunks, list(chunks()), chunks(), ROWS[:, ::-1][:, ::-1], with_empty]
    for number, data in enumerate(sources, 1):
        folder = tmp_path / str(number)
        build(kind, data, folder)
        assert_same_knn(search(kind, folder), want)
        names = sorted(p.name for p in folder.iterdir())
        assert len(names) == len(made.shards) + 2, "manifest and lock, no copy of the data is left"
    loaded = shards.load(tmp_path / "0", ["cpu"] * 2)
    assert_same_knn(shards.search(KINDS[kind][1], loaded, QUERIES, 10), want)


def test_exact_searches_are_exact(tmp_path):
    for kind, metric in [("brute_force", "inner_product"), ("ivf_flat", "sqeuclidean")]:
        build(kind, ROWS, tmp_path / kind)
        exact = brute_force.build(ROWS, metric, device="cpu")
        assert_same_knn(search(kind, tmp_path / kind), brute_force.search(exact, QUERIES, 10))


def test_rows_that_are_not_finite(tmp_path):
    bad = ROWS.copy()
    bad[[5, 2900]] = np.nan
    bad[1000:1900] = np.inf  # more than a shard
    with pytest.raises(ValueError, match=r"streamed.build: dataset .* in row 5, column 0"):
        build("ivf_flat", bad, tmp_path / "a")
    made = build("ivf_flat", bad, tmp_path / "a", non_finite="drop")
    assert made.n_rows == 3000 - 902
    _, ids = search("ivf_flat", tmp_path / "a")
    left = np.isfinite(bad).all(axis=1)
    exact = brute_force.search(brute_force.build(bad[left], device="cpu"), QUERIES, 10)
    assert_same(ids, np.flatnonzero(left)[exact[1]])


def test_a_failed_build_leaves_the_folder_as_it_was(tmp_path):
    build("ivf_flat", ROWS[:500], tmp_path)
    before, want = sorted(tmp_path.iterdir()), search("ivf_flat", tmp_path)
    with pytest.raises(ValueError, match=r"have no index yet, got manifest.json; use replace=True"):
        build("ivf_flat", ROWS, tmp_path)
    reads = []

    def breaks():
        reads.append(1)
        yield from [ROWS[:1500], ROWS[1500:]]
        if len(reads) == 4:
            raise OSError("the network is gone")

    with pytest.raises(OSError, match="the network"):
        build("ivf_flat", breaks, tmp_path, replace=True)
    assert sorted(tmp_path.iterdir()) == before
    assert_same_knn(search("ivf_flat", tmp_path), want)
    build("ivf_flat", ROWS, tmp_path, replace=True)
    assert len(streamed.open(tmp_path, device="cpu")) == 3000


def test_the_sample_is_what_memory_holds(tmp_path, monkeypatch):
    sizes = []
    train = streamed_build.training.train_sample

    def noted(backend, sample, *more, **named):
        sizes.append(len(sample.x))
        return train(backend, sample, *more, **named)

    monkeypatch.setattr(streamed_build.training, "train_sample", noted)
    build("ivf_flat", ROWS, tmp_path / "a")
    monkeypatch.setattr(streamed_build, "_SAMPLE", 64 * 300 / ROOM)
    build("ivf_flat", ROWS, tmp_path / "b")
    assert sizes == [1500, 300]


ERRORS = {
    "memory": ({"memory_limit": 1000}, "memory_limit must be at least 268435456, got 1000"),
    "non_finite": ({"non_finite": "keep"}, "non_finite must be one of raise, drop"),
    "device": ({"device": "tpu"}, "device must be"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_messages(tmp_path, case):
    more, text = ERRORS[case]
    with pytest.raises(ValueError, match=text):
        build("ivf_flat", ROWS, tmp_path, **more)


def test_more_messages(tmp_path):
    wide = ivf_flat.IndexParams(n_lists=600_000)
    with pytest.raises(ValueError, match=r"memory_limit must be at least .* for n_lists=600000"):
        streamed.build(wide, ROWS, tmp_path, memory_limit=LEAST_MEMORY, device="cpu")
    many = ivf_flat.IndexParams(n_lists=4000)
    with pytest.raises(ValueError, match="n_lists must be at most the 3000 rows of dataset"):
        streamed.build(many, ROWS, tmp_path, device="cpu")
    with pytest.raises(ValueError, match="metric must be one of"):
        streamed.build("l2", ROWS, tmp_path, device="cpu")
    with pytest.raises(TypeError, match="every chunk of dataset must be float32, got float16"):
        build("ivf_flat", iter([ROWS[:9], ROWS[9:].astype(np.float16)]), tmp_path)
    with pytest.raises(ValueError, match=r"every chunk of dataset must have shape \(n, 16\)"):
        build("ivf_flat", iter([ROWS[:9], ROWS[9:, :3]]), tmp_path)
    with pytest.raises(ValueError, match="have at least one chunk, got none"):
        build("ivf_flat", iter([]), tmp_path)
    with pytest.raises(ValueError, match="dataset must have a row that is finite, got none"):
        streamed.build("cosine", ROWS[:9] * np.nan, tmp_path, non_finite="drop", device="cpu")
    assert not list(tmp_path.glob("*")), "nothing is left"


def test_two_builds_into_one_folder(tmp_path, monkeypatch):
    """Without replace=True the later one is refused, though there was no index when it began."""
    change = streamed_build.change

    def late(*more, **named):
        monkeypatch.setattr(streamed_build, "change", change)
        build("ivf_flat", ROWS[:500], tmp_path)
        return change(*more, **named)

    monkeypatch.setattr(streamed_build, "change", late)
    with pytest.raises(ValueError, match="have no index yet"):
        build("ivf_flat", ROWS, tmp_path)
    assert len(streamed.open(tmp_path, device="cpu")) == 500
    assert len(list(tmp_path.glob("shard-*"))) == 1
