"""To and from FAISS: the same neighbours at the same distances, to rounding."""

import functools

import models
import numpy as np
import pytest
from compare import assert_close, assert_same_knn

from bench.data import clustered
from gpuann import brute_force, from_faiss, ivf_flat, ivf_pq, ivf_sq, refined, to_faiss

faiss = pytest.importorskip("faiss")
faiss.omp_set_num_threads(1)  # its threads spin between pieces of work

ROWS, QUERIES = clustered(2000, 16, 40)
LINES = {
    "Flat": brute_force,
    "IVF16,Flat": ivf_flat,
    "IVF16,PQ4x8": ivf_pq,
    "IVF16,PQ4x4": ivf_pq,
    "IVF16,PQ8x6": ivf_pq,
    "OPQ4,IVF16,PQ4x8": ivf_pq,
    "RR16,IVF16,PQ4x5": ivf_pq,
    "IVF16,SQ8": ivf_sq,
}


@functools.cache
def trained(line, inner):
    return train(line, inner, ROWS)


def train(line, inner, rows):
    measure = faiss.METRIC_INNER_PRODUCT if inner else faiss.METRIC_L2
    index = faiss.index_factory(rows.shape[1], line, measure)
    if "IVF" in line:
        ivf = faiss.downcast_index(faiss.extract_index_ivf(index))
        ivf.nprobe = 4
        if isinstance(ivf, faiss.IndexIVFPQ):
            ivf.pq.cp.niter, ivf.do_polysemous_training = 1, False
    if line.startswith("OPQ"):
        faiss.downcast_VectorTransform(index.chain.at(0)).niter = 2
    index.train(rows)
    index.add(rows)
    return index


def assert_like(got, want, tolerance=2e-5):
    """Distances to rounding; ids wherever neighbouring distances differ by more."""
    (dists, ids), (their_dists, their_ids) = got, want
    there = their_ids >= 0
    assert ((ids >= 0) == there).all()
    scale = np.abs(their_dists[there]).max()
    assert_close(dists[there], their_dists[there], rtol=tolerance, atol=tolerance * scale)
    near = np.abs(np.diff(their_dists, axis=1)) <= 2 * tolerance * scale
    tied = np.zeros(ids.shape, bool)
    tied[:, 1:] |= near
    tied[:, :-1] |= near
    tied[:, -1] = True  # what comes next is not known
    assert ((ids == their_ids) | tied).all()


@pytest.mark.parametrize("inner", [False, True])
def test_an_index_with_its_rows(inner):
    theirs = trained("IVF16,PQ4x6,RFlat", inner)
    theirs.k_factor = 4
    want = theirs.search(QUERIES, 10)
    ours = from_faiss(theirs, device="cpu")
    assert type(ours) is refined.Index
    asked = ivf_pq.SearchParams(n_probes=4)
    assert_like(refined.search(asked, ours, QUERIES, 10, k_factor=4), want)
    back = to_faiss(ours)
    back.k_factor = 4
    faiss.downcast_index(back.base_index).nprobe = 4
    assert_like(back.search(QUERIES, 10), want)
    back.add(ROWS[:5])
    assert back.ntotal == 2005
    with pytest.raises(ValueError, match=r"ids must be 0, 1, ... with IndexRefineFlat, got"):
        to_faiss(refined.delete(ours, [3]))


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("inner", [False, True])
def test_from_faiss(line, inner):
    theirs = trained(line, inner)
    ours = from_faiss(theirs, device="cpu")
    assert type(ours) is LINES[line].Index
    assert (len(ours), ours.dim) == (2000, 16)
    assert ours.metric == ("inner_product" if inner else "sqeuclidean")
    dists, ids = theirs.search(QUERIES, 20)
    assert_like(models.search(ours, QUERIES, 20), (dists, ids))
    one = [models.search(ours, q[None], 20) for q in QUERIES]
    got = models.search(ours, QUERIES, 20)
    assert_same_knn([np.concatenate(p) for p in zip(*one, strict=True)], got)


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("inner", [False, True])
def test_there_and_back(line, inner):
    ours = from_faiss(trained(line, inner), device="cpu")
    again = to_faiss(ours)
    if "IVF" in line:
        faiss.extract_index_ivf(again).nprobe = 4
    assert_like(models.search(ours, QUERIES, 20), again.search(QUERIES, 20))
    back = from_faiss(again, device="cpu")
    assert_like(models.search(back, QUERIES, 20), models.search(ours, QUERIES, 20))


KINDS = {
    "brute_force": {},
    "ivf_flat": {},
    "ivf_pq": {"pq_dim": 4},
    "ivf_pq padded": {"pq_dim": 5},
    "ivf_pq packed": {"pq_dim": 8, "pq_bits": 5},
    "ivf_pq turned": {"pq_dim": 5, "rotation": "opq"},
    "ivf_sq": {},
    "ivf_sq whole": {"by_residual": False},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", models.METRICS)
@pytest.mark.parametrize("far", [False, True])
def test_to_faiss(kind, metric, far):
    rows, queries = ROWS, QUERIES
    if far and metric != "inner_product":
        rows, queries = rows + np.float32(30), queries + np.float32(30)
    ours = models.build(kind.split()[0], rows, metric, device="cpu", **KINDS[kind])
    theirs = to_faiss(ours)
    assert theirs.ntotal == 2000
    if kind != "brute_force":
        faiss.extract_index_ivf(theirs).nprobe = 4
    dists, ids = models.search(ours, queries, 20)
    if metric == "cosine":
        queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        dists = 2 * dists
    if metric == "euclidean":
        dists = dists**2
    # FAISS multiplies far from the origin, and so rounds more
    assert_like((dists, ids), theirs.search(queries, 20), 3e-3 if far else 1e-4)


def test_ids_of_their_own(tmp_path):
    ids = np.random.default_rng(0).permutation(10**12 + np.arange(2000))
    for line in ("IVF16,Flat", "IDMap,Flat"):
        theirs = faiss.index_factory(16, line)
        theirs.train(ROWS)
        theirs.add_with_ids(ROWS, ids)
        if "IVF" in line:
            theirs.nprobe = 4
        ours = from_faiss(theirs, device="cpu")
        want = theirs.search(QUERIES, 5)
        assert_like(models.search(ours, QUERIES, 5), want)
        faiss.write_index(to_faiss(ours), str(tmp_path / "x.faiss"))
        read = faiss.read_index(str(tmp_path / "x.faiss"))
        if "IVF" in line:
            read.nprobe = 4
        assert_like(models.search(ours, QUERIES, 5), read.search(QUERIES, 5))


def test_scalar_quantisers_of_other_kinds():
    for of in ("SQ8", "SQ8_uniform", "direct"):
        quantizer = faiss.IndexFlatL2(16)
        kind = faiss.ScalarQuantizer.QT_8bit_uniform
        if of == "SQ8":
            kind = faiss.ScalarQuantizer.QT_8bit
        rows, residual = ROWS, True
        if of == "direct":
            kind, residual = faiss.ScalarQuantizer.QT_8bit_direct, False
            rows = np.random.default_rng(1).integers(0, 256, (2000, 16)).astype(np.float32)
        theirs = faiss.IndexIVFScalarQuantizer(quantizer, 16, 8, kind, faiss.METRIC_L2, residual)
        theirs.train(rows)
        theirs.add(rows)
        theirs.nprobe = 3
        ours = from_faiss(theirs, device="cpu")
        assert ours.by_residual == residual
        assert_like(models.search(ours, rows[:30], 9, n_probes=3), theirs.search(rows[:30], 9))


REFUSED = {
    "HNSW8": "be IndexFlat, IndexIVFFlat, IndexIVFPQ or IndexIVFScalarQuantizer, got IndexHNSW",
    "IVF8,SQ4": "scalar quantizer must be of QT_8bit",
    "OPQ4_8,IVF8,PQ4": "transform must be linear and keep all components, got OPQMatrix, 16 to 8",
    "PCA16,IVF8,Flat": "must have a transform before IndexIVFPQ only, got IndexIVFFlat",
    "IVF8,PQ4x9": "must have codes of 4 to 8 bits, got 9",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_has_no_counterpart_is_refused(line):
    rows = clustered(1000, 16, 1)[0]
    with pytest.raises(ValueError, match=REFUSED[line]):
        from_faiss(train(line, inner=False, rows=rows), device="cpu")


def test_other_errors():
    with pytest.raises(ValueError, match="index must be an index of faiss, got ndarray"):
        from_faiss(ROWS)
    with pytest.raises(ValueError, match="index must have rows, got 0"):
        empty = faiss.index_factory(16, "IVF8,Flat")
        from_faiss(empty)
    with pytest.raises(TypeError, match="to_faiss: index must be an Index of"):
        to_faiss(ROWS)
    with pytest.raises(ValueError, match="got IndexHNSWFlat; build one of its rows"):
        from_faiss(train("HNSW4,Flat", inner=False, rows=ROWS[:50]))
    inside = faiss.index_factory(16, "IDMap2,IVF4,Flat")
    inside.train(ROWS)
    inside.add_with_ids(ROWS, np.arange(len(ROWS)))
    with pytest.raises(ValueError, match=r"be IndexIDMap of IndexFlat.*take faiss\.downcast_index"):
        from_faiss(inside)


def test_types_that_store_other_things_are_refused():
    """They are derived from those that are understood."""
    for make in (
        lambda q: faiss.IndexIVFFlatDedup(q, 16, 4),
        lambda q: faiss.IndexIVFPQR(q, 16, 4, 4, 4, 4, 8),
        lambda q: faiss.IndexIVFFlatPanorama(q, 16, 4, 4),
    ):
        quantizer = faiss.IndexFlatL2(16)
        theirs = make(quantizer)
        theirs.train(ROWS)
        theirs.add(ROWS)
        with pytest.raises(ValueError, match="must be IndexFlat, IndexIVFFlat, IndexIVFPQ or"):
            from_faiss(theirs, device="cpu")
    with pytest.raises(ValueError, match="got IndexIVFPQFastScan"):
        from_faiss(train("IVF8,PQ8x4fs", inner=False, rows=ROWS), device="cpu")


@pytest.mark.parametrize("line", ["IVF4,Flat", "IDMap,Flat"])
def test_ids_and_rows_that_are_not_possible_here(line):
    for ids, words in [
        (-1 - np.arange(2000), "ids must be between 0 and"),
        (np.zeros(2000, np.int64), "ids must be distinct, got 0 twice"),
    ]:
        theirs = faiss.index_factory(16, line)
        theirs.train(ROWS)
        theirs.add_with_ids(ROWS, ids)
        with pytest.raises(ValueError, match=words):
            from_faiss(theirs, device="cpu")
    rows = ROWS.copy()
    rows[3] = np.nan
    theirs = faiss.IndexFlatL2(16)
    theirs.add(rows)
    with pytest.raises(ValueError, match="from_faiss: rows must be finite"):
        from_faiss(theirs, device="cpu")
