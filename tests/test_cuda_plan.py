"""What the host code of the CUDA backend plans: splits, shared memory, launches, on faked devices.

Plans follow the compute capability, the multiprocessors and the shared memory of the device; what
they change must not change an answer, so each is run and compared as well.
"""

import importlib
import inspect
from itertools import pairwise

import emulated
import models
import numpy as np
import op_cases
import pytest
from compare import assert_same_knn
from emu import Fibers
from engines import needs_fibers
from test_cuda_ops import answer, check

from bench import kernel_resources
from bench.data import clustered
from gpuann import _nvtx, kmeans
from gpuann.backends import cuda_ops, numpy_ops, seam
from gpuann.backends.cuda_ops import _scan, _select
from gpuann.cuda.launch import Limits

ROWS, QUERIES = clustered(2000, 16, 200)
scan_lists_file = importlib.import_module("gpuann.backends.cuda_ops.scan_lists")


def planned(limits, name):
    """The launches of a case on a device with these limits; nothing is run."""
    device = emulated.EmulatedDevice(emulated.Nothing(), limits)
    with emulated.stands_in(device):
        answer(device, name)
    return device.launches


def test_few_queries_are_split_over_the_device():
    name = "scan_lists walk one query"  # 700 rows: 6 chunks
    assert [(l.entry, l.grid) for l in planned(emulated.H200, name)] == [
        ("scan_queries", (1, 6, 1)),
        ("select_k", (1, 1, 1)),
    ]
    one_sm = emulated.SMALL._replace(n_sms=1)
    assert planned(one_sm, name)[0].grid == (1, 2, 1)
    assert len(planned(emulated.SMALL._replace(n_sms=0), name)) == 1, "no merge of one split"


def test_many_queries_are_not_split():
    launches = planned(emulated.SMALL, "scan_lut more float32")
    assert launches[0].grid == (7, 2, 1)
    assert planned(Limits(90, 3, 228_352), "scan_lut more float32")[0].grid == (7, 1, 1)


def test_the_filter_fills_the_device_with_blocks_that_stay():
    def filters(limits, name):
        return [l for l in planned(limits, name) if l.entry == "scan_filter"]

    # 140 queries x 3 probes over 5 lists of 66 rows in the mean: more items than blocks
    assert filters(emulated.SMALL, "scan_lists tiles")[0].grid == (8, 1, 1)
    # at most 11 tiles of pairs, 330 rows: a piece of 256 rows for each list, and one begun
    assert filters(emulated.H200, "scan_lists tiles")[0].grid == (11 * 7, 1, 1)
    one_list = planned(emulated.SMALL, "scan_lists one list")
    first = ["scan_measure", "scan_filter", "scan_bound"]
    assert [l.entry for l in one_list] == [*first, "scan_filter", "scan_finish"]


def test_the_first_ceiling_comes_from_the_nearest_lists():
    near = scan_lists_file.near_rows
    assert near(1_000_000, 1000, 32, 1024) == (2, 32, 1), "1024 rows of lists twice as long"
    assert near(1_000_000, 100, 32, 1024) == (1, 64, 1)
    assert near(900, 600, 5, 1024) == (5, 13, 1)
    assert near(1_000_000, 1, 1, 1024) == (1, 32, 976), "of an only list every 976th row"
    assert near(500, 1, 1, 1024) == (1, 15, 1), "480 of 500"
    assert near(9, 1, 1, 1024) == (1, 1, 1)
    assert near(1000, 1, 1, 16) == (1, 1, 31), "a turn of 32 rows ends within the list"
    assert near(0, 5, 2, 1024).probes == 2


def test_pieces_of_a_list_get_longer_when_there_is_work_for_all():
    grid = scan_lists_file._filter_grid
    assert grid(2, 1, 10_000, 1) == (2, 32)
    assert grid(2, 1, 4_000, 1) == (2, 15)
    assert grid(2, 1, 400, 1) == (2, 8)
    assert grid(1, 1, 10_000, 1) == (1, 32), "one block has all shared memory"


def test_tiles_are_of_128_queries_where_lists_have_many_pairs():
    def rows(payload, dim, limits=emulated.H200, n_queries=10_000):
        device = emulated.EmulatedDevice(emulated.Nothing(), limits)
        pq = payload.codebooks.shape[1:] if isinstance(payload, seam.PqPayload) else (0, 0)
        members = {"dim": dim, "pq_len": pq[1], "pq_book_size": pq[0]}
        members |= {"n_queries": n_queries, "n_probes": 32, "n_lists": 1024}
        return scan_lists_file._tile(device, payload, members).rows

    def pq(dim, length, bits=8):
        return seam.PqPayload(None, np.empty((dim // length, 2**bits, length)), None)

    vectors = np.empty((1, 1), np.float32)
    halves, converted = (seam.FlatPayload(vectors, None, None, h) for h in (vectors, None))
    assert rows(pq(128, 4), 128) == rows(halves, 128) == rows(halves, 768) == 128
    assert rows(pq(128, 4), 128, n_queries=128 * 32) == 128
    assert rows(pq(128, 4), 128, n_queries=128 * 32 - 1) == 64, "under 128 pairs a list"
    assert rows(pq(128, 4, bits=6), 128) == rows(pq(128, 1), 128) == rows(converted, 128) == 64
    assert rows(seam.SqPayload(vectors, None, None, None), 128) == 64
    assert rows(pq(96, 4), 96, emulated.RTX) == 128
    assert rows(pq(128, 4), 128, emulated.RTX) == 64, "no room for the codebooks beside 128"
    assert rows(pq(256, 8), 256) == 128
    assert rows(pq(272, 8), 272) == 64, "there is none beside 64 either"
    assert rows(halves, 768, emulated.SMALL) == 64, "two parts of 128 do not fit"


@pytest.mark.parametrize("dim", [96, 100, 128])
def test_two_blocks_with_codebooks_share_a_multiprocessor(dim):
    device = emulated.EmulatedDevice(emulated.Nothing(), emulated.H200)
    tile = scan_lists_file.Tile(device, dim, 4, 256, 64)
    assert kernel_resources.blocks_per_sm("90", 128, tile.shared, 256) == 2
    on_a100 = kernel_resources.blocks_per_sm("80", 128, tile.shared, 256)
    assert on_a100 == (2 if dim < 128 else 1)


@pytest.mark.parametrize("dim", [384, 768, 1024, 1536])
def test_two_blocks_of_long_rows_share_a_multiprocessor(dim):
    device = emulated.EmulatedDevice(emulated.Nothing(), emulated.H200)
    tile = scan_lists_file.Tile(device, dim, 0, 0, 64)
    assert kernel_resources.blocks_per_sm("90", 128, tile.shared, 256) == 2


@needs_fibers
def test_long_rows_in_tiles_of_128(monkeypatch):
    """Two parts of them fit an H200, not the device that the cases run on."""
    monkeypatch.setattr(scan_lists_file, "MANY_PER_LIST", 0)
    device = emulated.EmulatedDevice(Fibers(checked=True), emulated.H200)
    with emulated.stands_in(device):
        check(device, "scan_lists halves wide")
    assert "TILE128" in device.launches[-1].variant


def test_codebooks_that_do_not_fit_are_read_where_they_are():
    def pq_len(dim, shared, length=4, rows=64):
        device = emulated.EmulatedDevice(emulated.Nothing(), Limits(90, 1, shared))
        return scan_lists_file.Tile(device, dim, length, 256, rows).pq_len

    assert pq_len(128, emulated.H200.shared_bytes) == 4
    assert pq_len(384, emulated.H200.shared_bytes) == 0, "196 KB beside two tiles of 36"
    assert pq_len(300, emulated.H200.shared_bytes) == 0
    assert pq_len(256, emulated.H200.shared_bytes) == 4
    assert pq_len(128, emulated.RTX.shared_bytes) == 4
    assert pq_len(160, emulated.RTX.shared_bytes) == 0
    assert pq_len(126, emulated.H200.shared_bytes, length=3) == 0


@needs_fibers
def test_a_codebook_that_does_not_fit_gives_the_same_answers():
    for shared in (emulated.SMALL.shared_bytes, 40_000):
        device = emulated.EmulatedDevice(
            Fibers(checked=True), emulated.SMALL._replace(shared_bytes=shared)
        )
        with emulated.stands_in(device):
            check(device, "scan_lists pq 4 odd")
        assert ("PQ_LEN4" in device.launches[-1].variant) == (shared > 40_000)


@needs_fibers
@pytest.mark.parametrize("limits", [emulated.RTX, emulated.SMALL, emulated.H200])
@pytest.mark.parametrize("name", ["scan_lut float32", "scan_lut more float32", "scan_lists tiles"])
def test_plans_do_not_change_answers(limits, name):
    device = emulated.EmulatedDevice(Fibers(checked=True), limits)
    with emulated.stands_in(device):
        check(device, name)


@needs_fibers
def test_a_table_that_does_not_fit_is_read_where_it_is(monkeypatch):
    arguments = op_cases.arguments("scan_lut more float32")
    table = arguments["lut"].nbytes // len(arguments["lut"])
    whole = planned(emulated.SMALL, "scan_lut more float32")[0].shared
    short = emulated.SMALL._replace(shared_bytes=whole - 1)
    assert planned(short, "scan_lut more float32")[0].shared == whole - table
    device = emulated.EmulatedDevice(Fibers(checked=True), short)
    with emulated.stands_in(device):
        check(device, "scan_lut more float32")


def test_epochs():
    """Few rows: one. Many: as many first as fill half the places, then growing."""
    epochs = scan_lists_file.epochs
    assert epochs(31_000, 10, 1024, 1024) == (16, [1])
    assert epochs(1_000_000, 10, 1024, 1024) == (16, [256, 16, 1])
    assert epochs(1_000_000, 100, 1024, 1024) == (4, [256, 64, 16, 4, 1])
    assert epochs(1_000_000, 2048, 8192, 8192) == (2, [64, 32, 16, 8, 4, 2, 1])
    for n, k in ((10**9, 1), (10**7, 700)):
        places, budget = max(1024, 4 * k), max(1024, 4 * k)
        growth, steps = epochs(n, k, budget, places)
        assert steps[0] * budget * places // k >= n
        assert all(a == growth * b for a, b in pairwise(steps))
        assert growth * k <= places


@needs_fibers
@pytest.mark.parametrize("name", ["scan_lists epochs one list", "scan_lists epochs"])
def test_epochs_keep_the_survivors_within_their_places(name):
    device = emulated.EmulatedDevice(Fibers(checked=False))
    with emulated.stands_in(device):
        check(device, name)
    entries = [launch.entry for launch in device.launches]
    assert entries.count("scan_tighten") == entries.count("scan_filter") - 2 >= 1
    places = device.borrowed["scan.survivors0"].shape[1]
    counts = device.borrowed["scan.n_survivors"].host
    assert counts.max() <= places, "a query overflowed, though its rows come in no order"


@needs_fibers
@pytest.mark.parametrize(
    ("name", "at_least"),
    [("scan_lists overflow", 9), ("scan_lists overflow filter", 1), ("scan_lists pq overflow", 1)],
)
def test_the_overflow_cases_overflow(name, at_least):
    device = emulated.EmulatedDevice(Fibers(checked=False))
    with emulated.stands_in(device):
        check(device, name)
    places = device.borrowed["scan.survivors0"].shape[1]
    assert (device.borrowed["scan.n_survivors"].host > places).sum() >= at_least


@needs_fibers
def test_grids_beyond_an_axis_are_cut(monkeypatch):
    """As with more than 65,535 blocks: smaller limits give the same answers in more steps."""
    for module in ("build_lut", "pairwise"):
        name = f"gpuann.backends.cuda_ops.{module}"
        monkeypatch.setattr(importlib.import_module(name), "MAX_GRID", (2**31 - 1, 2, 1))
    device = emulated.EmulatedDevice(Fibers(checked=True))
    with emulated.stands_in(device):
        check(device, "build_lut float32")
        assert len(device.launches) == 2, "nine queries, eight a block, one block"
        check(device, "pairwise tiles")
        assert device.launches[-1].grid == (2, 2, 1), "three tiles of rows over two blocks"


@needs_fibers
def test_scratch_of_a_full_batch_stays_within_the_workspace(device):
    """What a batch borrows is what the backend says that it holds."""
    for k in (10, 300):
        index = models.build("ivf_flat", ROWS, n_lists=20, device="cuda")
        device.borrowed.clear()
        models.search(index, QUERIES, k, n_probes=8)
        backend = index.core.backend
        said = backend.bytes_per_query + backend.bytes_per_result * k + 128 * 8
        by_list = {n: a for n, a in device.borrowed.items() if len(a) != 20 and len(a) != 21}
        assert sum(array.nbytes for array in by_list.values()) <= said * len(QUERIES)


@needs_fibers
def test_an_only_list_in_any_order_does_not_overflow(monkeypatch):
    """Rows sorted by distance: the bound and the epochs take theirs spread over the list. Of 64
    places one would be missing: the filter rounds to fp16 and lets some more rows pass.
    """
    rows = ROWS[np.argsort(((ROWS - QUERIES[0]) ** 2).sum(axis=1))[::-1]]
    device = emulated.EmulatedDevice(Fibers(checked=False))
    monkeypatch.setattr(_scan, "SURVIVORS", 72)
    monkeypatch.setattr(_scan, "BUDGET", 128)
    with emulated.stands_in(device):
        index = models.build("brute_force", rows, device="cuda")
        got = models.search(index, QUERIES[:20], 4)
        assert device.borrowed["scan.n_survivors"].host[0] <= 72
    want = models.search(models.build("brute_force", rows, device="cpu"), QUERIES[:20], 4)
    assert_same_knn(got, want)


def test_shared_memory_of_a_scan():
    device = emulated.EmulatedDevice(emulated.Nothing(), emulated.H200)
    plan = _scan.Plan("test", device, 128, 10)
    assert (plan.budget, plan.capacity, plan.shared) == (1024, 256, 512 + 24 * 256)
    plan = _scan.Plan("test", device, 3, 2048)
    assert (plan.budget, plan.capacity, plan.shared) == (8192, 2048, 16 + 24 * 2048)
    assert _scan.Plan("test", device, 1, 1).shared == 16 + 24 * 256
    least = 4 * (1024 + 128) + 1536  # a table scan holds no query: the selection, 24 * 256
    fits = device.limits.shared_bytes - least
    assert _scan.Plan("test", device, 4096, 10, fits).shared == device.limits.shared_bytes
    assert not _scan.Plan("test", device, 4096, 10, fits + 1).table_is_shared
    with pytest.raises(ValueError, match="test: dim must be at most 16384 on a CUDA device"):
        _scan.Plan("test", device, 20_000, 1)


@pytest.mark.parametrize(("limits", "most"), [(emulated.RTX, 2048), (emulated.H200, 8192)])
def test_how_many_results_a_device_gives(limits, most):
    device = emulated.EmulatedDevice(emulated.Nothing(), limits)
    assert _select.capacity("test", device, most) == most
    with pytest.raises(ValueError, match=f"k must be at most {most} on this device, got"):
        _select.capacity("test", device, most + 1)


@pytest.fixture
def device():
    with emulated.stands_in(emulated.EmulatedDevice(Fibers(checked=False))) as stand_in:
        yield stand_in


@needs_fibers
@pytest.mark.parametrize("kind", models.KINDS)
@pytest.mark.parametrize("n", [1, 200])
def test_a_search_takes_few_launches(device, kind, n):
    index = models.build(kind, ROWS, n_lists=20, pq_dim=8, device="cuda")
    queries = device.array(QUERIES[:n])
    before, made = len(device.launches), device.made
    models.search(index, queries, 10, n_probes=8)
    launches = [launch.entry for launch in device.launches[before:]]
    want = {
        ("brute_force", 1): 2,
        ("brute_force", 200): 5,
        ("ivf_flat", 1): 3,
        ("ivf_flat", 200): 13,
        ("ivf_pq", 1): 4,
        ("ivf_pq", 200): 13,
        ("ivf_sq", 1): 3,
        ("ivf_sq", 200): 13,
    }
    assert len(launches) == want[kind, n], launches
    # elementwise work of the array module, each a small launch of its own on a GPU
    assert device.made - made <= 5


@needs_fibers
def test_scratch_is_asked_for_by_name_and_size(device):
    index = models.build("ivf_flat", ROWS, n_lists=20, device="cuda")
    models.search(index, QUERIES, 10, n_probes=8)
    held = {name: array.nbytes for name, array in device.borrowed.items()}
    models.search(index, QUERIES, 10, n_probes=8)
    assert held == {name: array.nbytes for name, array in device.borrowed.items()}
    assert held["scan.survivors0"] == len(QUERIES) * 1024 * 8


class Recorder:
    """Stands in for the nvtx module; which ranges began, and how deep."""

    def __init__(self):
        self.began, self._open = [], []

    def annotate(self, name, domain):
        assert domain == "gpuann"
        self._name = name
        return self

    def __enter__(self):
        self.began.append((len(self._open), self._name))
        self._open.append(self._name)

    def __exit__(self, *_):
        self._open.pop()


@needs_fibers
@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_ranges_of_a_search(device, monkeypatch, where):
    index = models.build("ivf_pq", ROWS, n_lists=20, pq_dim=8, device=where)
    recorder = Recorder()
    monkeypatch.setattr(_nvtx, "nvtx", recorder)
    models.search(index, QUERIES[:1], 3, n_probes=1)
    first = [(depth, name) for depth, name in recorder.began if depth < 2]
    assert first == [(0, "ivf_pq.search"), (1, "scan_lists"), (1, "build_lut"), (1, "scan_lut")]


@pytest.mark.parametrize("backend", [numpy_ops, cuda_ops], ids=lambda b: b.__name__[-9:])
@pytest.mark.parametrize("op", cuda_ops.__all__)
def test_every_operation_is_a_range(monkeypatch, backend, op):
    recorder = Recorder()
    monkeypatch.setattr(_nvtx, "nvtx", recorder)
    with pytest.raises(Exception):  # noqa: B017 - nothing is given: it must not get far
        getattr(backend, op)(*[None] * 20)
    with pytest.raises(Exception):  # noqa: B017
        getattr(backend, op)(**dict.fromkeys(_parameters(op)))
    assert {name for _, name in recorder.began} == {op}


def _parameters(op):
    return [p for p in inspect.signature(getattr(seam.Ops, op)).parameters if p != "self"]


def test_public_calls_are_ranges(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(_nvtx, "nvtx", recorder)
    index = models.build("brute_force", ROWS, device="cpu")
    models.search(index, QUERIES, 3)
    kmeans.fit(kmeans.KMeansParams(n_clusters=3, max_iter=1), ROWS, device="cpu")
    public = [name for depth, name in recorder.began if depth == 0]
    assert public == ["brute_force.build", "brute_force.search", "kmeans.fit"]


@needs_fibers
@pytest.mark.parametrize("kind", models.KINDS)
def test_small_batches_within_the_workspace_equal_one(device, monkeypatch, kind):
    index = models.build(kind, ROWS, n_lists=20, pq_dim=8, device="cuda")
    want = models.search(index, QUERIES, 10)
    backend = index.backend if kind == "brute_force" else index.core.backend
    object.__setattr__(backend, "bytes_per_query", 1 << 25)  # 30 queries at a time
    before = len(device.launches)
    assert_same_knn(models.search(index, QUERIES, 10), want)
    finished = [launch for launch in device.launches[before:] if launch.entry == "scan_finish"]
    assert len(finished) >= 6, "it was not cut"
    assert_same_knn(emulated.to_host(models.search(index, device.array(QUERIES), 10)), want)
