"""An index under changes in any order, beside a plain dictionary of what it should hold."""

import pathlib
import tempfile

import numpy as np
from compare import assert_close, assert_same
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import gpuann
from gpuann import filters

DIM = 6
KINDS = {
    "brute_force": {},
    "ivf_flat": {},
    "ivf_pq": {"pq_dim": 3, "pq_bits": 8},
    "ivf_pq packed": {"pq_dim": 3, "pq_bits": 5, "rotation": "random"},
    "ivf_sq": {},
    "refined": {"pq_dim": 3, "pq_bits": 4},
}
METRICS = ["sqeuclidean", "inner_product", "cosine", "euclidean"]
SEEDS = st.integers(0, 2**32 - 1)
MOST = 400  # rows, so that a step stays short


class Changes(RuleBasedStateMachine):
    """Rules are what a user does; after each of them the index must answer as the dictionary."""

    device = "cpu"
    steps = 0

    @initialize(kind=st.sampled_from(sorted(KINDS)), metric=st.sampled_from(METRICS), seed=SEEDS)
    def build(self, kind, metric, seed):
        self.rng = np.random.default_rng(seed)
        self.module, self.metric = getattr(gpuann, kind.split()[0]), metric
        rows = self.some_rows(60)
        if kind == "brute_force":
            self.index = self.module.build(rows, metric, device=self.device)
        else:
            self.inner = gpuann.ivf_pq if kind == "refined" else self.module
            more = {"n_lists": 5, "kmeans_n_iters": 2, "metric": metric}
            params = self.inner.IndexParams(**KINDS[kind], **more)
            self.index = self.inner.build(params, rows, device=self.device)
            if kind == "refined":
                self.index = self.module.build(self.index, rows)
        self.held, self.next = {}, 0
        self.note(range(60))

    def some_rows(self, n):
        """Near others, some of them equal: ties are decided by ids."""
        rows = self.rng.standard_normal((n, DIM))
        rows[self.rng.random(n) < 0.2] = np.rint(rows[0])
        return rows.astype(np.float32)

    def note(self, ids):
        """What the index has of these ids is what it must go on having."""
        ids = [int(i) for i in ids]
        self.held |= zip(ids, self.module.reconstruct(self.index, ids), strict=True)
        self.next = max([self.next, *(i + 1 for i in ids)])

    def some_ids(self, share):
        ids = np.array(sorted(self.held))
        return ids[self.rng.random(len(ids)) < share]

    @precondition(lambda self: len(self.held) < MOST)
    @rule(n=st.integers(1, 30))
    def extend(self, n):
        first = self.next  # whatever has been deleted since
        self.index = self.module.extend(self.index, self.some_rows(n))
        self.note(range(first, first + n))

    @precondition(lambda self: len(self.held) < MOST)
    @rule(n=st.integers(1, 20), replace=st.booleans())
    def extend_with_ids(self, n, replace):
        ids = self.rng.choice(3 * MOST, n, replace=False)
        if replace:
            how = {"on_duplicate": "replace"}
        else:
            how, ids = {}, ids[[int(i) not in self.held for i in ids]]
        if len(ids):
            self.index = self.module.extend(self.index, self.some_rows(len(ids)), ids, **how)
            self.note(ids)

    @rule(share=st.floats(0, 0.6))
    def delete(self, share):
        gone = self.some_ids(share)
        if len(gone) < len(self.held):
            strangers = 10**6 + self.rng.integers(0, 9, 3)
            ids = self.rng.permutation(np.concatenate([gone, strangers]))
            self.index = self.module.delete(self.index, ids, missing="ignore")
            for i in gone.tolist():
                del self.held[i]

    @rule()
    def compact(self):
        self.index = self.module.compact(self.index)

    @rule(share=st.floats(0.1, 0.9))
    def take_apart_and_merge(self, share):
        some = self.some_ids(share)
        if 0 < len(some) < len(self.held):
            others = np.setdiff1d(sorted(self.held), some)
            parts = [self.module.delete(self.index, ids) for ids in (some, others)]
            self.index = self.module.merge(parts)

    @rule(mmap=st.booleans())
    def save_and_load(self, mmap):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "x.ann"
            self.module.save(path, self.index)
            found = gpuann.load(path, device=self.device, mmap=mmap and self.device == "cpu")
            assert type(found) is type(self.index)
            self.index = self.module.compact(found) if mmap else found

    @rule(k=st.integers(1, 500), n=st.sampled_from([1, 3, 40]), filtered=st.booleans())
    def search(self, k, n, filtered):
        queries = self.some_rows(n)
        mask, more = np.ones(10**4, bool), {}
        if filtered:
            mask = self.rng.random(10**4) < self.rng.random()
            name = "prefilter" if self.module is gpuann.brute_force else "filter"
            more = {name: filters.from_mask(mask)}
        if self.module is gpuann.brute_force:
            got = self.module.search(self.index, queries, k, **more)
        else:
            asked = self.inner.SearchParams(n_probes=5)
            if self.module is gpuann.refined:
                more["k_factor"] = 500  # all candidates, so the answer is exact
            got = self.module.search(asked, self.index, queries, k, **more)
        self.compare(queries, k, mask, *got)

    def compare(self, queries, k, mask, dists, ids):
        names = np.array([i for i in sorted(self.held) if mask[i]], np.int64)
        n = min(k, len(names))
        assert_same(ids[:, n:], np.full((len(queries), k - n), -1))
        stored = np.array([self.held[i] for i in names], np.float64).reshape(-1, DIM)
        is_whole = self.module in (gpuann.brute_force, gpuann.ivf_flat, gpuann.refined)
        want = distances(self.metric, queries.astype(np.float64), stored, is_whole)
        order = np.argsort(want, axis=1, kind="stable")[:, :n]
        sign = -1 if self.metric == "inner_product" else 1
        scale = 1 + np.abs(want).max(initial=0)
        near = np.take_along_axis(want, order, axis=1)
        assert_close(sign * dists[:, :n], near, rtol=3e-5, atol=3e-5 * scale)
        for row, found in enumerate(ids[:, :n]):
            assert len(set(found.tolist())) == n, "an id twice"
            place = np.searchsorted(names, found)
            assert (names[np.minimum(place, len(names) - 1)] == found).all(), "an id that is gone"
            # its own distance, wherever ties put it
            assert_close(sign * dists[row, :n], want[row, place], rtol=3e-5, atol=3e-5 * scale)

    @invariant()
    def holds_as_many(self):
        self.steps += 1
        if hasattr(self, "held"):
            assert len(self.index) == len(self.held)


def distances(metric, queries, rows, is_whole):
    """Scan order, smaller is better. Codes are of normalised rows under cosine, and count as they
    are; a row or a query without direction is orthogonal to all.
    """
    if metric == "inner_product":
        return -(queries @ rows.T)
    if metric == "cosine":
        queries, nowhere = normalised(queries)
        zero = np.zeros(len(rows), bool)
        if is_whole:
            rows, zero = normalised(rows)
    square = ((queries[:, None] - rows[None]) ** 2).sum(axis=2)
    if metric == "cosine":
        return (square + nowhere[:, None] + zero) / 2
    return np.sqrt(square) if metric == "euclidean" else square


def normalised(x):
    """Rows of length 1, and which of them have none."""
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, norm, where=norm > 0, out=np.zeros_like(x)), norm[:, 0] == 0
