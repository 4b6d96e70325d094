"""Updates: what is found afterwards is what a build with the same quantisers would find."""

import warnings

import models
import numpy as np
import pytest
from compare import assert_close, assert_same, assert_same_knn

import gpuann
from bench.data import clustered
from gpuann import brute_force, distributed, ivf_flat, ivf_pq, ivf_sq, shards

ROWS, QUERIES = clustered(900, 12, 40)
KINDS = [*models.KINDS, "ivf_pq packed", "ivf_pq turned", "ivf_sq whole"]
MORE = {
    "ivf_pq packed": {"pq_bits": 5, "pq_dim": 5},
    "ivf_pq turned": {"rotation": "opq", "pq_dim": 5},
    "ivf_sq whole": {"by_residual": False},
}


def build(kind, rows=ROWS, metric="sqeuclidean"):
    return models.build(kind.split()[0], rows, metric, device="cpu", **MORE.get(kind, {}))


def module_of(kind):
    return getattr(gpuann, kind.split()[0])


def everything(index, queries=QUERIES):
    return models.search(index, queries, len(index), n_probes=16)


def without(found, gone):
    """Results less those of some ids."""
    kept = [~np.isin(ids, gone) for ids in found[1]]
    return [np.stack([row[k] for row, k in zip(part, kept, strict=True)]) for part in found]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", models.METRICS)
def test_deleted_rows_are_gone(kind, metric):
    index, module = build(kind, metric=metric), module_of(kind)
    gone = np.arange(0, 900, 3)
    left = module.delete(index, gone)
    assert len(left) == 600
    assert len(index) == 900
    assert_same_knn(everything(left), without(everything(index), gone))
    for k, n_probes in ((10, 4), (700, 16)):
        ids = models.search(left, QUERIES, k, n_probes=n_probes)[1]
        assert not np.isin(ids, gone).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", models.METRICS)
def test_rows_that_come_back_make_no_difference(kind, metric):
    index, module = build(kind, metric=metric), module_of(kind)
    some = np.random.default_rng(1).permutation(900)[:350]
    again = module.extend(module.delete(index, some), ROWS[some], some)
    assert len(again) == 900
    assert_same_knn(everything(again), everything(index))
    assert_same_knn(models.search(again, QUERIES, 10), models.search(index, QUERIES, 10))
    if kind != "brute_force":
        assert_same(again.list_sizes, index.list_sizes)


@pytest.mark.parametrize("kind", KINDS)
def test_ids_run_on(kind):
    index, module = build(kind), module_of(kind)
    longer = module.extend(index, ROWS[:7] + np.float32(0.25))
    assert len(longer) == 907
    found = everything(longer, ROWS[:7] + np.float32(0.25))[1]
    assert set(range(900, 907)) <= set(found.ravel().tolist())
    far = module.extend(index, ROWS[:2], [2**62, 5000])
    assert everything(far)[1].max() == 2**62
    with pytest.raises(
        ValueError, match=rf"{kind.split()[0]}.extend: new_indices must be between 0"
    ):
        module.extend(module.extend(index, ROWS[:1], [2**63 - 1]), ROWS[:1])


@pytest.mark.parametrize("kind", KINDS)
def test_no_id_comes_back(tmp_path, kind):
    """Who noted an id would find another row by it."""
    index, module = build(kind), module_of(kind)
    assert index.next_id == 900
    left = module.delete(index, [898, 899])
    module.save(tmp_path / "x", left)
    parts = [module.delete(left, np.arange(a, b)) for a, b in ((0, 450), (450, 898))]
    ways = {
        "at once": left,
        "compact": module.compact(left),
        "merge": module.merge(parts),
        "file": module.load(tmp_path / "x", device="cpu"),
        "again": module.delete(left, [897]),
        "replaced": module.extend(left, ROWS[:3], [5, 6, 7], on_duplicate="replace"),
    }
    for name, found in ways.items():
        assert found.next_id == 900, name
        longer = module.extend(found, ROWS[:2] + 1)
        ids = everything(longer, ROWS[:2] + 1)[1]
        assert {900, 901} <= set(ids.ravel().tolist()), name
        assert not {898, 899} & set(ids.ravel().tolist()), name
    shards.save(tmp_path / "folder", shards.load(tmp_path / "x", ["cpu", "cpu"]))
    if kind != "brute_force":
        distributed.compact_folder(tmp_path / "folder")
    assert_same(shards.extend(tmp_path / "folder", ROWS[:2]), [900, 901])


@pytest.mark.parametrize("kind", KINDS)
def test_an_id_that_is_there(kind):
    index, module = build(kind), module_of(kind)
    with pytest.raises(ValueError, match=r"extend: new_indices must be new, got 5 again; on_dup"):
        module.extend(index, ROWS[:2] + 1, [5, 1000])
    other = module.extend(index, ROWS[100:103], [5, 6, 2000], on_duplicate="replace")
    assert len(other) == 901
    want = module.reconstruct(index, [100, 101, 102])
    assert_same(module.reconstruct(other, [5, 6, 2000]), want)
    with pytest.raises(ValueError, match="extend: new_indices must be distinct, got 7000 twice"):
        module.extend(index, ROWS[:2], [7000, 7000])


@pytest.mark.parametrize("kind", KINDS)
def test_ids_that_are_not_there(kind):
    index, module = build(kind), module_of(kind)
    words = "delete: 2 of 3 ids are not in the index"
    with pytest.warns(UserWarning, match=words):
        left = module.delete(index, [5, 5, 1000, 2000])
    assert len(left) == 899
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(module.delete(index, [5, 1000], missing="ignore")) == 899
        assert len(module.delete(index, [])) == 900
    with pytest.raises(ValueError, match="delete: ids must be in the index, got 1 of 2 that are"):
        module.delete(index, [5, 1000], missing="raise")
    with pytest.raises(ValueError, match="delete: ids must leave a row in the index, got all"):
        module.delete(index, np.arange(900))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", ["sqeuclidean", "cosine"])
def test_compact_changes_no_answer(kind, metric):
    index, module = build(kind, metric=metric), module_of(kind)
    left = module.delete(index, np.arange(450))
    tight = module.compact(left)
    assert_same_knn(everything(tight), everything(left))
    assert (tight.core.lists.radius if kind != "brute_force" else np.zeros(1)).max() >= 0
    if kind != "brute_force":
        radius, before = tight.core.lists.radius, left.core.lists.radius
        assert (radius <= before * np.float32(1 + 1e-6)).all()
        assert (radius < before).any()
        whole = module.compact(index).core.lists.radius  # as the build found it
        assert_close(whole, index.core.lists.radius, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_merging(kind):
    index, module = build(kind), module_of(kind)
    even = module.delete(index, np.arange(1, 900, 2))
    odd = module.delete(index, np.arange(0, 900, 2))
    for parts in ([even, odd], [odd, even], [index]):
        assert_same_knn(everything(module.merge(parts)), everything(index))
    with pytest.raises(ValueError, match="merge: ids must be distinct, got 0 twice"):
        module.merge([even, index])
    other = build(kind, ROWS[:600] * 2) if kind != "brute_force" else build(kind, metric="cosine")
    with pytest.raises(ValueError, match="merge: shard 1 must have the models"):
        module.merge([index, other])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", models.METRICS)
def test_reconstruct(kind, metric):
    rows = ROWS + np.float32(40)
    index, module = build(kind, rows, metric), module_of(kind)
    found = module.reconstruct(index)
    want = rows
    if metric == "cosine" and kind not in ("brute_force", "ivf_flat"):
        want = rows / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    if kind in ("brute_force", "ivf_flat"):
        assert_same(found, want)
    else:
        error = np.square(found - want).sum() / np.square(want - want.mean(axis=0)).sum()
        assert error < (0.001 if "sq" in kind else 0.35)
    some = [3, 700, 3, 0]
    assert_same(module.reconstruct(index, some), found[some])
    with pytest.raises(ValueError, match="reconstruct: ids must be in the index, got 900"):
        module.reconstruct(index, [1, 900])


def test_rows_of_a_device_array_and_of_chunks():
    index = build("ivf_flat")
    one = ivf_flat.extend(index, ROWS[:50] + 1)
    two = ivf_flat.extend(index, [ROWS[:20] + 1, ROWS[20:50] + 1])
    assert_same_knn(everything(one), everything(two))


ERRORS = {
    "dim": (
        lambda i: ivf_flat.extend(i, ROWS[:, :5]),
        r"ivf_flat.extend: new_vectors must have shape \(n, 12\), got \(900, 5\)",
    ),
    "index": (
        lambda _: ivf_pq.extend(ROWS, ROWS),
        "extend: index must be an Index of brute_force, ivf_flat, ivf_pq or ivf_sq, got ndarray",
    ),
    "how": (
        lambda i: ivf_flat.extend(i, ROWS[:1], on_duplicate="skip"),
        "extend: on_duplicate must be one of raise, replace, got 'skip'",
    ),
    "names": (
        lambda i: ivf_flat.extend(i, ROWS[:2], [1]),
        r"extend: new_indices must have shape \(2,\), got \(1,\)",
    ),
    "float ids": (
        lambda i: ivf_flat.delete(i, [0.5]),
        "ivf_flat.delete: ids must be integers, got float64",
    ),
    "nothing to merge": (lambda _: ivf_sq.merge([]), r"merge: indexes must be a list of indexes"),
    "nan": (
        lambda i: ivf_flat.extend(i, np.full((1, 12), np.nan, np.float32)),
        "must be finite",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, words = ERRORS[name]
    with pytest.raises((ValueError, TypeError), match=words):
        call(build("ivf_flat"))


def test_an_old_index_is_not_changed():
    index = build("ivf_pq")
    want = everything(index)
    ivf_pq.delete(index, [1, 2])
    ivf_pq.extend(index, ROWS[:5])
    assert_same_knn(everything(index), want)
    assert isinstance(brute_force.extend(build("brute_force"), ROWS[:2]), brute_force.Index)


@pytest.mark.parametrize("kind", ["brute_force", "ivf_flat", "ivf_pq"])
def test_rows_that_can_be_read_once(kind):
    index, module = build(kind), module_of(kind)
    want = module.extend(index, ROWS[:30] + 1)
    got = module.extend(index, (part + 1 for part in np.split(ROWS[:30], [7])))
    assert_same_knn(everything(got), everything(want))


def test_rows_of_another_dtype_are_refused_before_work():
    with pytest.raises(TypeError, match="extend: new_vectors must be float32 as the rows"):
        ivf_flat.extend(build("ivf_flat"), ROWS.astype(np.float16))
    assert len(ivf_pq.extend(build("ivf_pq"), ROWS[:9].astype(np.float16))) == 909
    assert len(ivf_flat.delete(build("ivf_flat"), range(5))) == 895
