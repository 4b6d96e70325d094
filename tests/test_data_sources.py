"""Where data may come from: arrays of any layout, memory-maps, chunks; always the same index."""

import weakref

import models
import numpy as np
import pytest
from compare import assert_same, assert_same_knn

from bench.data import clustered
from gpuann import arrays, brute_force, kmeans

ROWS, QUERIES = clustered(1000, 10, 30)


class Foreign:
    """Array-like by the array protocol alone."""

    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return np.array(self._array, dtype=dtype)


class Dlpack:
    """Array-like by DLPack alone."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **kwargs):
        return self._array.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


def read_only(array):
    out = array.copy()
    out.flags.writeable = False
    return out


def memory_map(array, folder):
    np.save(folder / "rows.npy", array)
    return np.load(folder / "rows.npy", mmap_mode="r")


FORMS = {
    "fortran": lambda x, _: np.asfortranarray(x),
    "strided": lambda x, _: np.repeat(np.repeat(x, 2, axis=0), 3, axis=1)[::2, ::3],
    "reversed": lambda x, _: x[::-1].copy()[::-1],
    "read-only": lambda x, _: read_only(x),
    "memory-map": memory_map,
    "__array__": lambda x, _: Foreign(x),
    "DLPack": lambda x, _: Dlpack(x),
    "list of chunks": lambda x, _: [x[:1], x[1:400], x[400:]],
    "generator": lambda x, _: (x[i : i + 77] for i in range(0, len(x), 77)),
    "function": lambda x, _: lambda: (x[i : i + 300] for i in range(0, len(x), 300)),
    "map": lambda x, _: map(np.asarray, [x[:500], x[500:]]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", models.KINDS)
def test_same_index_from_any_form(kind, form, tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "CHUNK_FLOATS", 2300)  # chunks of 230 rows, so that edges are met
    given = FORMS[form](ROWS, tmp_path)
    want, got = models.build(kind, ROWS), models.build(kind, given)
    assert_same_knn(models.search(got, QUERIES, 10), models.search(want, QUERIES, 10))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", models.KINDS)
def test_same_answer_from_any_form_of_queries(kind, form, tmp_path):
    index = models.build(kind, ROWS)
    given = FORMS[form](QUERIES, tmp_path)
    assert_same_knn(models.search(index, given, 5), models.search(index, QUERIES, 5))


@pytest.mark.parametrize("form", FORMS)
def test_kmeans_from_any_form(form, tmp_path):
    params = kmeans.KMeansParams(n_clusters=7)
    got, want = kmeans.fit(params, FORMS[form](ROWS, tmp_path)), kmeans.fit(params, ROWS)
    assert_same(got[0], want[0])


def test_a_function_is_read_in_passes_and_never_held(threads):
    threads(1)  # a worker thread may let go of its last chunk a moment later
    calls, given, most = [], [], 0

    def chunks():
        nonlocal most
        calls.append(1)
        for i in range(0, 1000, 100):
            chunk = ROWS[i : i + 100].copy()
            given.append(weakref.ref(chunk))
            yield chunk
            del chunk
            most = max(most, sum(ref() is not None for ref in given))

    models.build("ivf_flat", chunks)
    assert len(calls) > 1
    assert len(given) == 10 * len(calls)
    assert most <= 2, "chunks are let go of"


def test_no_query_chunks_no_answers():
    dists, ids = models.search(models.build("brute_force", ROWS), iter([]), 3)
    assert dists.shape == ids.shape == (0, 3)


def test_data_is_not_changed():
    rows, queries = read_only(ROWS), read_only(QUERIES)
    for kind in models.KINDS:
        for metric in models.METRICS:
            models.search(models.build(kind, rows, metric), queries, 5)
    assert_same(rows, ROWS)
    assert_same(brute_force.build(rows, "cosine").payload.vectors, ROWS)
