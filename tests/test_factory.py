"""Indexes from a line of text."""

import models
import numpy as np
import pytest
from compare import assert_same, assert_same_knn
from hypothesis import given
from hypothesis import strategies as st

import gpuann
from bench.data import clustered
from gpuann import brute_force, index_factory, ivf_flat, ivf_pq, ivf_sq, refined

ROWS, QUERIES = clustered(1500, 16, 30)

LINES = {
    "Flat": (brute_force, {}),
    "IVF16,Flat": (ivf_flat, {"n_lists": 16}),
    "IVF16,SQ8": (ivf_sq, {"n_lists": 16}),
    "SQ8": (ivf_sq, {"n_lists": 1}),
    "PQ4": (ivf_pq, {"n_lists": 1, "pq_dim": 4, "pq_bits": 8, "rotation": "none"}),
    "IVF16,PQ8x5": (ivf_pq, {"n_lists": 16, "pq_dim": 8, "pq_bits": 5, "rotation": "none"}),
    "OPQ4,IVF16,PQ4x8": (ivf_pq, {"n_lists": 16, "pq_dim": 4, "rotation": "opq"}),
    "RR,PQ4": (ivf_pq, {"n_lists": 1, "pq_dim": 4, "rotation": "random"}),
    "IVF16,PQ4,RFlat": (ivf_pq, {"n_lists": 16, "pq_dim": 4}),
    "IVF16,SQ8,Refine(Flat)": (ivf_sq, {"n_lists": 16}),
    "OPQ4,IVF16,PQ4x8,RFlat": (ivf_pq, {"n_lists": 16, "pq_dim": 4, "rotation": "opq"}),
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_its_parameters(line):
    module, fields = LINES[line]
    made = index_factory(16, line, "cosine", **({} if line == "Flat" else {"seed": 3}))
    assert str(made) == line
    assert made.module is module
    if made.index_params is not None:
        assert isinstance(made.index_params, module.IndexParams)
        assert (made.index_params.metric, made.index_params.seed) == ("cosine", 3)
        assert {name: getattr(made.index_params, name) for name in fields} == fields
    assert made.refined == line.endswith(("RFlat", "Refine(Flat)"))


@pytest.mark.parametrize("line", LINES)
def test_what_is_built_is_what_the_module_builds(line):
    made = index_factory(16, line, **({} if line == "Flat" else {"kmeans_n_iters": 3}))
    index = made.build(ROWS, device="cpu")
    if made.refined:
        asked = made.module.SearchParams(n_probes=16)
        dists, ids = refined.search(asked, index, QUERIES, 10, k_factor=30)
        truth = brute_force.search(brute_force.build(ROWS, device="cpu"), QUERIES, 10)
        hits = [len(set(a) & set(b)) for a, b in zip(ids.tolist(), truth[1].tolist(), strict=True)]
        assert np.mean(hits) >= 9.8
        same = ids == truth[1]
        assert_same(dists[same], truth[0][same])
        assert len(index) == 1500
        assert repr(index).startswith("refined.Index(ivf_")
        return
    assert type(index) is made.module.Index
    if made.index_params is None:
        want = brute_force.build(ROWS, device="cpu")
    else:
        want = made.module.build(made.index_params, ROWS, device="cpu")
    assert_same_knn(models.search(index, QUERIES, 10), models.search(want, QUERIES, 10))


@given(
    st.sampled_from(["", "OPQ", "RR"]), st.integers(0, 5000), st.integers(1, 64), st.integers(0, 8)
)
def test_every_line_prints_back(rotation, n_lists, pq_dim, bits):
    pieces = [f"OPQ{pq_dim}" if rotation == "OPQ" else rotation] if rotation else []
    pieces += [f"IVF{n_lists}"] if n_lists else []
    pieces += [f"PQ{pq_dim}" + (f"x{bits}" if bits >= 4 else "")]
    line = ",".join(pieces)
    made = index_factory(64, line)
    assert str(made) == line
    assert made.index_params.pq_dim == pq_dim
    assert made.index_params.n_lists == (n_lists or 1)


WRONG = {
    "IVF16": r"must say how rows are stored, got 'IVF16'; \"IVF16,Flat\", or SQ8",
    "IVF16,PQ": "where it says 'PQ', got 'IVF16,PQ'; nearest is PQ16",
    "IVF16,SQ4": "where it says 'SQ4'.*; SQ4 of faiss is not there; use SQ8, or Flat with rows of",
    "IVF16,SQfp16": "SQfp16 of faiss is not there; use SQ8, or Flat",
    "IVF16,SQ9": "where it says 'SQ9'.*nearest is SQ8",
    "IVF16,PQ4x4fs": "where it says 'PQ4x4fs'.*use PQ and a number, x4 for the same codes",
    "IVF16,PQ4x4fsr": "PQ4x4fsr of faiss is not there",
    "IDMap,Flat": "IDMap of faiss is not there; every index has ids of its own: extend",
    "IDMap2,IVF16,Flat": "IDMap2 of faiss is not there",
    "HNSW32": "HNSW32 of faiss is not there; there are no graphs: use IVF and a number",
    "IVF16_HNSW32,Flat": "IVF16_HNSW32 of faiss is not there; there are no graphs",
    "L2norm,Flat": 'L2norm of faiss is not there; build with metric="cosine"',
    "PCA8,IVF16,Flat": "PCA8 of faiss is not there; rows keep their components",
    "PCAR8,Flat": "PCAR8 of faiss is not there",
    "OPQ4_8,IVF16,PQ4": "OPQ4_8 of faiss is not there; a rotation keeps all components",
    "RR8,PQ4": "RR8 of faiss is not there; a rotation keeps",
    "Residual2x8": "Residual2x8 of faiss is not there; one quantiser of residuals",
    "IVF16,RaBitQ": "RaBitQ of faiss is not there; use PQ and a number",
    "LSH": "LSH of faiss is not there",
    "IMI2x4,PQ4": "IMI2x4 of faiss is not there; use IVF and a number",
    r"IVF16,PQ4,Refine(SQ8)": "of faiss is not there; use RFlat",
    "IFV16,Flat": "where it says 'IFV16'.*nearest is IVF16",
    "IVF16,HSNW": "where it says 'HSNW'.*; nearest is",
    "IVF16,HNSW32": "must have Flat, SQ8, PQn, PQnxn, RFlat, Refine",
    "IVF16,Flat,Flat": "must have RFlat, Refine.Flat. where it says 'Flat'.*nearest is RFlat",
    "PQ4,IVF16": "where it says 'IVF16'",
    "IVF16,Flat,RFlat,RFlat": "must have nothing more where it says 'RFlat'",
    "OPQ4,Flat": "must have OPQ4 before PQ only, got Flat",
    "OPQ8,PQ4": "must turn for the 4 codes of PQ4, got OPQ8; OPQ4",
    "PQ17": "must have PQ of 1 to 16 codes, got PQ17",
    "PQ0": "must have PQ of 1 to 16 codes, got PQ0",
    "PQ4x9": "must have codes of 4 to 8 bits, got PQ4x9",
    "IVF0,Flat": "n_lists must be at least 1, got 0",
    "": "where it says ''",
}


@pytest.mark.parametrize("line", WRONG)
def test_what_is_wrong_is_named(line):
    with pytest.raises(ValueError, match=WRONG[line]):
        index_factory(16, line)


def test_other_errors():
    with pytest.raises(TypeError, match="description must be text, got int"):
        index_factory(16, 3)
    with pytest.raises(TypeError, match=r"among .*, got n_iters; nearest is kmeans_n_iters"):
        index_factory(16, "IVF16,Flat", n_iters=3)
    with pytest.raises(TypeError, match="must be none, for Flat has no parameters, got seed"):
        index_factory(16, "Flat", seed=3)
    with pytest.raises(ValueError, match="metric must be one of"):
        index_factory(16, "Flat", "l3")
    with pytest.raises(ValueError, match=r"dataset must have shape \(n, 8\), got \(1500, 16\)"):
        index_factory(8, "Flat").build(ROWS)
    assert gpuann.index_factory is index_factory


@pytest.mark.parametrize("line", ["IVF8,Flat", "IVF8,Flat,RFlat"])
def test_chunks_that_can_be_read_once(line):
    index = index_factory(16, line).build((part for part in np.split(ROWS, [100])), device="cpu")
    assert len(index) == 1500


def test_few_lists_still_train_on_many_rows():
    """One list would otherwise see 256 rows, and its bounds leave much out."""
    rows = np.random.default_rng(0).standard_normal((20_000, 8)).astype(np.float32)
    index = index_factory(8, "SQ8").build(rows, device="cpu")
    error = np.abs(ivf_sq.reconstruct(index) - rows)
    assert (error > 0.51 * index.step).mean() < 0.001
    pq = index_factory(8, "PQ4").build(rows, device="cpu")
    lost = ((ivf_pq.reconstruct(pq) - rows) ** 2).sum(axis=1).mean()
    assert lost < 0.09  # measured 0.074; 0.154 with 256 training rows
