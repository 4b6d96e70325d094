"""Threads: BLAS is held to one while any search runs, and given back after the last."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import models
import numpy as np
import pytest
import threadpoolctl
from compare import assert_same, assert_same_knn

import gpuann
from bench.data import clustered
from gpuann import backends
from gpuann.backends.numpy_ops import _threads

ROWS, QUERIES = clustered(3000, 16, 200)


def blas_threads():
    """Of NumPy's BLAS: another test may have loaded another library's."""
    info = threadpoolctl.threadpool_info()
    own = [lib for lib in info if lib["user_api"] == "blas" and "numpy" in lib["filepath"]]
    return {lib["num_threads"] for lib in own}


@pytest.fixture
def two_blas_threads():
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        yield


def test_limit_is_counted(two_blas_threads):
    inside, leave = threading.Barrier(3), threading.Event()
    seen = []

    def hold():
        with _threads.single_thread_blas():
            inside.wait()
            seen.append(blas_threads())
            leave.wait()

    others = [threading.Thread(target=hold) for _ in range(2)]
    for t in others:
        t.start()
    inside.wait()
    with _threads.single_thread_blas():
        seen.append(blas_threads())
    seen.append(blas_threads())  # the others are still inside
    leave.set()
    for t in others:
        t.join()
    assert seen == [{1}] * 4
    assert blas_threads() == {2}


@pytest.mark.parametrize(
    "n, most, n_threads, want",
    [(10, 100, 2, 5), (10, 3, 2, 3), (10, 2, 2, 2), (1, 5, 4, 1), (0, 5, 2, 1), (7, 100, 3, 3)],
)
def test_work_is_shared_out_evenly(monkeypatch, n, most, n_threads, want):
    monkeypatch.setattr(_threads, "get_num_threads", lambda: n_threads)
    size = _threads.share(n, most)
    assert size == want
    assert size <= most


def test_overlapping_searches_agree_and_restore(two_blas_threads):
    index = models.build("ivf_pq", ROWS)
    want = models.search(index, QUERIES, 10)
    answers = [None] * 6

    def one(i):
        for _ in range(5):
            answers[i] = models.search(index, QUERIES, 10)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for got in answers:
        assert_same_knn(got, want)
    assert blas_threads() == {2}


def test_an_exception_restores_and_is_raised(two_blas_threads, threads):
    threads(3)
    done = []

    def work(i):
        if i == 5:
            raise KeyError("five")
        done.append(i)

    with pytest.raises(KeyError, match="five"):
        _threads.run(work, range(10_000))
    assert len(done) < 10_000
    assert blas_threads() == {2}


def test_run_keeps_order_and_takes_each_item_once(threads):
    for n in (1, 2, 7):
        threads(n)
        assert _threads.run(lambda i: i * i, range(100)) == [i * i for i in range(100)]
    assert _threads.run(lambda i: i, []) == []


def test_number_of_threads(monkeypatch, threads):
    threads(3)
    assert gpuann.get_num_threads() == 3
    threads(None)
    monkeypatch.setenv("GPUANN_NUM_THREADS", "5")
    assert gpuann.get_num_threads() == 5
    monkeypatch.setenv("GPUANN_NUM_THREADS", "none")
    with pytest.raises(ValueError, match="GPUANN_NUM_THREADS must be a positive integer"):
        gpuann.get_num_threads()
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        gpuann.set_num_threads(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_search_in_a_forked_child():
    index = models.build("ivf_flat", ROWS)
    want = models.search(index, QUERIES, 5)
    child = os.fork()
    if child == 0:
        same = all(
            np.array_equal(a, b)
            for a, b in zip(models.search(index, QUERIES, 5), want, strict=True)
        )
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_search_while_the_interpreter_shuts_down():
    code = (
        "import atexit, numpy as np\n"
        "from gpuann import brute_force\n"
        "rows = np.random.default_rng(0).standard_normal((5000, 8), dtype=np.float32)\n"
        "index = brute_force.build(rows)\n"
        "brute_force.search(index, rows, 3)\n"
        "atexit.register(lambda: print(brute_force.search(index, rows, 3)[1][:4, 0]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(gpuann.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[0 1 2 3]"
    assert done.stderr == ""


def test_a_short_run_does_not_wait_for_long_ones(threads):
    threads(2)
    release, busy = threading.Event(), threading.Barrier(3)

    def hold(i):
        busy.wait()
        release.wait()

    # two runs of two items fill the pool and their own threads until released
    long = threading.Thread(target=lambda: _threads.run(hold, range(2)))
    long.start()
    busy.wait()
    others = threading.Thread(target=lambda: _threads.run(lambda i: release.wait(), range(2)))
    others.start()
    short = threading.Thread(target=lambda: _threads.run(lambda i: i, range(4)))
    short.start()
    short.join(timeout=20)
    waited = short.is_alive()
    release.set()
    for thread in (long, others, short):
        thread.join()
    assert not waited


@pytest.mark.parametrize("n_rows", [0, 1, 5000])
def test_pieces_make_up_all_rows_in_order(n_rows):
    pieces = backends.choose("test", "cpu").over_rows(lambda part: part, n_rows, 96)
    assert np.concatenate([np.arange(n_rows)[part] for part in pieces]).tolist() == list(
        range(n_rows)
    )
    assert len(pieces) == (4 if n_rows == 5000 else 1)


@pytest.mark.parametrize("kind", ["brute_force", "ivf_flat", "ivf_sq"])
@pytest.mark.parametrize("metric", models.METRICS)
def test_a_build_does_not_depend_on_the_threads(kind, metric):
    rows, _ = clustered(5000, 96, 1)
    kept, before = [], rows.copy()
    try:
        for n in (1, 3):
            gpuann.set_num_threads(n)
            index = models.build(kind, rows, metric, n_lists=7)
            kept.append(
                [*index.core.payload, *index.core.lists]
                if kind != "brute_force"
                else [*index.payload, *index.lists]
            )
    finally:
        gpuann.set_num_threads(None)
    for one, other in zip(*kept, strict=True):
        assert_same(one, other)
    assert_same(rows, before)
