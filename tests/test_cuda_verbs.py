"""Everything but build and search on the emulated device: what it gives is what the CPU gives."""

import emulated
import models
import numpy as np
import pytest
from compare import assert_same, assert_same_knn
from device_arrays import DeviceArray
from emu import Fibers
from engines import needs_fibers

import gpuann
from bench.data import clustered
from gpuann import filters, index_factory, ivf_pq, ivf_sq, quantize, refined, shards

pytestmark = needs_fibers

ROWS, QUERIES = clustered(900, 12, 25)
MORE = clustered(60, 12, 1)[0] + np.float32(0.5)
SHAPE = {"n_lists": 9, "pq_dim": 4}


@pytest.fixture(autouse=True)
def device():
    with emulated.stands_in(emulated.EmulatedDevice(Fibers(checked=False))) as stand_in:
        stand_in.watched = True
        yield stand_in


def module_of(kind):
    return getattr(gpuann, kind)


def both(kind, metric="sqeuclidean", rows=ROWS, **more):
    return [models.build(kind, rows, metric, **SHAPE, **more, device=d) for d in ("cpu", "cuda")]


def host(array):
    return array.host if isinstance(array, DeviceArray) else array


def same_answers(pair, **more):
    here, there = pair
    assert (here.device, there.device) == ("cpu", "cuda:0")
    assert len(here) == len(there)
    for queries in (QUERIES, QUERIES[:1]):
        want = models.search(here, queries, 10, **more)
        assert_same_knn(models.search(there, queries, 10, **more), want)


@pytest.mark.parametrize("metric", models.METRICS)
@pytest.mark.parametrize("kind", models.KINDS)
def test_changes(kind, metric):
    module, pair = module_of(kind), both(kind, metric)
    pair = [module.extend(index, MORE) for index in pair]
    same_answers(pair)
    with pytest.raises(ValueError, match="new_indices must be new, got 7 again"):
        module.extend(pair[1], MORE[:2], [7, 5000])
    pair = [module.extend(i, MORE[:2], [7, 5000], on_duplicate="replace") for i in pair]
    same_answers(pair)
    with pytest.warns(UserWarning, match="1 of 301 ids are not in the index"):
        module.delete(pair[1], [*range(0, 600, 2), 77_777])
    pair = [module.delete(index, np.arange(0, 600, 2)) for index in pair]
    same_answers(pair)
    pair = [module.compact(index) for index in pair]
    same_answers(pair)
    ids = [3, 7, 5000, 650]
    assert_same(*(host(module.reconstruct(index, ids)) for index in pair))
    assert_same(*(host(module.reconstruct(index)) for index in pair))
    split = [
        [module.delete(index, gone, missing="ignore") for gone in (range(450), range(450, 6000))]
        for index in pair
    ]
    pair = [module.merge(parts) for parts in split]
    same_answers(pair)
    if kind != "brute_force":
        assert_same(*(host(index.list_sizes) for index in pair))
        assert pair[0].imbalance == pair[1].imbalance


@pytest.mark.parametrize("metric", models.METRICS)
@pytest.mark.parametrize("kind", models.KINDS)
def test_look_ups(kind, metric, device):
    module, (here, there) = module_of(kind), both(kind, metric)
    asked = None if kind == "brute_force" else module.SearchParams(n_probes=4)
    radius = float(np.median(models.search(here, QUERIES, 20)[0]))
    mask = np.random.default_rng(0).random((len(QUERIES), len(ROWS))) < 0.4
    for only in (None, mask, mask[0], filters.from_ids([3, 4, 700])):
        found = [module.range_search(asked, i, QUERIES, radius, filter=only) for i in (here, there)]
        for want, got in zip(*found, strict=True):
            assert_same(got, want)
        assert only is not None or len(found[0].ids) > 100
        if kind == "brute_force":
            continue
        lists = np.random.default_rng(1).permuted(np.tile(np.arange(9), (25, 1)), axis=1)[:, :3]
        want = module.search_preassigned(asked, here, QUERIES, 7, lists, filter=only)
        got = module.search_preassigned(asked, there, QUERIES, 7, lists, filter=only)
        assert_same_knn(got, want)
        queries, chosen = device.array(QUERIES), device.array(lists)
        got = module.search_preassigned(asked, there, queries, 7, chosen, filter=only)
        assert isinstance(got[0], DeviceArray)
        assert_same_knn(emulated.to_host(got), want)


@pytest.mark.parametrize("where", ["cpu", "cuda"])
@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_pq", "ivf_sq"])
def test_an_index_that_has_been_trained_only(kind, where, device, tmp_path):
    """cuVS's add_data_on_build=False, FAISS's train: rows come by extend, in parts."""
    module = module_of(kind)
    shape = {"n_lists": 9, "pq_dim": 4} if kind == "ivf_pq" else {"n_lists": 9}
    shape |= {"kmeans_n_iters": 4}
    full = module.build(module.IndexParams(**shape), ROWS, device=where)
    params = module.IndexParams(**shape, add_data_on_build=False)
    empty, asked = module.build(params, iter([ROWS]), device=where), module.SearchParams(n_probes=4)
    assert (len(empty), empty.next_id) == (0, 0)
    assert_same(host(empty.list_sizes), np.zeros(9, np.int64))
    every = np.ones((len(QUERIES), 50), bool)
    on_device = [device.array(QUERIES)] if where == "cuda" else []
    for queries in (QUERIES, QUERIES[:1], *on_device):
        for only in (None, every[0], every[: len(queries)]):
            found = module.search(asked, empty, queries, 3, filter=only)
            assert_same(host(found[1]), np.full((len(queries), 3), -1))
            assert_same(host(found[0]), np.full((len(queries), 3), np.inf, np.float32))
    found = module.search_preassigned(asked, empty, QUERIES, 3, np.zeros((25, 1), int))
    assert (found[1] == -1).all()
    assert_same(module.range_search(asked, empty, QUERIES, 9.0).limits, np.zeros(26, np.int64))
    assert module.reconstruct(empty).shape == (0, 12)
    with pytest.raises(ValueError, match="ids must be in the index, got 3, and it has no rows"):
        module.reconstruct(empty, [3])
    with pytest.raises(ValueError, match="ids must leave a row in the index"):
        module.delete(empty, [3], missing="ignore")
    assert len(module.merge([empty, empty])) == len(module.compact(empty)) == 0
    module.save(tmp_path / "x.ann", empty)
    empty = gpuann.load(tmp_path / "x.ann", device=where)
    with pytest.raises(ValueError, match="devices must be at most the 0 rows, got 1"):
        shards.load(tmp_path / "x.ann", [where])
    first = module.extend(empty, ROWS[:400])
    second = module.extend(first, ROWS[400:])
    want = module.search(asked, full, QUERIES, 10)
    assert_same_knn(module.search(asked, second, QUERIES, 10), want)
    merged = module.merge([empty, full])
    assert_same_knn(module.search(asked, merged, QUERIES, 10), want)


@pytest.mark.parametrize("metric", models.METRICS)
@pytest.mark.parametrize("dtype", ["float16", "int8", "uint8", "bfloat16"])
@pytest.mark.parametrize("kind", models.KINDS)
def test_every_dtype_under_every_metric(kind, dtype, metric):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    rows = np.rint(ROWS * 20 + 60).clip(0, 120).astype(dtype)
    here, there = both(kind, metric, rows, **({"pq_bits": 4} if kind == "ivf_pq" else {}))
    want = models.search(here, rows[:9], 5)
    assert_same_knn(models.search(there, rows[:9], 5), want)
    # what is stored is exact for these: all metrics of the decoded rows, from float64
    stored = module_of(kind).reconstruct(here, want[1].reshape(-1)).astype(np.float64)
    stored, asked = stored.reshape(9, 5, 12), rows[:9, None].astype(np.float64)
    if metric == "cosine":
        asked, stored = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (asked, stored))
    products = (asked * stored).sum(axis=-1)
    squares = ((asked - stored) ** 2).sum(axis=-1)
    exact = {"inner_product": products, "sqeuclidean": squares, "euclidean": np.sqrt(squares)}
    exact["cosine"] = 1 - products
    if metric != "cosine" or kind in ("brute_force", "ivf_flat"):
        scale = max(1, np.abs(exact[metric]).max())
        np.testing.assert_allclose(want[0], exact[metric], rtol=2e-5, atol=2e-5 * scale)


@pytest.mark.parametrize("kind", ["ivf_pq", "ivf_sq"])
def test_transform(kind, device):
    here, there = both(kind)
    want = module_of(kind).transform(here, QUERIES)
    for rows in (QUERIES, device.array(QUERIES)):
        for a, b in zip(module_of(kind).transform(there, rows), want, strict=True):
            assert_same(host(a), b)


@pytest.mark.parametrize(("bits", "rotation"), [(4, "none"), (5, "random"), (8, "none")])
def test_product_quantiser(bits, rotation, device):
    shape = {"pq_dim": 5, "pq_bits": bits, "rotation": rotation}
    params = quantize.pq.QuantizerParams(**shape, kmeans_n_iters=2)
    here, there = (quantize.pq.fit(params, ROWS, device=d) for d in ("cpu", "cuda"))
    codes = quantize.pq.encode(here, QUERIES, device="cpu")
    for rows in (QUERIES, device.array(QUERIES)):
        assert_same(host(quantize.pq.encode(there, rows, device="cuda")), codes)
    assert_same(quantize.pq.decode(there, codes), quantize.pq.decode(here, codes))
    want = quantize.pq.error(here, ROWS, device="cpu")
    assert quantize.pq.error(there, ROWS, device="cuda") == want


def test_scalar_quantiser(device):
    params = quantize.scalar.QuantizerParams(quantile=0.98)
    here, there = (quantize.scalar.fit(params, rows) for rows in (ROWS, device.array(ROWS)))
    assert_same(there.step, here.step)
    codes = quantize.scalar.encode(here, QUERIES, device="cpu")
    for rows in (QUERIES, device.array(QUERIES)):
        assert_same(quantize.scalar.encode(there, rows, device="cuda"), codes)
    want = quantize.scalar.error(here, ROWS, device="cpu")
    assert quantize.scalar.error(there, ROWS, device="cuda") == want


def test_given_bounds_and_rows_coded_whole():
    bounds = np.stack([ROWS.min(axis=0), ROWS.max(axis=0)])
    params = ivf_sq.IndexParams(n_lists=9, by_residual=False, metric="cosine")
    rows = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    same_answers([ivf_sq.build(params, rows, device=d) for d in ("cpu", "cuda")])
    params = ivf_sq.IndexParams(n_lists=9, by_residual=False)
    pair = [ivf_sq.build(params, ROWS, bounds=bounds, device=d) for d in ("cpu", "cuda")]
    same_answers(pair)


@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_pq", "ivf_sq"])
def test_balanced_lists(kind):
    pair = both(kind, balanced=True)
    same_answers(pair)
    assert_same(*(host(index.list_sizes) for index in pair))


@pytest.mark.parametrize("line", ["Flat", "IVF9,Flat", "IVF9,SQ8", "PQ4", "RR,IVF9,PQ4x5,RFlat"])
def test_lines_of_the_factory(line):
    pair = [index_factory(12, line).build(ROWS, device=d) for d in ("cpu", "cuda")]
    if not isinstance(pair[0], refined.Index):
        same_answers(pair)
        return
    asked = ivf_pq.SearchParams(n_probes=4)
    pair = [refined.extend(index, MORE) for index in pair]
    for only in (None, np.random.default_rng(2).random((25, len(ROWS) + 60)) < 0.3):
        want, got = (refined.search(asked, i, QUERIES, 6, filter=only) for i in pair)
        assert_same_knn(got, want)
    kept = [refined.compact(refined.delete(index, range(500))) for index in pair]
    want, got = (refined.search(asked, index, QUERIES, 6) for index in kept)
    assert_same_knn(got, want)
    assert_same(*(refined.reconstruct(index, [600, 930]) for index in kept))


@pytest.mark.parametrize("metric", models.METRICS)
@pytest.mark.parametrize("kind", models.KINDS)
def test_to_faiss_and_back(kind, metric):
    pytest.importorskip("faiss")
    here, there = both(kind, metric)
    written = [gpuann.to_faiss(index) for index in (here, there)]
    want = written[0].search(QUERIES, 5)
    for a, b in zip(written[1].search(QUERIES, 5), want, strict=True):
        assert_same(a, b)
    same_answers([gpuann.from_faiss(written[1], device=d) for d in ("cpu", "cuda")])


def test_a_list_of_an_index():
    here, there = both("ivf_flat")
    for index in (here, there):
        ids, rows = zip(*index.lists(), strict=True)
        assert_same(np.concatenate([host(a) for a in ids]), host(index.core.lists.ids))
        assert_same(np.concatenate([host(a) for a in rows]), ROWS[host(index.core.lists.ids)])
    for label in range(9):
        assert_same(host(there.list_indices(label)), here.list_indices(label))
        assert_same(host(there.list_data(label)), here.list_data(label))
    assert_same(host(there.centers), here.centers)
