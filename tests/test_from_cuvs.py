"""From cuVS: a stand-in shows what cuVS 26.10's object shows; the real one needs a GPU."""

import types

import models
import numpy as np
import pytest
from compare import assert_close, assert_same, assert_same_knn

from bench.data import clustered
from gpuann import from_cuvs, ivf_flat, ivf_pq

ROWS, QUERIES = clustered(1500, 12, 30)


class OnDevice:
    """An array as cuVS hands it out."""

    def __init__(self, array):
        self._array = array

    def copy_to_host(self):
        return self._array


def shown(index, **more):
    """What cuVS would show of the same index: codebooks (pq_dim, pq_len, entries)."""
    width = index.pq_dim * index.pq_len
    turn = index.rotation_matrix
    if turn is None:
        turn = np.eye(width, index.dim, dtype=np.float32)
    found = {
        "n_lists": index.n_lists,
        "dim": index.dim,
        "pq_dim": index.pq_dim,
        "pq_bits": index.pq_bits,
        "pq_centers": OnDevice(index.pq_centers.transpose(0, 2, 1)),
        "centers_rot": OnDevice(index.centers_rot),
        "rotation_matrix": OnDevice(
            np.eye(width, index.dim, dtype=np.float32) if turn is None else turn
        ),
        "lists": lambda: (
            (OnDevice(index.list_indices(i)), OnDevice(index.list_data(i)))
            for i in range(index.n_lists)
        ),
    }
    return types.SimpleNamespace(**found | more)


def build(metric="sqeuclidean", **more):
    return models.build("ivf_pq", ROWS, metric, n_lists=9, device="cpu", **more)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "inner_product"])
@pytest.mark.parametrize("shape", [{"pq_dim": 4}, {"pq_dim": 5}, {"pq_dim": 6, "pq_bits": 5}])
@pytest.mark.parametrize("rotation", ["none", "random"])
def test_the_same_rows_at_the_same_distances(metric, shape, rotation):
    theirs = build(metric, rotation=rotation, **shape)
    ours = from_cuvs(shown(theirs), metric, device="cpu")
    assert isinstance(ours, ivf_pq.Index)
    assert_same(ours.list_sizes, theirs.list_sizes)
    want, got = (models.search(index, QUERIES, 10) for index in (theirs, ours))
    assert_close(got[0], want[0], rtol=1e-5, atol=1e-4)
    assert (got[1] == want[1]).mean() > 0.98  # turned sums round once more


WRONG = {
    "kind": (
        lambda i: from_cuvs(ROWS),
        "must be an index of cuvs.neighbors.ivf_pq, with n_l",
    ),
    "metric": (
        lambda i: from_cuvs(shown(i), "cosine"),
        "metric_name must be one of sqeuclidean",
    ),
    "codebooks": (
        lambda i: from_cuvs(shown(i, pq_centers=i.pq_centers[:2])),
        r"pq_centers must be of subspaces, \(4, pq_len, 256\), got \(2, 256, 3\)",
    ),
    "centres": (
        lambda i: from_cuvs(shown(i, centers_rot=i.centers_rot[:, :5])),
        r"centers_rot must have shape \(9, 12\), got \(9, 5\)",
    ),
    "codes": (
        lambda i: from_cuvs(shown(i, lists=lambda: [(np.arange(3), np.zeros((3, 7), np.uint8))])),
        r"list_data must be \(3, 4\) uint8, got \(3, 7\) uint8",
    ),
    "lists": (
        lambda i: from_cuvs(shown(i, lists=lambda: [(np.arange(3), np.zeros((3, 4), np.uint8))])),
        "lists must be 9, got 1",
    ),
    "rows": (lambda i: from_cuvs(shown(i, lists=list)), "index must have rows, got 0"),
}


def other(module, **attributes):
    """An index of another kind, with what the wheel 26.10 shows of it."""
    kind = type("Index", (), {"__module__": f"cuvs.neighbors.{module}.{module}"})
    made = kind()
    vars(made).update(attributes)
    return made


def test_kinds_that_do_not_show_their_rows_are_built_anew():
    theirs = models.build("ivf_flat", ROWS, n_lists=9, device="cpu")
    of_flat = other("ivf_flat", n_lists=9, dim=12, centers=OnDevice(theirs.centers))
    words = r"got cuvs.neighbors.ivf_flat.ivf_flat.Index; .* ivf_flat.build_precomputed\(params, "
    with pytest.raises(TypeError, match=words):
        from_cuvs(of_flat)
    params = ivf_flat.IndexParams(n_lists=9)
    centers = of_flat.centers.copy_to_host()
    ours = ivf_flat.build_precomputed(params, ROWS, centers, device="cpu")
    assert_same(ours.list_sizes, theirs.list_sizes)
    want, got = (models.search(index, QUERIES, 10) for index in (theirs, ours))
    assert_same_knn(got, want)
    for kind in (other("ivf_sq", n_lists=9, dim=12, centers=1), other("brute_force")):
        with pytest.raises(TypeError, match="shows no rows of this kind: build makes one of the"):
            from_cuvs(kind)


def test_codebooks_by_list_are_refused():
    """`codebook_kind="cluster"`: (n_lists, pq_len, entries), which the object does not say."""
    index = build(pq_dim=4)
    books = np.zeros((9, 3, 256), np.float32)
    with pytest.raises(ValueError, match=r"pq_centers must be of subspaces, \(4, pq_len, 256\)"):
        from_cuvs(shown(index, pq_centers=OnDevice(books)))


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_as_cuvs_has_it(name):
    call, words = WRONG[name]
    with pytest.raises((ValueError, TypeError), match=words):
        call(build(pq_dim=4))
