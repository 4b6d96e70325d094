"""What goes into ann-benchmarks and cuvs-bench, under their contracts; see harness_stand_ins."""

import importlib
import inspect
import itertools
import json
import os
import runpy
import sys
from pathlib import Path

import harness_stand_ins
import numpy as np
import pytest
import yaml

from gpuann import brute_force

HARNESS = Path(__file__).parents[1] / "bench" / "harness"
ANN_CONFIG = yaml.safe_load((HARNESS / "ann_benchmarks" / "config.yml").read_text())
ALGORITHMS = ANN_CONFIG["float"]["any"]
K = 10


def forget(*packages):
    for name in list(sys.modules):
        if name.split(".")[0] in packages:
            del sys.modules[name]


@pytest.fixture
def ann_module(monkeypatch, tmp_path):
    ours = HARNESS / "ann_benchmarks"
    harness_stand_ins.install_ann_benchmarks(monkeypatch, tmp_path, ours)
    yield importlib.import_module("ann_benchmarks.algorithms.gpuann.module")
    forget("ann_benchmarks")


@pytest.fixture
def data():
    made = np.random.default_rng(5)
    return made.standard_normal((600, 12)) + 1, made.standard_normal((40, 12)) + 1


def exact(rows, queries, metric):
    index = brute_force.build(rows.astype(np.float32), metric, device="cpu")
    return brute_force.search(index, queries.astype(np.float32), K)[1]


# ann-benchmarks


def runs(algorithm):
    """(arguments of the constructor, arguments of a search), as that runner combines them."""
    for group in algorithm["run_groups"].values():
        for made, asked in itertools.product(
            itertools.product(*group["args"]), itertools.product(*group["query_args"])
        ):
            yield [*algorithm["base_args"], *made], asked


def test_every_run_of_the_configuration_fits_its_class(ann_module):
    assert len({one["name"] for one in ALGORITHMS}) == len(ALGORITHMS) == 6
    for one in ALGORITHMS:
        constructor = getattr(ann_module, one["constructor"])
        assert one["module"] == "ann_benchmarks.algorithms.gpuann"
        assert one["docker_tag"] == "ann-benchmarks-gpuann"
        assert one["disabled"] == (one["base_args"] == ["@metric", "cuda"])
        for made, asked in runs(one):
            inspect.signature(constructor).bind(*made)
            inspect.signature(constructor.set_query_arguments).bind(None, *asked)


CPU = {
    "IvfFlat": ([8], [8]),
    "IvfSq": ([8], [8]),
    "IvfPqRefine": ([8, 2], [8, 60]),  # all lists, all rows compared
}


@pytest.mark.parametrize("metric", ["euclidean", "angular"])
@pytest.mark.parametrize("name", CPU)
def test_one_by_one_and_in_a_batch(ann_module, data, name, metric):
    rows, queries = data
    made, asked = CPU[name]
    algo = getattr(ann_module, name)(metric, "cpu", *made)
    assert algo.get_memory_usage() == 0
    algo.fit(rows)
    assert algo.get_memory_usage() == algo.index.nbytes / 1024
    algo.set_query_arguments(*asked)
    algo.batch_query(queries, K)
    found = algo.get_batch_results()
    one_by_one = [algo.query(query, K) for query in queries]
    assert (np.array(found) == np.array(one_by_one)).all()
    want = exact(rows, queries, {"euclidean": "sqeuclidean", "angular": "cosine"}[metric])
    if name == "IvfSq":
        shared = [len(set(a) & set(b)) for a, b in zip(found, want, strict=True)]
        assert sum(shared) > 0.9 * want.size
    else:
        assert (np.array(found) == want).all()
    assert algo.get_additional()["device"] == "cpu"
    algo.done()


@pytest.mark.parametrize("name", CPU)
def test_what_is_missing_is_left_out(ann_module, data, name):
    rows, queries = data
    made, asked = CPU[name]
    algo = getattr(ann_module, name)("euclidean", "cpu", 1, *made[1:])
    algo.fit(rows[:4].astype(np.float32))
    algo.set_query_arguments(1, *asked[1:])
    algo.batch_query(queries, K)
    assert sorted(algo.query(queries[0], K).tolist()) == [0, 1, 2, 3]
    assert all(sorted(ids.tolist()) == [0, 1, 2, 3] for ids in algo.get_batch_results())


def test_the_name_tells_every_parameter(ann_module):
    algo = ann_module.IvfPqRefine("angular", "cpu", 256, 2)
    algo.set_query_arguments(8, 4)
    assert str(algo) == "gpuann IVF-PQ+refine(n_lists=256, pq_len=2, n_probes=8, k_factor=4)"
    assert algo.build_params(25) == {"n_lists": 256, "pq_dim": 13}
    with pytest.raises(ValueError, match="metric must be one of euclidean, angular, got hamming"):
        ann_module.IvfFlat("hamming", "cpu", 8)


def test_the_image_takes_what_the_page_says():
    lines = (HARNESS / "ann_benchmarks" / "Dockerfile").read_text().splitlines()
    assert "COPY ann_benchmarks/algorithms/gpuann/gpuann-*.whl /tmp/" in lines
    assert lines[-1] == 'ENTRYPOINT ["python", "-u", "run_algorithm.py"]'


# cuvs-bench


@pytest.fixture
def cuvs_calls(monkeypatch):
    """What the command line of cuvs-bench was called with, where it is a stand-in."""
    forget("cuvs_bench", "gpuann_cuvs_bench")
    real = os.environ.get("CUVS_BENCH")
    if real:
        monkeypatch.syspath_prepend(real)
    calls = None if real else harness_stand_ins.install_cuvs_bench(monkeypatch)
    monkeypatch.syspath_prepend(str(HARNESS / "cuvs_bench"))
    yield calls
    forget("cuvs_bench", "gpuann_cuvs_bench")


@pytest.fixture
def ours(cuvs_calls):
    package = importlib.import_module("gpuann_cuvs_bench")
    package.register()
    return package


CONFIGURATION = {
    "gpuann_ivf_flat": {"build": {"nlist": [4, 8]}, "search": {"nprobe": [1, 4, 8]}},
    "gpuann_ivf_sq": {"build": {"nlist": [8], "ratio": [1]}, "search": {"nprobe": [8]}},
    "gpuann_ivf_pq": {
        "build": {"nlist": [8], "pq_dim": [6, 24], "pq_bits": [4], "niter": [5]},
        "search": {"nprobe": [8], "refine_ratio": [1, 60]},
    },
    "gpuann_brute_force": {"build": {}, "search": {}},
}


@pytest.fixture
def bench(ours, data, tmp_path):
    """bench(algorithm, ...) -> the results of its build and its search, the files they wrote."""
    rows, queries = (x.astype(np.float32) for x in data)
    for algo, group in CONFIGURATION.items():
        conf = {"name": algo, "groups": {"tried": group}}
        (tmp_path / f"{algo}.yaml").write_text(yaml.safe_dump(conf, sort_keys=False))
    known = [{"name": "blobs", "dims": 12, "distance": "euclidean"}]
    (tmp_path / "datasets.yml").write_text(yaml.safe_dump(known))
    registry = importlib.import_module("cuvs_bench.backends.registry")
    base = importlib.import_module("cuvs_bench.backends.base")

    def run(algorithm, *, force=False, dry_run=False, append=False, distance="euclidean", **more):
        loader = registry.get_config_loader("gpuann")()
        asked = {"algorithms": algorithm, "groups": "tried", "count": K, "batch_size": 16}
        files = {
            "dataset_configuration": str(tmp_path / "datasets.yml"),
            "algorithm_configuration": str(tmp_path / f"{algorithm}.yaml"),
        }
        _, [config] = loader.load(
            dataset="blobs", dataset_path=str(tmp_path), min_seconds=0.001, **asked, **files, **more
        )
        metric = {"euclidean": "sqeuclidean"}.get(distance, distance)
        dataset = base.Dataset(
            "blobs",
            training_vectors=rows,
            query_vectors=queries,
            groundtruth_neighbors=exact(rows, queries, metric).astype(np.int32),
            distance_metric=distance,
        )
        kind = registry.get_backend_class("gpuann")
        backend = kind({**config.backend_config, "append_results": append})
        built = backend.build(dataset, config.indexes, force=force, dry_run=dry_run)
        found = backend.search(dataset, config.indexes, K, 16, dry_run=dry_run)
        backend.cleanup()
        wrote = [
            json.loads(path.read_text())["benchmarks"] if path.exists() else []
            for path in (
                tmp_path / f"blobs/result/build/{algorithm}_cpu,tried.json",
                tmp_path / f"blobs/result/search/{algorithm}_cpu,tried,k{K},bs16.json",
            )
        ]
        return built, found, *wrote

    return run


def test_every_group_of_the_configurations_is_understood(ours):
    registry = importlib.import_module("cuvs_bench.backends.registry")
    kinds = importlib.import_module("gpuann_cuvs_bench.kinds")
    loader = registry.get_config_loader("gpuann")()
    found = loader._discover_algo_groups({}, "", "")
    assert {algo for algo, *_ in found} == set(kinds.MODULES) == set(kinds.SEARCH_SPACES)
    for algo, _, group, _ in found:
        for given in harness_stand_ins.combinations(group["build"]):
            kinds.index_params(algo, given, "sqeuclidean")
        for given in harness_stand_ins.combinations(group["search"]):
            kinds.search_params(algo, given)
    picked = loader._discover_algo_groups(
        {}, "", "", algorithms="gpuann_ivf_sq", groups="test", algo_groups="gpuann_ivf_pq.large"
    )
    assert {entry[:2] for entry in picked} == {
        ("gpuann_ivf_sq", "test"),
        ("gpuann_ivf_pq", "large"),
    }


def test_from_the_configuration_to_the_files(bench):
    built, found, builds, searches = bench("gpuann_ivf_flat")
    assert built.success
    assert found.success
    names = ["gpuann_ivf_flat_cpu_tried.nlist4", "gpuann_ivf_flat_cpu_tried.nlist8"]
    assert [record["name"] for record in builds] == names
    assert built.build_time_seconds == sum(record["real_time"] for record in builds)
    # more probes than lists are no search of their own
    assert [(record["name"], record["nprobe"]) for record in searches] == [
        (f"{names[0]}/0", 1),
        (f"{names[0]}/1", 4),
        (f"{names[1]}/0", 1),
        (f"{names[1]}/1", 4),
        (f"{names[1]}/2", 8),
    ]
    recalls = [record["Recall"] for record in searches]
    assert recalls[1] == recalls[4] == 1
    assert recalls[0] < 1
    assert found.recall == pytest.approx(np.mean(recalls))
    assert found.neighbors.shape == found.distances.shape == (32, K), "whole batches of 16"
    assert (np.diff(found.distances) >= 0).all()
    for record in searches:
        assert record["items_per_second"] * record["Latency"] == pytest.approx(16)
        assert record["total_queries"] == 16 * record["iterations"]


def test_columns_come_as_the_exporter_counts_them(bench):
    """It takes the third to fifth of a build for its time, threads and CPU time."""
    _, _, builds, searches = bench("gpuann_ivf_pq")
    left_out = {"name", "run_name", "run_type", "repetitions", "repetition_index", "iterations"}
    left_out |= {"real_time", "time_unit", "index_size"}
    of_build = [name for name in builds[0] if name not in left_out]
    assert of_build == ["threads", "cpu_time", "nlist", "pq_dim", "pq_bits", "niter"]
    assert not set(of_build[2:]) & set(searches[0])


@pytest.mark.parametrize("algorithm", CONFIGURATION)
@pytest.mark.parametrize("distance", ["euclidean", "inner_product", "cosine"])
def test_every_kind_finds_what_it_should(bench, algorithm, distance):
    built, found, builds, searches = bench(algorithm, distance=distance)
    assert built.error_message is found.error_message is None
    assert len(builds) == built.metadata["n_built"] == (2 if algorithm == "gpuann_ivf_flat" else 1)
    best = searches[-1]["Recall"]
    assert best > 0.9 if algorithm == "gpuann_ivf_sq" else best == 1


def test_more_codes_than_components_are_not_tried(bench):
    built, *_ = bench("gpuann_ivf_pq")
    assert built.build_params == {"nlist": 8, "pq_dim": 6, "pq_bits": 4, "niter": 5}
    assert built.metadata["n_built"] == 1


def test_an_index_that_is_there_is_kept_unless_forced(bench):
    first = bench("gpuann_ivf_sq")[2]
    kept, _, builds, _ = bench("gpuann_ivf_sq")
    assert kept.success
    assert kept.metadata["n_built"] == 0
    assert kept.metadata["n_there"] == 1
    assert builds == first
    anew, _, builds, _ = bench("gpuann_ivf_sq", force=True)
    assert anew.metadata["n_built"] == len(builds) == 1


def test_a_dry_run_only_tells(bench, capsys):
    built, found, builds, searches = bench("gpuann_ivf_flat", dry_run=True)
    assert built.success
    assert found.success
    assert builds == searches == []
    assert "would build gpuann_ivf_flat_cpu_tried.nlist4" in capsys.readouterr().out


def test_tuning_tries_one_index_after_another(bench):
    tried = []
    for number, nlist in enumerate((4, 1000, 6)):
        params = {"_tune_build_params": {"nlist": nlist}, "_tune_search_params": {"nprobe": 4}}
        built, found, _, searches = bench(
            "gpuann_ivf_flat", append=number > 0, _tune_mode=True, **params
        )
        tried.append((built.success, found.success, len(searches)))
    assert tried == [(True, True, 1), (False, False, 1), (True, True, 2)]
    assert set(found.latency_percentiles) == {"p50", "p95", "p99"}
    assert searches[0]["Recall"] == 1


def test_what_fails_is_told_and_the_others_go_on(bench, tmp_path, capsys):
    conf = yaml.safe_load((tmp_path / "gpuann_ivf_flat.yaml").read_text())
    conf["groups"]["tried"]["build"]["nlist"] = [1000, 4]
    (tmp_path / "gpuann_ivf_flat.yaml").write_text(yaml.safe_dump(conf, sort_keys=False))
    built, found, builds, searches = bench("gpuann_ivf_flat")
    assert built.success
    assert found.success
    assert "n_lists must be at most the 600 rows of dataset" in built.error_message
    assert "must be there, got no such file" in found.error_message
    assert "gpuann_ivf_flat_cpu_tried.nlist1000: ivf_flat.build" in capsys.readouterr().out
    assert len(builds) == 1
    assert len(searches) == 2


def test_parameters_that_it_does_not_know_are_refused(ours):
    kinds = importlib.import_module("gpuann_cuvs_bench.kinds")
    with pytest.raises(
        ValueError, match="search parameters must be among nprobe, refine_ratio, go"
    ):
        kinds.search_params("gpuann_ivf_pq", {"nprobe": 1, "smemLutDtype": "half"})
    with pytest.raises(ValueError, match="build parameters must be left out, got nlist"):
        kinds.index_params("gpuann_brute_force", {"nlist": 1}, "sqeuclidean")
    with pytest.raises(ValueError, match=r"distance must be one of euclidean, .*, got 'hamming'"):
        kinds.build("gpuann_ivf_flat", {}, "hamming", np.ones((2, 2), np.float32), "cpu")


def test_without_a_gpu_the_cuda_back_end_says_so(bench):
    built, found, *_ = bench("gpuann_ivf_flat", device="cuda")
    assert not built.success
    assert not found.success
    assert built.error_message == "gpuann_ivf_flat_cuda: not run, no_gpu"


def test_devices_and_threads_are_checked(bench, ours):
    with pytest.raises(ValueError, match="device must be cpu or cuda, got 'cuda:1'; choose among"):
        bench("gpuann_ivf_flat", device="cuda:1")
    backend = ours.GpuannBackend({"name": "x", "algo": "x", "device": "cpu"})
    with pytest.raises(ValueError, match="search_threads must be one number, got '1:4'"):
        backend.search(None, [], K, search_threads="1:4")


def test_the_command_registers_and_hands_over(cuvs_calls):
    if cuvs_calls is None:
        pytest.skip("the real one parses sys.argv and wants pandas")
    runpy.run_module("gpuann_cuvs_bench", run_name="__main__")
    assert [list(known) for known in cuvs_calls] == [["gpuann"]]
