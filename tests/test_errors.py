"""What users get wrong: each message names place, argument, rule, value and way out."""

import models
import numpy as np
import pytest

import gpuann
from gpuann import BackendError, brute_force, ivf_flat, ivf_pq, kmeans

ROWS = np.random.default_rng(0).standard_normal((60, 8), dtype=np.float32)
FLAT = models.build("ivf_flat", ROWS, n_lists=4)
PQ = models.build("ivf_pq", ROWS, n_lists=4)
EXACT = models.build("brute_force", ROWS)


def params(**more):
    return ivf_pq.IndexParams(**{"n_lists": 4, **more})


def rows(**changes):
    """ROWS with changes: `at` (row, column) set to `value`, or another dtype."""
    out = ROWS.copy()
    if "at" in changes:
        out[changes["at"]] = changes["value"]
    return out.astype(changes.get("dtype", np.float32))


def used_up():
    """A function that returns the same iterator twice."""
    chunks = iter([ROWS[:30], ROWS[30:]])
    return lambda: chunks


SEARCH = ivf_pq.SearchParams()

CASES = {
    # parameters
    "pq_bits 9": (
        lambda: params(pq_bits=9),
        ValueError,
        "ivf_pq.IndexParams: pq_bits must be between 4 and 8, got 9",
    ),
    "pq_bits 3": (
        lambda: params(pq_bits=3),
        ValueError,
        "ivf_pq.IndexParams: pq_bits must be between 4 and 8, got 3",
    ),
    "n_lists 0": (
        lambda: params(n_lists=0),
        ValueError,
        "ivf_pq.IndexParams: n_lists must be at least 1, got 0",
    ),
    "n_lists float": (
        lambda: ivf_flat.IndexParams(n_lists=2.5),
        TypeError,
        "ivf_flat.IndexParams: n_lists must be an integer, got 2.5",
    ),
    "n_lists bool": (
        lambda: ivf_flat.IndexParams(n_lists=True),
        TypeError,
        "n_lists must be an integer, got True",
    ),
    "fraction": (
        lambda: params(kmeans_trainset_fraction=1.5),
        ValueError,
        "kmeans_trainset_fraction must be above 0 and at most 1, got 1.5",
    ),
    "fraction type": (
        lambda: params(kmeans_trainset_fraction="all"),
        TypeError,
        "kmeans_trainset_fraction must be a number, got 'all'",
    ),
    "metric": (
        lambda: params(metric="l3"),
        ValueError,
        (
            "ivf_pq.IndexParams: metric must be one of sqeuclidean, euclidean, inner_product, "
            "cosine, got 'l3'"
        ),
    ),
    "brute force metric": (
        lambda: brute_force.build(ROWS, "canberra"),
        ValueError,
        "brute_force.build: metric must be one of sqeuclidean",
    ),
    "seed": (lambda: params(seed=-1), ValueError, "seed must be at least 0, got -1"),
    "n_probes 0": (
        lambda: ivf_flat.SearchParams(n_probes=0),
        ValueError,
        "ivf_flat.SearchParams: n_probes must be at least 1, got 0",
    ),
    "workspace": (
        lambda: ivf_flat.SearchParams(workspace_limit=5),
        ValueError,
        "workspace_limit must be at least 134217728, got 5",
    ),
    "positional parameters": (lambda: ivf_flat.IndexParams(8), TypeError, "positional"),
    # data sets
    "empty": (
        lambda: ivf_pq.build(params(), ROWS[:0]),
        ValueError,
        "ivf_pq.build: dataset must have at least one row, got (0, 8)",
    ),
    "rank 1": (
        lambda: ivf_pq.build(params(), ROWS[0]),
        ValueError,
        "ivf_pq.build: dataset must have shape (n, dim), got (8,)",
    ),
    "rank 3": (
        lambda: brute_force.build(ROWS[None]),
        ValueError,
        "brute_force.build: dataset must have shape (n, dim), got (1, 60, 8)",
    ),
    "no columns": (
        lambda: brute_force.build(ROWS[:, :0]),
        ValueError,
        "dataset must have shape (n, dim), got (60, 0)",
    ),
    "float64": (
        lambda: ivf_flat.build(ivf_flat.IndexParams(n_lists=4), rows(dtype=np.float64)),
        TypeError,
        (
            "ivf_flat.build: dataset must be float32, float16, int8 or uint8, got "
            "float64; convert it with dataset.astype(numpy.float32)"
        ),
    ),
    "objects": (lambda: brute_force.build(np.array([[None]])), TypeError, "got object"),
    "text": (
        lambda: brute_force.build("words"),
        TypeError,
        "brute_force.build: dataset must be an array, got str",
    ),
    "nothing": (lambda: brute_force.build(None), TypeError, "must be an array, got NoneType"),
    "NaN": (
        lambda: ivf_pq.build(params(), rows(at=(7, 3), value=np.nan)),
        ValueError,
        (
            "ivf_pq.build: dataset must be finite and at most 1.13e+15 in magnitude, got nan in "
            "row 7, column 3"
        ),
    ),
    "inf": (
        lambda: brute_force.build(rows(at=(59, 0), value=-np.inf)),
        ValueError,
        "got -inf in row 59, column 0",
    ),
    "NaN in float16": (
        lambda: brute_force.build(rows(at=(5, 1), value=np.nan, dtype=np.float16)),
        ValueError,
        "got nan in row 5, column 1",
    ),
    "huge": (lambda: brute_force.build(rows(at=(2, 2), value=1e20)), ValueError, "in row 2, col"),
    "NaN in a chunk": (
        lambda: ivf_flat.build(
            ivf_flat.IndexParams(n_lists=2), [ROWS, rows(at=(1, 4), value=np.nan)]
        ),
        ValueError,
        "got nan in row 61, column 4",
    ),
    "chunks of two widths": (
        lambda: brute_force.build([ROWS, ROWS[:, :5]]),
        ValueError,
        "every chunk of dataset must have shape (n, 8), got (60, 5)",
    ),
    "chunks of two dtypes": (
        lambda: brute_force.build([ROWS, rows(dtype=np.float16)]),
        TypeError,
        "every chunk of dataset must be float32, got float16",
    ),
    "no chunks": (
        lambda: brute_force.build(iter([])),
        ValueError,
        "dataset must have at least one chunk, got none",
    ),
    "n_lists > rows": (
        lambda: ivf_flat.build(ivf_flat.IndexParams(n_lists=61), ROWS),
        ValueError,
        ("ivf_flat.build: n_lists must be at most the 60 rows of dataset, got 61; use n_lists=8"),
    ),
    "pq_dim > dim": (
        lambda: ivf_pq.build(params(pq_dim=9), ROWS),
        ValueError,
        "ivf_pq.build: pq_dim must be at most dim, 8, got 9",
    ),
    "centers": (
        lambda: ivf_flat.build_precomputed(ivf_flat.IndexParams(n_lists=4), ROWS, ROWS[:3]),
        ValueError,
        "centers must have n_lists=4 rows, got 3",
    ),
    "codebooks": (
        lambda: ivf_pq.build_precomputed(
            params(), ROWS, ROWS[:4], np.zeros((8, 2, 256), np.float32)
        ),
        ValueError,
        "pq_centers must have shape (8, 256, 1), got (8, 2, 256)",
    ),
    "codebook dtype": (
        lambda: ivf_pq.build_precomputed(params(), ROWS, ROWS[:4], np.zeros((8, 256, 1))),
        TypeError,
        "pq_centers must be float32, got float64",
    ),
    # searches
    "wrong dim": (
        lambda: ivf_pq.search(SEARCH, PQ, np.zeros((10, 128), np.float32), 5),
        ValueError,
        "ivf_pq.search: queries must have shape (n, 8), got (10, 128)",
    ),
    "one query": (
        lambda: ivf_flat.search(ivf_flat.SearchParams(), FLAT, ROWS[0], 5),
        ValueError,
        (
            "ivf_flat.search: queries must have shape (n, 8), got (8,); pass "
            "queries[None, :] for a single row"
        ),
    ),
    "NaN query": (
        lambda: brute_force.search(EXACT, rows(at=(3, 0), value=np.nan), 5),
        ValueError,
        (
            "brute_force.search: queries must be finite and at most 1.13e+15 in magnitude, "
            "got nan in row 3, column 0"
        ),
    ),
    "query dtype": (
        lambda: brute_force.search(EXACT, rows(dtype=np.int32), 5),
        TypeError,
        "queries must be float32, float16, int8 or uint8, got int32",
    ),
    "k 0": (
        lambda: ivf_pq.search(SEARCH, PQ, ROWS, 0),
        ValueError,
        "ivf_pq.search: k must be at least 1, got 0",
    ),
    "k float": (
        lambda: brute_force.search(EXACT, ROWS, 2.0),
        TypeError,
        "brute_force.search: k must be an integer, got 2.0",
    ),
    "ids shape": (
        lambda: brute_force.search(EXACT, ROWS, 5, np.empty((60, 4), np.int64)),
        ValueError,
        "neighbors must have shape (60, 5), got (60, 4)",
    ),
    "ids dtype": (
        lambda: brute_force.search(EXACT, ROWS, 5, np.empty((60, 5), np.int32)),
        TypeError,
        "neighbors must be int64, got int32",
    ),
    "ids list": (
        lambda: brute_force.search(EXACT, ROWS, 5, [1]),
        TypeError,
        "neighbors must be a NumPy array, got list",
    ),
    # refine
    "candidates shape": (
        lambda: gpuann.refine(ROWS, ROWS, np.zeros((3, 4), int)),
        ValueError,
        "refine: candidates must have shape (60, n_candidates), got (3, 4)",
    ),
    "candidates range": (
        lambda: gpuann.refine(ROWS, ROWS[:1], np.array([[0, 60]])),
        ValueError,
        "refine: candidates must lie in [0, 60) or be -1, got 60",
    ),
    "candidates below": (
        lambda: gpuann.refine(ROWS, ROWS[:1], np.array([[0, -2]])),
        ValueError,
        "got -2",
    ),
    "candidates dtype": (
        lambda: gpuann.refine(ROWS, ROWS[:1], np.zeros((1, 4))),
        TypeError,
        "candidates must be integers, got float64",
    ),
    "refine NaN": (
        lambda: gpuann.refine(rows(at=(4, 4), value=np.nan), ROWS[:1], [[4]]),
        ValueError,
        "refine: dataset must be finite",
    ),
    # k-means
    "clusters > rows": (
        lambda: kmeans.fit(kmeans.KMeansParams(n_clusters=61), ROWS),
        ValueError,
        "kmeans.fit: n_clusters must be at most the 60 rows of X, got 61",
    ),
    "init": (
        lambda: kmeans.KMeansParams(init_method="k-means++"),
        ValueError,
        "init_method must be one of Random, KMeansPlusPlus, Array, got 'k-means++'",
    ),
    "Array without": (
        lambda: kmeans.fit(kmeans.KMeansParams(init_method="Array"), ROWS),
        ValueError,
        'centroids must be given with init_method="Array", got None',
    ),
    "centroids without": (
        lambda: kmeans.fit(kmeans.KMeansParams(), ROWS, ROWS[:8]),
        ValueError,
        'centroids must come with init_method="Array", got Random',
    ),
    "centroids number": (
        lambda: kmeans.fit(kmeans.KMeansParams(init_method="Array"), ROWS, ROWS[:3]),
        ValueError,
        "centroids must have 8 rows, got 3",
    ),
    "k-means metric": (
        lambda: kmeans.KMeansParams(metric="cosine"),
        ValueError,
        "kmeans.KMeansParams: metric must be one of sqeuclidean, got 'cosine'",
    ),
    # things of the wrong kind
    "params of another": (
        lambda: ivf_pq.build(ivf_flat.IndexParams(), ROWS),
        TypeError,
        "ivf_pq.build: index_params must be ivf_pq.IndexParams, got ivf_flat.IndexParams",
    ),
    "swapped": (
        lambda: ivf_flat.search(FLAT, ivf_flat.SearchParams(), ROWS, 5),
        TypeError,
        "ivf_flat.search: search_params must be ivf_flat.SearchParams, got ivf_flat.Index",
    ),
    "another index": (
        lambda: ivf_pq.search(SEARCH, FLAT, ROWS, 5),
        TypeError,
        "ivf_pq.search: index must be ivf_pq.Index, got ivf_flat.Index",
    ),
    "no index": (
        lambda: brute_force.search(ROWS, ROWS, 5),
        TypeError,
        "brute_force.search: index must be brute_force.Index, got numpy.ndarray",
    ),
    "no params": (
        lambda: kmeans.fit(None, ROWS),
        TypeError,
        "kmeans.fit: params must be kmeans.KMeansParams, got builtins.NoneType",
    ),
    "huge k": (
        lambda: brute_force.search(EXACT, ROWS, 2**62),
        ValueError,
        "brute_force.search: k must be at most 2147483647, got 4611686018427387904",
    ),
    "workspace of brute force": (
        lambda: brute_force.search(EXACT, ROWS, 5, workspace_limit=-5),
        ValueError,
        "brute_force.search: workspace_limit must be at least 134217728, got -5",
    ),
    "threads float": (
        lambda: gpuann.set_num_threads(2.5),
        TypeError,
        "gpuann.set_num_threads: n must be an integer, got 2.5",
    ),
    "masked": (
        lambda: brute_force.build(np.ma.masked_array(ROWS, ROWS > 0)),
        TypeError,
        "dataset must be an array without a mask, got a masked array",
    ),
    "ragged": (
        lambda: brute_force.build([[1.0, 2.0], [3.0]]),
        ValueError,
        "dataset must have rows of one length, got a ragged list",
    ),
    "read-only ids": (
        lambda: brute_force.search(EXACT, ROWS, 5, np.broadcast_to(np.int64(0), (60, 5))),
        ValueError,
        "neighbors must be writeable, got a read-only array",
    ),
    "used up": (
        lambda: ivf_flat.build(ivf_flat.IndexParams(n_lists=2), used_up()),
        ValueError,
        "dataset must give the same 60 rows each time it is read, got 0 rows; a function must",
    ),
    "refine NaN far in": (
        lambda: gpuann.refine(rows(at=(44, 4), value=np.nan), ROWS[:1], [[3, 44]]),
        ValueError,
        "got nan in row 44, column 4",
    ),
    # devices
    "cuda": (
        lambda: ivf_pq.build(params(), ROWS, device="cuda"),
        BackendError,
        'ivf_pq.build: device "cuda" must have CuPy and a CUDA device, got no CUDA device',
    ),
    "cuda:1": (lambda: brute_force.build(ROWS, device="cuda:1"), BackendError, 'use device="cpu"'),
    "device": (
        lambda: brute_force.build(ROWS, device="gpu"),
        ValueError,
        'brute_force.build: device must be "cpu", "cuda" or "cuda:N", got \'gpu\'',
    ),
    "device number": (lambda: brute_force.build(ROWS, device="cuda:x"), ValueError, "got 'cuda:x'"),
    "device type": (lambda: brute_force.build(ROWS, device=0), ValueError, "got 0"),
}


@pytest.mark.parametrize("case", CASES)
def test_message(case):
    call, kind, text = CASES[case]
    with pytest.raises(kind) as caught:
        call()
    assert text in str(caught.value)


def test_device_from_the_environment(monkeypatch):
    monkeypatch.setenv("GPUANN_DEVICE", "cpu")
    assert models.build("ivf_flat", ROWS, n_lists=2).device == "cpu"
    monkeypatch.setenv("GPUANN_DEVICE", "cuda")
    with pytest.raises(BackendError, match="CUDA"):
        brute_force.build(ROWS)
    assert brute_force.build(ROWS, device="cpu").device == "cpu"


def test_parameters_are_frozen_and_readable():
    assert repr(ivf_flat.SearchParams(n_probes=7)) == (
        "SearchParams(n_probes=7, workspace_limit=1073741824)"
    )
    with pytest.raises(AttributeError):
        ivf_flat.SearchParams().n_probes = 3


@pytest.mark.parametrize("number", [np.int64(4), np.uint8(4)])
def test_numpy_integers_are_integers(number):
    assert ivf_flat.IndexParams(n_lists=number).n_lists == 4
    assert brute_force.search(EXACT, ROWS, number)[1].shape == (60, 4)


def test_nothing_is_written_before_all_outputs_are_checked():
    distances = np.full((60, 5), 7, np.float32)
    with pytest.raises(TypeError, match="neighbors must be int64"):
        brute_force.search(EXACT, ROWS, 5, np.empty((60, 5), np.int32), distances)
    assert (distances == 7).all()


@pytest.mark.parametrize("small", [np.int16(200), np.uint8(200)])
def test_small_numpy_integers_do_not_overflow(small):
    rows = np.random.default_rng(1).standard_normal((400, 4), dtype=np.float32)
    index = ivf_flat.build(ivf_flat.IndexParams(n_lists=small, kmeans_n_iters=np.uint8(2)), rows)
    found = ivf_flat.search(ivf_flat.SearchParams(n_probes=np.uint8(255)), index, rows, 1)
    assert (found[1][:, 0] == np.arange(400)).all()
