"""Arguments of cuVS that mean nothing here: taken where they change no answer, else refused."""

import numpy as np
import pytest
from compare import assert_same_knn

import gpuann
from gpuann import brute_force, ivf_flat, ivf_pq, ivf_sq, kmeans, refine, shards

ACCEPTED = {
    "ivf_flat.IndexParams": {
        "metric_arg": [2.0, 2, np.float32(2)],
        "adaptive_centers": [False],
        "add_data_on_build": [True, False],
        "conservative_memory_allocation": [False, True],
    },
    "ivf_sq.IndexParams": {"metric_arg": [2.0], "add_data_on_build": [True, False]},
    "ivf_pq.IndexParams": {
        "codebook_kind": ["subspace"],
        "codes_layout": ["interleaved", "flat"],
        "conservative_memory_allocation": [False, True],
    },
    "ivf_pq.SearchParams": {
        "lut_dtype": [np.float32, np.float16, np.uint8, "float16", np.dtype("uint8")],
        "internal_distance_dtype": [np.float32, np.float16],
        "coarse_search_dtype": [np.float32, np.float16, np.int8],
        "max_internal_batch_size": [4096, 1],
    },
    "kmeans.KMeansParams": {
        "n_init": [1, np.int64(1)],
        "hierarchical": [False],
        "oversampling_factor": [2.0, 0.0],
        "batch_samples": [32768],
        "batch_centroids": [0],
        "init_size": [0],
        "device_buffer_samples": [0],
        "hierarchical_n_iters": [20],
    },
}
ROWS = np.random.default_rng(1).random((300, 10), np.float32)
SMALL = {
    "ivf_flat": ivf_flat.build(ivf_flat.IndexParams(n_lists=4), ROWS),
    "ivf_pq": ivf_pq.build(ivf_pq.IndexParams(n_lists=4, pq_bits=4), ROWS),
    "brute_force": brute_force.build(ROWS),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_changes_no_answer_is_taken(name):
    kind, _, called = name.partition(".")
    params = getattr(getattr(gpuann, kind), called)
    for argument, values in ACCEPTED[name].items():
        for value in values:
            assert getattr(params(**{argument: value}), argument) == value
    assert "metric_arg" not in repr(params()), "what has no effect is not shown"


def test_tables_of_any_dtype_give_the_exact_answer():
    index, tuned = SMALL["ivf_pq"], {"lut_dtype": np.uint8, "coarse_search_dtype": np.int8}
    asked = ivf_pq.SearchParams(n_probes=2)
    want = ivf_pq.search(asked, index, ROWS, 5)
    asked = ivf_pq.SearchParams(n_probes=2, **tuned, internal_distance_dtype=np.float16)
    assert_same_knn(ivf_pq.search(asked, index, ROWS, 5), want)


REFUSED = {
    "codebook_kind must be 'subspace', got 'cluster'; codebooks are for each piece of a row, "
    "not for each list: leave it out": (lambda: ivf_pq.IndexParams(codebook_kind="cluster")),
    "shards.build: add_data_on_build must be True, got False; models without rows are": (
        lambda: shards.build(ivf_flat.IndexParams(add_data_on_build=False), ROWS, ["cpu"])
    ),
    "add_data_on_build must be True or False, got int": (
        lambda: ivf_flat.IndexParams(add_data_on_build=1)
    ),
    "metric_arg must be 2.0, got 3.0; none of the metrics here has": (
        lambda: ivf_sq.IndexParams(metric_arg=3.0)
    ),
    "brute_force.build: metric_arg must be 2.0, got 1.0": (
        lambda: brute_force.build(ROWS, metric_arg=1.0)
    ),
    "adaptive_centers must be False, got True; centres stay": (
        lambda: ivf_flat.IndexParams(adaptive_centers=True)
    ),
    "codes_layout must be one of interleaved, flat, got 'nested'": (
        lambda: ivf_pq.IndexParams(codes_layout="nested")
    ),
    "lut_dtype must be one of float32, float16, uint8, got float64": (
        lambda: ivf_pq.SearchParams(lut_dtype=np.float64)
    ),
    "coarse_search_dtype must be one of float32, float16, int8, got 'bf17'": (
        lambda: ivf_pq.SearchParams(coarse_search_dtype="bf17")
    ),
    "max_internal_batch_size must be at least 1, got 0": (
        lambda: ivf_pq.SearchParams(max_internal_batch_size=0)
    ),
    "n_init must be 1, got 3; fit with several seeds": lambda: kmeans.KMeansParams(n_init=3),
    "hierarchical must be False, got True": lambda: kmeans.KMeansParams(hierarchical=True),
    "kmeans.fit: sample_weights must be None, got list; every row weighs": (
        lambda: kmeans.fit(kmeans.KMeansParams(), ROWS, None, [1.0])
    ),
    "ivf_pq.save: include_dataset must be True, got False; a file holds its rows": (
        lambda: ivf_pq.save("x", SMALL["ivf_pq"], include_dataset=False)
    ),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_would_change_the_answer_is_refused(words):
    with pytest.raises((ValueError, TypeError), match=words):
        REFUSED[words]()


RESOURCES = {
    "ivf_flat.build": lambda r: ivf_flat.build(ivf_flat.IndexParams(), ROWS, resources=r),
    "ivf_pq.build": lambda r: ivf_pq.build(ivf_pq.IndexParams(), ROWS, resources=r),
    "ivf_sq.build": lambda r: ivf_sq.build(ivf_sq.IndexParams(), ROWS, resources=r),
    "brute_force.build": lambda r: brute_force.build(ROWS, resources=r),
    "ivf_pq.search": lambda r: ivf_pq.search(
        ivf_pq.SearchParams(), SMALL["ivf_pq"], ROWS, 3, resources=r
    ),
    "brute_force.search": lambda r: brute_force.search(SMALL["brute_force"], ROWS, 3, resources=r),
    "ivf_flat.extend": lambda r: ivf_flat.extend(SMALL["ivf_flat"], ROWS, resources=r),
    "ivf_pq.transform": lambda r: ivf_pq.transform(SMALL["ivf_pq"], ROWS, resources=r),
    "ivf_pq.load": lambda r: ivf_pq.load("x", resources=r),
    "ivf_pq.save": lambda r: ivf_pq.save("x", SMALL["ivf_pq"], resources=r),
    "refine": lambda r: refine(ROWS, ROWS, np.zeros((300, 1), np.int64), resources=r),
    "kmeans.fit": lambda r: kmeans.fit(kmeans.KMeansParams(), ROWS, resources=r),
    "kmeans.predict": lambda r: kmeans.predict(kmeans.KMeansParams(), ROWS, ROWS, resources=r),
    "kmeans.cluster_cost": lambda r: kmeans.cluster_cost(ROWS, ROWS, resources=r),
}


@pytest.mark.parametrize("name", RESOURCES)
def test_resources_are_refused_with_a_way_out(name):
    words = f"{name}: resources must be None, got object; leave it out: work goes to CuPy's current"
    with pytest.raises(TypeError, match=words):
        RESOURCES[name](object())


def test_what_cuvs_takes_and_should_not():
    """Errors of cuVS 26.10 that are a bare KeyError, or none at all."""
    for call, words in [
        (lambda: ivf_pq.IndexParams(metric="l3"), "metric must be one of sqeuclidean"),
        (lambda: ivf_pq.IndexParams(metric="canberra"), "metric must be one of sqeuclidean"),
        (lambda: ivf_pq.IndexParams(pq_bits=9), "pq_bits must be between 4 and 8, got 9"),
        (lambda: ivf_pq.IndexParams(pq_bits=3), "pq_bits must be between 4 and 8, got 3"),
        (lambda: ivf_pq.IndexParams(n_lists=0), "n_lists must be at least 1, got 0"),
        (lambda: ivf_pq.SearchParams(n_probes=0), "n_probes must be at least 1, got 0"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()
