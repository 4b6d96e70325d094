"""Within a radius and in given lists: one partition equals five, bit for bit."""

import emulated
import models
import numpy as np
import pytest
from compare import assert_same, assert_same_knn
from device_arrays import DeviceArray
from emu import Fibers
from engines import needs_fibers

from bench.data import clustered
from gpuann import filters, ivf_flat, ivf_pq, lookups, shards
from gpuann.partitioned.partitions import Partition

ROWS, QUERIES = clustered(1200, 16, 30)
TIES = np.concatenate([ROWS[:900], np.repeat(ROWS[:3], 100, axis=0)])  # more than 64 results
ASKED = {"brute_force": None}
ASKED |= {
    "ivf_flat": ivf_flat.SearchParams(n_probes=4),
    "ivf_pq": ivf_pq.SearchParams(n_probes=4),
}


def build(kind, n, metric="sqeuclidean", device="cpu", **more):
    """The single index, and the same in n partitions."""
    params = {
        "brute_force": metric,
        "ivf_flat": ivf_flat.IndexParams(n_lists=12, metric=metric),
        "ivf_pq": ivf_pq.IndexParams(n_lists=12, metric=metric, pq_dim=8, kmeans_n_iters=4),
    }[kind]
    one = models.build(kind, TIES, metric, n_lists=12, pq_dim=8, device="cpu")
    return one, shards.build(params, TIES, [device] * n, **more)


def radius_of(kind, one):
    """One that some queries have hundreds of rows within, and others none."""
    found = models.search(one, QUERIES, 150)[0]
    return float(np.median(found[:, 100]))


def queries():
    return np.concatenate([QUERIES, ROWS[:3], np.zeros((1, 16), np.float32)])


@pytest.mark.parametrize("n_shards", [1, 2, 5])
@pytest.mark.parametrize("metric", models.METRICS)
@pytest.mark.parametrize("kind", ASKED)
def test_a_radius(kind, metric, n_shards):
    one, many = build(kind, n_shards, metric)
    near = radius_of(kind, one)
    assert len(lookups.range_search(ASKED[kind], one, queries(), near).ids) > 200
    for radius in (near, 1e9 if metric == "inner_product" else -1.0):
        for more in ({}, {"filter": np.arange(1200) % 3 > 0}, {"filter": np.arange(5, 30)}):
            want = lookups.range_search(ASKED[kind], one, queries(), radius, **more)
            got = shards.range_search(ASKED[kind], many, queries(), radius, **more)
            for a, b in zip(got, want, strict=True):
                assert_same(a, b)


@pytest.mark.parametrize("n_shards", [1, 2, 5])
@pytest.mark.parametrize("metric", models.METRICS)
@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_pq"])
def test_given_lists(kind, metric, n_shards):
    one, many = build(kind, n_shards, metric)
    x = queries()
    random = np.random.default_rng(0)
    lists = np.stack([random.permutation(12)[:3] for _ in x])
    each = filters.from_mask(random.random((len(x), 1200)) < 0.5)
    for k in (1, 10, 900):
        for more in ({}, {"filter": each}):
            want = lookups.search_preassigned(ASKED[kind], one, x, k, lists, **more)
            got = shards.search_preassigned(ASKED[kind], many, x, k, lists, **more)
            assert_same_knn(got, want)


def test_replicas_take_parts_of_the_queries():
    one, many = build("ivf_flat", 6, n_replicas=3)
    radius, lists = radius_of("ivf_flat", one), np.tile([0, 5], (len(queries()), 1))
    each = np.random.default_rng(0).random((len(queries()), 1200)) < 0.5
    want = lookups.range_search(ASKED["ivf_flat"], one, queries(), radius, each)
    for a, b in zip(
        shards.range_search(ASKED["ivf_flat"], many, queries(), radius, each), want, strict=True
    ):
        assert_same(a, b)
    want = lookups.search_preassigned(ASKED["ivf_flat"], one, queries(), 9, lists)
    got = shards.search_preassigned(ASKED["ivf_flat"], many, queries(), 9, lists)
    assert_same_knn(got, want)


@needs_fibers
def test_on_a_device():
    with emulated.stands_in(emulated.EmulatedDevice(Fibers(checked=False))) as device:
        one, many = build("ivf_pq", 2, device="cuda")
        there, lists = device.array(QUERIES[:4]), np.tile([3, 0], (4, 1))
        want = lookups.search_preassigned(ASKED["ivf_pq"], one, QUERIES[:4], 5, lists)
        got = shards.search_preassigned(ASKED["ivf_pq"], many, there, 5, lists)
        assert all(isinstance(part, DeviceArray) for part in got)
        assert_same_knn(emulated.to_host(got), want)
        radius = radius_of("ivf_pq", one)
        want = lookups.range_search(ASKED["ivf_pq"], one, QUERIES[:4], radius)
        got = shards.range_search(ASKED["ivf_pq"], many, there, radius)
        for a, b in zip(got, want, strict=True):
            assert_same(a, b)


ERRORS = {
    "shards.range_search: index must be sharded.ShardedIndex, got ivf_flat.Index": (
        lambda one, _: shards.range_search(ASKED["ivf_flat"], one, QUERIES, 1.0)
    ),
    "shards.range_search: radius must be a number, got 'far'": (
        lambda _, many: shards.range_search(ASKED["ivf_flat"], many, QUERIES, "far")
    ),
    "shards.search_preassigned: lists must have 30 rows, as the queries, got 2": (
        lambda _, many: shards.search_preassigned(ASKED["ivf_flat"], many, QUERIES, 3, [[1], [2]])
    ),
    "shards.search_preassigned: lists must be between 0 and 11, got 12": (
        lambda _, many: shards.search_preassigned(ASKED["ivf_flat"], many, QUERIES, 3, [[12]])
    ),
    "search_preassigned: index must have one model for all partitions, with lists, got brute fo": (
        lambda _, many: shards.search_preassigned(
            None, shards.build("cosine", ROWS, ["cpu"]), QUERIES, 3, [[0]]
        )
    ),
    "search_preassigned: index must have one model .*, got a model each": (
        lambda _, many: shards.search_preassigned(
            ASKED["ivf_flat"], build("ivf_flat", 2, scope="independent")[1], QUERIES, 3, [[0]]
        )
    ),
}


@pytest.mark.parametrize("words", ERRORS)
def test_errors(words):
    with pytest.raises((ValueError, TypeError), match=words):
        ERRORS[words](*build("ivf_flat", 2))


def test_every_partition_is_told_the_radius(monkeypatch):
    _, many = build("brute_force", 2)
    told, scan = [], Partition.scan

    def noted(partition, *arguments):
        told.append(arguments[-1])
        return scan(partition, *arguments)

    monkeypatch.setattr(Partition, "scan", noted)
    found = shards.range_search(None, many, ROWS[:1], 0.0)
    assert_same(found.ids, [0, *range(900, 1000)])
    assert len(told) == 4, "twice two: there are more than 64"
    assert all(farthest[0] < 1e-20 for farthest in told)
