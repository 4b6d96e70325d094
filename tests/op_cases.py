"""One list of cases for the ten operations, for every engine: arguments on the host, made by seed.

What a backend answers is compared with `numpy_ops` to the last bit, unless a case says otherwise.
`small` cases are for the PTX interpreter too, and reach every kernel variant between them.
"""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scan_cases
import strategies

from gpuann.backends import numpy_ops
from gpuann.backends.cuda_ops import _halves
from gpuann.codecs import axes

LATTICE, REAL = strategies.lattice, strategies.real
INT32, INT64, FLOAT32 = np.int32, np.int64, np.float32


class Case(NamedTuple):
    """Arguments of one operation."""

    op: str
    make: Callable[[np.random.Generator], dict[str, Any]]
    small: bool = False
    tolerance: tuple[float, float] | None = None
    """(rtol, atol), None for exact."""
    settings: tuple[tuple[str, str, Any], ...] = ()
    """(module of cuda_ops, constant, value) while the case runs."""
    reference: Callable[..., Any] | None = None
    """What the answer is compared with, given the arguments; None for the NumPy operation."""


CASES: dict[str, Case] = {}


def arguments(name):
    """The arguments of a case, the same every time."""
    return CASES[name].make(np.random.default_rng(zlib.crc32(name.encode())))


def expected(name):
    """The answer of the NumPy backend."""
    case = CASES[name]
    return (case.reference or getattr(numpy_ops, case.op))(**arguments(name))


def add(name, op, make, **more):
    assert name not in CASES
    CASES[name] = Case(op, make, **more)


def _assign(make, n_problems, n, n_centers, dim, offset=0.0):
    def arguments(rng):
        x = make(rng, n_problems, n, dim) + FLOAT32(offset)
        return {"x": x, "centers": make(rng, n_problems, n_centers, dim) + FLOAT32(offset)}

    return arguments


def _near_ties(row_scale, center_scale, jitter, n_problems=1, sphere=False, dim=8):
    """Two tight groups of centres, so that scores cannot tell those of a group apart: jitter 1e-6
    for float32, 1e-3 for fp16. sphere: of one length, so that norms do not tell them apart either.
    """

    def arguments(rng):
        sign = rng.choice([-1.0, 1.0], (n_problems, 60, 1))
        noise = rng.standard_normal((n_problems, 60, dim))
        centers = sign * center_scale * (1 + jitter * noise)
        if sphere:
            centers *= center_scale / np.linalg.norm(centers, axis=2, keepdims=True)
            centers[:, 30:] = -centers[:, :30]  # their mean is the origin
        x = row_scale * rng.standard_normal((n_problems, 64 // n_problems, dim))
        return {"x": x.astype(FLOAT32), "centers": centers.astype(FLOAT32)}

    return arguments


def _duplicate_centers(rng):
    centers = REAL(rng, 1, 70, 6)
    centers[0, 65:] = centers[0, :5]
    return {"x": np.concatenate([centers, REAL(rng, 1, 9, 6)], axis=1), "centers": centers}


add("assign one", "assign", _assign(LATTICE, 1, 1, 1, 1))
add("assign lattice", "assign", _assign(LATTICE, 2, 65, 70, 5))
add("assign small", "assign", _assign(REAL, 2, 33, 9, 12), small=True)
add("assign split small", "assign", _assign(REAL, 2, 33, 9, 4), small=True)
for dim in (1, 5, 6, 10, 11):
    add(f"assign dim {dim}", "assign", _assign(REAL, 2, 70, 300, dim))
add("assign many centers", "assign", _assign(LATTICE, 1, 130, 600, 40))
add("assign wide parts", "assign", _assign(REAL, 2, 70, 270, 520))
add("assign tile", "assign", _assign(REAL, 1, 64, 64, 16))
add("assign wide", "assign", _assign(REAL, 1, 20, 11, 300))
add("assign far", "assign", _assign(REAL, 1, 40, 20, 8, offset=1e4))
add(
    "assign tiny",
    "assign",
    lambda r: {k: v * FLOAT32(1e-20) for k, v in _assign(REAL, 1, 30, 9, 7)(r).items()},
)
add("assign long rows", "assign", _near_ties(1e3, 1.0, 1e-6))
add("assign long centers", "assign", _near_ties(1e-3, 1e3, 1e-7, n_problems=16))


def _twins(rng):
    """Every even centre has a twin behind it that only its own thread sees beside it."""
    centers = np.repeat(REAL(rng, 1, 20, 16), 2, axis=1)
    centers *= 1 + FLOAT32(1e-4) * REAL(rng, 1, 40, 16)
    return {"x": centers[:, :33] + FLOAT32(0.3) * REAL(rng, 1, 33, 16), "centers": centers}


def _sentinel(rng):
    """One centre far away takes the bits of all others: no score can tell them apart."""
    centers = REAL(rng, 1, 70, 6)
    centers[0, 50] = 2.0**30
    return {"x": REAL(rng, 1, 66, 6), "centers": centers}


add("assign sentinel", "assign", _sentinel)
add("assign long rows tensor", "assign", _near_ties(1e3, 1.0, 1e-3, dim=16))
add("assign long centers tensor", "assign", _near_ties(1.0, 1e3, 1e-3, sphere=True, dim=16))
add("assign ties", "assign", _near_ties(1.0, 1.0, 1e-3, dim=16))
add("assign split ties", "assign", _near_ties(1.0, 1.0, 1e-3))
add("assign twins", "assign", _twins)
add("assign duplicates", "assign", _duplicate_centers)


def _accumulate(n_problems, n, dim, n_clusters):
    def arguments(rng):
        labels = rng.integers(0, max(1, n_clusters - 1), (n_problems, n)).astype(INT32)
        return {"x": REAL(rng, n_problems, n, dim), "labels": labels, "n_clusters": n_clusters}

    return arguments


add("accumulate one", "accumulate", _accumulate(1, 1, 1, 1))
add("accumulate", "accumulate", _accumulate(1, 500, 5, 9))
add("accumulate batch", "accumulate", _accumulate(3, 40, 2, 7), small=True)


def _group(n, n_groups):
    def arguments(rng):
        return {"keys": rng.integers(0, n_groups, n).astype(INT32), "n_groups": n_groups}

    return arguments


add("group none", "group", _group(0, 5))
add("group one", "group", _group(1, 1))
add("group small", "group", _group(300, 400), small=True)
add("group two passes", "group", _group(5000, 300))
add("group three passes", "group", _group(700, 70_000), settings=(("group", "RUN", 256),))


def _pairwise(make, n_x, n_y, dim, metric, offset=0.0):
    def arguments(rng):
        x, y = make(rng, n_x, dim), make(rng, n_y, dim)
        return {"x": x + FLOAT32(offset), "y": y + FLOAT32(offset), "metric": metric}

    return arguments


add("pairwise product", "pairwise", _pairwise(LATTICE, 7, 70, 17, "inner_product"), small=True)
add("pairwise tiles", "pairwise", _pairwise(LATTICE, 130, 65, 16, "inner_product"))


def _turn(rng):
    """Sums that float64 holds exactly, in any order."""
    rotation = axes.random(70, 65, 3)
    return {
        "x": axes._rows_in_units(np, REAL(rng, 90, 65)),
        "y": rotation,
        "metric": "inner_product",
    }


add("pairwise turn", "pairwise", _turn)
add(
    "pairwise square",  # NumPy's expanded form rounds, also on the lattice
    "pairwise",
    _pairwise(LATTICE, 7, 70, 17, "sqeuclidean"),
    small=True,
    tolerance=(1e-5, 1e-4),
)
add(
    "pairwise far",
    "pairwise",
    _pairwise(REAL, 9, 20, 30, "sqeuclidean", offset=100.0),
    tolerance=(1e-4, 1e-3),
)


def _select(n_rows, n, k, *, ids=True):
    def arguments(rng):
        dists = rng.integers(-3, 4, (n_rows, n)).astype(FLOAT32)
        dists[rng.random((n_rows, n)) < 0.1] = np.inf
        dists[rng.random((n_rows, n)) < 0.1] = np.nan
        dists[dists == 0] *= rng.choice([-1.0, 1.0], (dists == 0).sum()).astype(FLOAT32)
        names = np.argsort(rng.random((n_rows, n)), axis=1) * 7
        names[rng.random((n_rows, n)) < 0.1] = -1
        return {"dists": dists, "ids": names if ids else None, "k": k}

    return arguments


def _merge(n_sources, n_queries, width, k):
    def arguments(rng):
        dists = rng.integers(0, 5, (n_sources, n_queries, width)).astype(FLOAT32)
        ids = rng.permutation(dists.size).reshape(dists.shape)
        ids[dists == 4], dists[dists == 4] = -1, np.inf
        return {"dists": dists, "ids": ids, "k": k}

    return arguments


add("select_k small", "select_k", _select(3, 40, 5), small=True)
add("select_k columns", "select_k", _select(2, 600, 9, ids=False))
add("select_k few", "select_k", _select(4, 3, 9))
add("select_k none", "select_k", _select(2, 0, 2))
add(
    "select_k full buffer",
    "select_k",
    lambda r: {"dists": -np.arange(3000, dtype=FLOAT32)[None], "ids": None, "k": 300},
)


def _odd(_):
    dists = np.array([[3.0, np.nan, np.inf, -2.0, 0.0, -0.0, 1.5]], FLOAT32)
    return {"dists": dists, "ids": np.array([[5, 6, 7, 8, 4, 3, -1]]), "k": 8}


add("select_k odd", "select_k", _odd)
add("select_k random", "select_k", _select(1, 3000, 300))
add("select_k 2048", "select_k", _select(1, 5000, 2048))
add("merge_topk", "merge_topk", _merge(5, 4, 6, 8), small=True)
add("merge_topk one", "merge_topk", _merge(1, 2, 3, 5))


def _lut(make, n_queries, pq_dim, pq_book_size, pq_len, dtype):
    def arguments(rng):
        return {
            "queries": make(rng, n_queries, pq_dim * pq_len),
            "codebooks": make(rng, pq_dim, pq_book_size, pq_len),
            "dtype": dtype,
        }

    return arguments


for dtype in (np.float32, np.float16):
    name = np.dtype(dtype).name
    add(f"build_lut {name}", "build_lut", _lut(LATTICE, 9, 3, 16, 2, dtype), small=True)
    add(f"build_lut wide {name}", "build_lut", _lut(LATTICE, 3, 2, 300, 5, dtype))


def _refine(make, n, dim, n_queries, n_candidates, k, metric, dtype=np.float32, *, scale=False):
    def arguments(rng):
        vectors = make(rng, n, dim)
        if dtype != np.float32:
            vectors = np.clip(np.rint(vectors * 9), 0 if dtype == np.uint8 else -99, 99)
        candidates = rng.integers(-1, n, (n_queries, n_candidates))
        candidates[:, 1:2], candidates[:, 2] = candidates[:, :1], -1
        scales = rng.random(n).astype(FLOAT32)
        scales[::3] = 0
        return {
            "queries": make(rng, n_queries, dim),
            "vectors": vectors.astype(dtype),
            "candidates": candidates,
            "ids": np.where(candidates >= 0, candidates * 10, -1),
            "k": k,
            "metric": metric,
            "scale": scales if scale else None,
        }

    return arguments


for dtype in (np.float32, np.float16, np.int8, np.uint8):
    name = np.dtype(dtype).name
    make = _refine(REAL, 50, 13, 3, 20, 25, "sqeuclidean", dtype, scale=dtype == np.int8)
    add(f"refine {name}", "refine", make, small=True)
add("refine inner", "refine", _refine(LATTICE, 30, 4, 5, 70, 40, "inner_product"))


def _cancelling(dim):
    """Products that cancel: what is left is rounding, so the order of the sum shows."""

    def arguments(rng):
        half = rng.standard_normal((9, dim // 2)) * 2.0 ** rng.integers(-40, 40, (9, dim // 2))
        half = half.astype(FLOAT32)
        rows = np.concatenate([half, -half, np.ones((9, dim % 2), FLOAT32)], axis=1)
        rows = np.ascontiguousarray(rng.permuted(rows, axis=1))
        candidates = np.arange(9)[None]
        return {
            "queries": np.ones((1, dim), FLOAT32),
            "vectors": rows,
            "candidates": candidates,
            "ids": candidates,
            "k": 9,
            "metric": "inner_product",
        }

    return arguments


for dim in (7, 15, 129, 137, 700, 4099):
    add(f"refine order {dim}", "refine", _cancelling(dim))
add("refine wide", "refine", _refine(REAL, 30, 700, 2, 40, 9, "sqeuclidean"))


def _lists(case, n_queries, n_probes, k, queries, rng, **more):
    """n_probes: of each query, or the probes themselves."""
    probes = n_probes
    if not isinstance(n_probes, np.ndarray):
        probes = scan_cases.probes(rng, n_queries, len(case.lists.radius), n_probes)
    terms = case.terms(queries, probes)
    return {
        "queries": queries,
        "terms": terms,
        "payload": case.payload,
        "lists": case.lists,
        "probes": probes,
        "k": k,
        "metric": case.metric,
        **more,
    }


def _flat(make, n_rows, n_lists, dim, n_queries, n_probes, k, metric="sqeuclidean", **more):
    """more: dtype, shift, cosine, keep ("one", "each"), limit."""
    extra = {key: more.pop(key) for key in ("cosine", "keep", "limit") if key in more}

    def arguments(rng):
        case = scan_cases.flat(
            rng, make, n_rows=n_rows, n_lists=n_lists, dim=dim, metric=metric, **more
        )
        if extra.get("cosine"):
            case = _normalised(rng, case)
        scale = 10 if "dtype" in more else 1
        queries = (scale * make(rng, n_queries, dim)).astype(FLOAT32)
        return _lists(
            case, n_queries, n_probes, k, queries, rng, **_restrict(rng, n_queries, n_rows, **extra)
        )

    return arguments


def _normalised(rng, case):
    """Rows scaled to length 1, some of them zero rows."""
    vectors = case.payload.vectors.copy()
    vectors[:: max(2, len(vectors) // 9)] = 0
    lengths = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1))
    scale = np.divide(1, lengths, where=lengths > 0, out=np.zeros_like(lengths)).astype(FLOAT32)
    lists = case.lists._replace(
        norms=np.ones(len(vectors), FLOAT32), radius=np.full_like(case.lists.radius, 1.001)
    )
    return case._replace(payload=case.payload._replace(vectors=vectors, scale=scale), lists=lists)


def _restrict(rng, n_queries, n_ids, cosine=False, keep=None, limit=False):
    more = {}
    if keep:
        shape = (n_queries, n_ids) if keep == "each" else (n_ids,)
        more["keep"] = scan_cases.bits(rng.random(shape) < 0.2)
    if limit:
        more["limit"] = rng.integers(0, 30, n_queries).astype(FLOAT32)
    return more


def _pq(make, n_rows, n_lists, pq_dim, pq_len, n_queries, n_probes, k, metric, **extra):
    """extra: pq_book_size, keep, limit."""
    shape = {"n_rows": n_rows, "n_lists": n_lists, "pq_dim": pq_dim, "pq_len": pq_len}
    shape |= {"pq_book_size": extra.pop("pq_book_size", 256)}

    def arguments(rng):
        case = scan_cases.pq(rng, make, metric=metric, **shape)
        queries = make(rng, n_queries, pq_dim * pq_len)
        return _lists(
            case, n_queries, n_probes, k, queries, rng, **_restrict(rng, n_queries, n_rows, **extra)
        )

    return arguments


def _sq(make, n_rows, n_lists, dim, n_queries, n_probes, k, metric="sqeuclidean", **extra):
    """extra: residual, keep, limit."""
    shape = {"n_rows": n_rows, "n_lists": n_lists, "dim": dim, "metric": metric}
    shape |= {"residual": extra.pop("residual", True)}

    def arguments(rng):
        case = scan_cases.sq(rng, make, **shape)
        queries = make(rng, n_queries, dim)
        return _lists(
            case, n_queries, n_probes, k, queries, rng, **_restrict(rng, n_queries, n_rows, **extra)
        )

    return arguments


def _scan(name, make, **more):
    add(f"scan_lists {name}", "scan_lists", make, **more)


N_PAIRS = (1, 63, 64, 65, 127, 128, 129, 300, 23)  # of nine lists, of 300 queries with three probes
REMAINDERS = np.ascontiguousarray(np.repeat(np.arange(9, dtype=INT32), N_PAIRS).reshape(3, 300).T)
FEW_SURVIVORS = (("_scan", "SURVIVORS", 4), ("_scan", "BUDGET", 16))
MANY_EPOCHS = (("_scan", "SURVIVORS", 32), ("_scan", "BUDGET", 64))
for dtype in (np.float32, np.float16, np.int8, np.uint8):
    name = np.dtype(dtype).name
    _scan(f"by list {name}", _flat(REAL, 90, 3, 9, 8, 2, 5, dtype=dtype), small=True)
    _scan(f"walk {name}", _flat(REAL, 90, 9, 9, 2, 3, 5, dtype=dtype), small=True)


def _with_halves(case):
    """Whole rows as the launcher makes them for an index: fp16 too."""

    def arguments(rng):
        members = case(rng)
        payload = members["payload"]
        return {
            **members,
            "payload": payload._replace(halves=_halves.halves(np, payload, members["lists"])),
        }

    return arguments


for dtype in (np.float32, np.float16):
    name = f"{np.dtype(dtype).name} halves"
    make = _with_halves(_flat(REAL, 90, 3, 9, 8, 2, 5, dtype=dtype, shift=True))
    _scan(f"by list {name}", make, small=True)
    make = _with_halves(_flat(REAL, 90, 9, 9, 2, 3, 5, dtype=dtype))
    _scan(f"walk {name}", make, small=True)
    make = _with_halves(_flat(REAL, 1200, 2, 5, 6, 2, 2, dtype=dtype))
    _scan(f"epochs {name}", make, small=True, settings=MANY_EPOCHS)
for dtype in (np.int8, np.uint8):
    name = np.dtype(dtype).name
    _scan(
        f"bytes shift {name}", _flat(REAL, 90, 3, 16, 8, 2, 5, dtype=dtype, shift=True), small=True
    )
    for dim in (1, 7, 36, 100, 300):  # whole steps, and loads of single bytes
        make = _flat(REAL, 200, 2, dim, 70, 2, 9, dtype=dtype, shift=dim % 2 == 0)
        _scan(f"bytes {dim} {name}", make)
    make = _flat(REAL, 90, 3, 12, 8, 2, 5, dtype=dtype, cosine=True)
    _scan(f"bytes cosine {name}", make, small=True)
    make = _flat(REAL, 90, 9, 12, 2, 3, 5, dtype=dtype, cosine=True)
    _scan(f"bytes cosine walk {name}", make, small=True)
    make = _flat(REAL, 1200, 2, 5, 6, 2, 2, dtype=dtype, cosine=True)
    _scan(f"bytes cosine epochs {name}", make, small=True, settings=MANY_EPOCHS)
# more items than blocks, each with its own pairs: what one leaves behind must not reach the next
_scan("remainders", _with_halves(_flat(REAL, 200, 9, 9, 300, REMAINDERS, 4, keep="each")))
_scan("halves lattice", _with_halves(_flat(LATTICE, 1500, 3, 100, 90, 2, 10)))
_scan("halves cosine", _with_halves(_flat(REAL, 300, 3, 37, 70, 2, 10, cosine=True)))
_scan("halves wide", _with_halves(_flat(REAL, 300, 2, 520, 70, 2, 10)))
_scan("halves empty lists", _with_halves(_flat(LATTICE, 40, 60, 16, 300, 9, 3)))
_scan("one list", _flat(LATTICE, 200, 1, 6, 70, 1, 4), small=True)
_scan("no rows", _flat(LATTICE, 0, 4, 3, 9, 2, 3))
_scan("one row", _flat(LATTICE, 1, 1, 1, 1, 1, 3))
_scan("tiles", _flat(LATTICE, 330, 5, 17, 140, 3, 10))
_scan("inner product", _flat(LATTICE, 200, 4, 8, 30, 2, 10, "inner_product"))
_scan("wide", _flat(REAL, 60, 2, 260, 5, 2, 7))
# the bound comes from the nearest of three lists
_scan("near lists", _flat(REAL, 900, 6, 9, 200, 3, 5), settings=(("_scan", "BUDGET", 256),))


def _shortest_first(case):
    """The nearest lists have hardly any rows."""

    def arguments(rng):
        members = case(rng)
        lengths = np.diff(members["lists"].offsets)
        order = np.argsort(lengths[members["probes"]], axis=1)
        probes = np.take_along_axis(members["probes"], order, axis=1)
        return {**members, "probes": np.ascontiguousarray(probes)}

    return arguments


_scan(
    "near lists short",
    _shortest_first(_flat(REAL, 900, 30, 9, 50, 20, 9)),
    settings=(("_scan", "BUDGET", 40),),
)
WHOLE_LISTS = (("scan_lists", "TURNS", (32, 32)),)  # in one item each, turn after turn
_scan("wide pieces", _flat(REAL, 700, 2, 520, 9, 2, 7), settings=WHOLE_LISTS)
_scan("pieces", _flat(LATTICE, 2500, 2, 9, 70, 2, 7), settings=WHOLE_LISTS)
_scan("shift", _flat(REAL, 150, 3, 10, 20, 2, 6, dtype=np.uint8, shift=True))
_scan("walk shift", _flat(REAL, 200, 9, 10, 3, 4, 6, dtype=np.uint8, shift=True))
_scan("shift limit", _flat(REAL, 150, 3, 10, 20, 2, 6, shift=True, limit=True))
_scan("cosine all", _flat(REAL, 100, 3, 7, 10, 3, 100, cosine=True))
_scan("cosine", _flat(REAL, 300, 3, 7, 10, 3, 80, cosine=True))
_scan("walk cosine", _flat(REAL, 300, 9, 7, 3, 5, 30, cosine=True))
_scan("many lists", _flat(LATTICE, 900, 600, 4, 300, 5, 3))


def _far(rng, *shape):
    """Far from the origin and near each other: scores of float32 cannot order these."""
    return (1000 + 0.1 * rng.standard_normal(shape)).astype(FLOAT32)


def _tiny(rng, *shape):
    """Products of these round to zero, from either side."""
    return (1e-30 * rng.standard_normal(shape)).astype(FLOAT32)


def _short_and_long(query_scale, row_scale):
    """One side is so short that no scale fits it for fp16."""

    def arguments(rng):
        case = scan_cases.flat(rng, REAL, n_rows=300, n_lists=2, dim=8, metric="inner_product")
        rows = (rng.uniform(0.5, 1, (300, 8)) * row_scale).astype(FLOAT32)
        queries = (rng.uniform(0.5, 1, (20, 8)) * query_scale).astype(FLOAT32)
        longest = np.linalg.norm(rows.astype(np.float64), axis=1).max()
        radius = np.full_like(case.lists.radius, np.nextafter(FLOAT32(longest), FLOAT32(np.inf)))
        case = case._replace(
            payload=case.payload._replace(vectors=rows), lists=case.lists._replace(radius=radius)
        )
        return _lists(case, 20, 2, 3, queries, rng)

    return arguments


_scan("inner product short queries", _short_and_long(2.0**-97, 1.0), small=True)
_scan("inner product short rows", _short_and_long(1.0, 2.0**-97))
_scan("inner product tiny", _flat(_tiny, 60, 2, 3, 20, 2, 40, "inner_product"))
_scan("far", _flat(_far, 300, 2, 8, 20, 2, 5))
_scan("walk far", _flat(_far, 300, 9, 8, 3, 5, 5))
_scan("more than all", _flat(LATTICE, 40, 4, 5, 12, 4, 300))
_scan("filter", _flat(LATTICE, 200, 4, 5, 12, 3, 6, keep="one"))
_scan("filter each", _flat(LATTICE, 200, 4, 5, 12, 3, 6, keep="each"))
_scan("limit", _flat(LATTICE, 200, 4, 5, 12, 3, 30, limit=True))


def _equal(_, *shape):
    return np.full(shape, 2, FLOAT32)


def _limit_to_the_bit(case):
    """Limits just under the distance of each query's fourth row, which must not come back."""

    def arguments(rng):
        members = case(rng)
        dists, _ = numpy_ops.scan_lists(**members)
        return {**members, "limit": np.nextafter(dists[:, 3], FLOAT32(-np.inf))}

    return arguments


_scan("epochs one list", _flat(REAL, 2000, 1, 5, 45, 1, 4), settings=MANY_EPOCHS)
_scan("epochs", _flat(REAL, 3000, 4, 5, 20, 4, 4, keep="one"), small=True, settings=MANY_EPOCHS)
for dtype in (np.float16, np.int8, np.uint8):
    make = _flat(REAL, 1200, 2, 5, 6, 2, 2, dtype=dtype)
    _scan(f"epochs {np.dtype(dtype).name}", make, small=True, settings=MANY_EPOCHS)
make = _pq(REAL, 1200, 2, 2, 3, 6, 2, 2, "sqeuclidean")
_scan("epochs pq", make, small=True, settings=MANY_EPOCHS)


def _nearest_first(rng, *shape):
    """The near rows lie in every 16th turn of 32, which the first of two epochs takes."""
    x = 30 + 0.1 * rng.standard_normal(shape)
    if len(x) > 1000:
        x[np.arange(len(x)) // 32 % 16 != 0] += 5
    return x.astype(FLOAT32)


make = _flat(_nearest_first, 3000, 1, 8, 60, 1, 5)
_scan("far epochs", make, settings=(("_scan", "SURVIVORS", 512), ("_scan", "BUDGET", 64)))
_scan("epochs limit", _flat(REAL, 1500, 1, 5, 20, 1, 30, limit=True), settings=MANY_EPOCHS)
_scan("epochs lattice", _flat(LATTICE, 2000, 2, 5, 20, 2, 3), settings=MANY_EPOCHS)
_scan("equal rows", _flat(_equal, 600, 1, 3, 5, 1, 2))
_scan("walk equal rows", _flat(_equal, 3000, 2, 3, 1, 2, 2))
make = _limit_to_the_bit(_sq(REAL, 300, 2, 16, 40, 2, 6))
_scan("sq to the bit", make)
for dtype in (np.int8, np.uint8):
    make = _limit_to_the_bit(_flat(REAL, 200, 2, 16, 20, 2, 6, dtype=dtype, shift=True))
    _scan(f"bytes limit {np.dtype(dtype).name}", make)
_scan("limit to the bit", _limit_to_the_bit(_flat(REAL, 200, 2, 9, 20, 2, 6)))
make = _flat(REAL, 200, 9, 10, 3, 4, 6, dtype=np.uint8, shift=True)
_scan("walk shift limit", _limit_to_the_bit(make))
_scan("walk limit to the bit", _limit_to_the_bit(_flat(REAL, 200, 9, 9, 3, 4, 6)))
_scan("walk more than all", _flat(LATTICE, 30, 9, 4, 2, 5, 40))


def _none_probed(case):
    """The second probe of every query is none, and query 1 has none at all."""

    def arguments(rng):
        members = case(rng)
        members["probes"][:, 1] = -1
        members["probes"][1] = -1
        return members

    return arguments


def _without_none(**members):
    """NumPy is asked for the probes that there are."""
    probes = np.ascontiguousarray(np.maximum(members.pop("probes")[:, :1], 0))
    dists, ids = numpy_ops.scan_lists(probes=probes, **members)
    dists[1], ids[1] = np.inf, -1
    return dists, ids


for name, n_lists, n_queries in (("by list", 3, 20), ("walk", 9, 3)):
    make = _none_probed(_flat(REAL, 200, n_lists, 9, n_queries, 2, 6))
    _scan(f"{name} missing probes", make, reference=_without_none)
_scan("overflow", _flat(LATTICE, 400, 3, 1, 9, 2, 1, limit=True), settings=FEW_SURVIVORS)
_scan("overflow filter", _flat(REAL, 400, 1, 4, 9, 1, 1, keep="each"), settings=FEW_SURVIVORS)
_scan("walk one query", _flat(REAL, 700, 2, 12, 1, 2, 20))
_scan("walk filter limit", _flat(LATTICE, 300, 40, 5, 3, 20, 9, keep="each", limit=True))
_scan("pq", _pq(REAL, 120, 3, 5, 3, 6, 2, 7, "sqeuclidean"), small=True)
_scan("pq walk", _pq(REAL, 120, 9, 4, 3, 2, 3, 7, "inner_product"), small=True)
for pq_len in (1, 2, 4, 8):
    make = _pq(REAL, 300, 3, 24 // pq_len, pq_len, 40, 2, 7, "sqeuclidean")
    _scan(f"pq {pq_len}", make, small=True)
    make = _pq(REAL, 120, 9, 16 // pq_len, pq_len, 2, 3, 7, "inner_product")
    _scan(f"pq {pq_len} walk", make, small=True)
    make = _pq(REAL, 1200, 2, 8 // pq_len, pq_len, 6, 2, 2, "sqeuclidean")
    _scan(f"pq {pq_len} epochs", make, small=True, settings=MANY_EPOCHS)
    make = _pq(LATTICE, 700, 3, 100 // pq_len, pq_len, 90, 2, 7, "inner_product")
    _scan(f"pq {pq_len} odd", make)
    _scan(f"pq {pq_len} wide", _pq(REAL, 130, 2, 272 // pq_len, pq_len, 70, 2, 7, "sqeuclidean"))
for bits, pq_len in ((4, 1), (5, 2), (6, 4), (7, 8)):
    book = {"pq_book_size": 2**bits}
    make = _pq(REAL, 120, 3, 16 // pq_len + 1, pq_len, 6, 2, 7, "sqeuclidean", **book)
    _scan(f"pq {bits} bits small", make, small=True)
    make = _pq(REAL, 120, 9, 16 // pq_len, pq_len, 2, 3, 7, "inner_product", **book)
    _scan(f"pq {bits} bits walk", make, small=True)
    make = _pq(REAL, 1200, 2, 8 // pq_len, pq_len, 6, 2, 2, "sqeuclidean", **book)
    _scan(f"pq {bits} bits epochs", make, small=True, settings=MANY_EPOCHS)
for bits in (4, 5, 6, 7):
    for pq_len in (2, 3) if bits in (5, 6) else (1, 4, 8):
        make = _pq(LATTICE, 300, 3, 13, pq_len, 40, 2, 7, "sqeuclidean", pq_book_size=2**bits)
        _scan(f"pq {bits} bits {pq_len} long", make)
_scan("pq overflow", _pq(LATTICE, 300, 2, 2, 1, 8, 2, 2, "sqeuclidean"), settings=FEW_SURVIVORS)


_scan("sq", _sq(REAL, 120, 3, 12, 6, 2, 7), small=True)
_scan("sq walk", _sq(REAL, 120, 9, 10, 2, 3, 7, "inner_product"), small=True)
_scan("sq epochs", _sq(REAL, 1200, 2, 8, 6, 2, 2), small=True, settings=MANY_EPOCHS)
for dim in (1, 7, 36, 100, 300):
    make = _sq(LATTICE, 200, 2, dim, 70, 2, 9, "inner_product" if dim % 2 else "sqeuclidean")
    _scan(f"sq lattice {dim}", make)
    _scan(f"sq rows {dim}", _sq(REAL, 200, 2, dim, 70, 2, 9, residual=False))
_scan("sq limit", _sq(REAL, 200, 3, 9, 30, 2, 9, keep="each", limit=True))
_scan("sq overflow", _sq(LATTICE, 300, 2, 2, 8, 2, 2), settings=FEW_SURVIVORS)


# Tiles of 128 queries, in a batch that would not have them for its size.
WIDE = (("scan_lists", "MANY_PER_LIST", 0),)


for pq_len in (2, 4, 8):
    make = _pq(REAL, 300, 2, 8 // pq_len, pq_len, 6, 2, 2, "sqeuclidean")
    _scan(f"wide pq {pq_len} epochs", make, small=True, settings=(*MANY_EPOCHS, *WIDE))
    make = _pq(REAL, 60, 9, 16 // pq_len, pq_len, 2, 3, 7, "inner_product")
    _scan(f"wide pq {pq_len} walk", make, small=True, settings=WIDE)
    make = _pq(LATTICE, 100, 2, 40 // pq_len, pq_len, 90, 2, 4, "inner_product")
    _scan(f"wide pq {pq_len}", make, settings=WIDE)
for dtype in (np.float32, np.float16):
    name = np.dtype(dtype).name
    make = _with_halves(_flat(REAL, 300, 2, 5, 6, 2, 2, dtype=dtype))
    _scan(f"wide {name} epochs", make, small=True, settings=(*MANY_EPOCHS, *WIDE))
    make = _with_halves(_flat(REAL, 60, 9, 9, 2, 3, 5, dtype=dtype))
    _scan(f"wide {name} walk", make, small=True, settings=WIDE)
_scan("wide one list", _with_halves(_flat(REAL, 40, 1, 5, 70, 1, 4)), small=True, settings=WIDE)
make = _pq(REAL, 200, 9, 5, 4, 300, REMAINDERS, 4, "sqeuclidean")
_scan("wide pq remainders", make, settings=WIDE)
make = _with_halves(_flat(LATTICE, 200, 9, 9, 300, REMAINDERS, 4, dtype=np.float16, keep="each"))
_scan("wide remainders", make, settings=WIDE)
make = _pq(LATTICE, 150, 2, 2, 4, 80, 2, 2, "sqeuclidean")
_scan("wide overflow", make, settings=(*FEW_SURVIVORS, *WIDE))


def _uneven(rng, *shape):
    """Components of very different size, so that steps are too."""
    return (rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 6, shape[-1])).astype(FLOAT32)


def _far_middle(rng, *shape):
    """Two rows are steps and middles: codes of small steps far from the origin."""
    x = rng.standard_normal(shape)
    return (x * ([[1e-3], [300.0]] if shape[0] == 2 and len(shape) == 2 else 1)).astype(FLOAT32)


_scan("sq near ties", _sq(REAL, 900, 1, 2, 150, 1, 200))
_scan("sq uneven", _sq(_uneven, 300, 3, 17, 40, 2, 9))
_scan("sq far", _sq(_far_middle, 300, 3, 17, 40, 2, 9))


def _table(make, dtype, *shape, **extra):
    def arguments(rng):
        members = _pq(make, *shape, **extra)(rng)
        scaled = members["queries"] * (1 if members["metric"] == "inner_product" else 2)
        lut = numpy_ops.build_lut(scaled, members["payload"].codebooks, dtype)
        return {"lut": lut, **members}

    return arguments


for dtype in (np.float32, np.float16):
    name = np.dtype(dtype).name
    shape = (100, 6, 4, 2, 2, 3, 6, "sqeuclidean")
    add(f"scan_lut {name}", "scan_lut", _table(REAL, dtype, *shape), small=True)
    shape = (700, 6, 10, 3, 7, 4, 30, "inner_product")
    add(f"scan_lut more {name}", "scan_lut", _table(REAL, dtype, *shape))


def _large(rng, *shape):
    """Products of these overflow float16."""
    return (300 * REAL(rng, *shape)).astype(FLOAT32)


def _far_centers(rng, *shape):
    """Centres and queries (two axes) far from the origin, codebooks (three) small."""
    return (1000 * (len(shape) == 2) + 0.1 * rng.standard_normal(shape)).astype(FLOAT32)


shape = (400, 3, 4, 2, 9, 2, 6, "sqeuclidean")
add("scan_lut far", "scan_lut", _table(_far_centers, np.float32, *shape))
shape = (1000, 2, 2, 1, 40, 2, 30, "sqeuclidean")
add("scan_lut near ties float16", "scan_lut", _table(REAL, np.float16, *shape))
shape = (300, 6, 10, 3, 7, 4, 30, "sqeuclidean")
add("scan_lut overflow", "scan_lut", _table(_large, np.float16, *shape))
for bits in (4, 5, 6, 7):
    for dtype in (np.float32, np.float16):
        shape = (300, 6, 12, 2, 5, 4, 9, "sqeuclidean")
        make = _table(REAL, dtype, *shape, pq_book_size=2**bits)
        add(f"scan_lut {bits} bits {np.dtype(dtype).name}", "scan_lut", make)
shape = (300, 8, 3, 2, 5, 4, 9, "sqeuclidean")
add("scan_lut filter", "scan_lut", _table(LATTICE, np.float32, *shape, keep="each", limit=True))
