"""From the size of an index to shards, bytes, work, throughput and tails, on paper."""

import math
from collections.abc import Sequence
from typing import Any

from gpuann import validate
from gpuann.errors import bad_type, bad_value
from gpuann.factory import Factory, index_factory
from gpuann.params import WORKSPACE_LIMIT
from gpuann.planning import rates as rating
from gpuann.planning.rates import Rates
from gpuann.planning.report import Plan
from gpuann.planning.sizes import RowShape, most_rows, n_lists_of, row_shape, sizes
from gpuann.planning.tails import CallModel, simulate
from gpuann.planning.work import work

_WHERE = "planning.plan"
_MOST_REPLICAS = 1 << 20


def plan(
    rows: float,
    dim: int,
    index: str,
    *,
    metric: str = "sqeuclidean",
    dtype: str = "float32",
    cuda: bool = True,
    memory: int | None = None,
    shards: int | None = None,
    replicas: int = 1,
    load: float | None = None,
    utilisation: float = 0.0,
    n_probes: int | None = None,
    recall: float | None = None,
    curve: Sequence[tuple[int, float]] | None = None,
    imbalance: float = 1.0,
    batch: int = 1,
    rows_per_second: float | None = None,
    centers_per_second: float | None = None,
    bandwidth: float | None = None,
    multiply_adds: float | None = None,
    device: str | None = None,
    overhead_ms: float = 0.0,
    service_cv: float = 0.0,
    stall_share: float = 0.0,
    stall_ms: float = 0.0,
    hedge_after: float | str | None = None,
    max_hedge_ratio: float = 0.05,
    devices_per_machine: int = 1,
    n_searches: int = 100_000,
    seed: int = 0,
) -> Plan:
    """Plan an index that need not fit here: bytes, work, throughput, the slowest of all shards.

    Parameters
    ----------
    rows, dim : number of rows, and components of each
    index : what `index_factory` takes, as "IVF65536,PQ64"
    metric, dtype : of the rows, as for a build
    cuda : whether shards lie on CUDA devices, which hold float16 copies of whole rows
    memory : bytes of a device; of them a search's workspace_limit, 1 GiB, is left free
    shards : parts of the rows; default: the fewest that fit `memory`, or 1
    replicas : copies of every shard, at least; more where `load` needs them
    load : queries/s to be served
    utilisation : share of its time that a device is busy: queues form before it. 0: no queues. With
        `load`, which must then be given one above 0, replicas are added until no device is busier
    n_probes : lists that a query visits, default 20 as in SearchParams
    recall : found by `curve` at the fewest probes; never by a law, for the data decide it
    curve : (n_probes, recall) as `gpuann eval` measures them on data of the same kind
    imbalance : `Index.imbalance` of lists like these: 1 if they are even
    batch : queries of a call
    rows_per_second, centers_per_second : that a device scans for one query, stated together
    bandwidth, multiply_adds : peaks of a device, a second, stated together: times are then bounds
    device : where rates are measured if none are stated: "cpu", "cuda" or "cuda:N"
    overhead_ms : of a call beside the scan, as its network
    service_cv : standard deviation of a call's time by its mean
    stall_share, stall_ms : share of the calls that take so much longer
    hedge_after, max_hedge_ratio : as in `dask.ServeParams`: milliseconds, "p95" or None
    devices_per_machine : devices of one machine, a shard's replica on each
    n_searches, seed : of the simulation

    Returns
    -------
    Plan : `str` is a table; `as_dict` for programs; every assumption is in it, with its source

    Raises
    ------
    ValueError, TypeError : for what cannot be; `recall` without `curve`, or above what it reaches.
    BackendError : rates are to be measured and the device cannot be had.

    Notes
    -----
    Cost   0.1 s a million simulated calls, and a few seconds to measure rates.
    """
    n_rows = _whole("rows", rows)
    validate.dtype_among(_WHERE, "dtype", dtype, validate.DTYPES)
    made = index_factory(dim, index, metric)
    if n_lists_of(made) > n_rows:
        raise bad_value(_WHERE, "index", f"have at most {n_rows} lists", made.text)
    for name, value in (("replicas", replicas), ("batch", batch), ("n_searches", n_searches)):
        validate.integer(_WHERE, name, value, 1)
    validate.integer(_WHERE, "devices_per_machine", devices_per_machine, 1)
    validate.integer(_WHERE, "seed", seed, 0)
    validate.share(_WHERE, "stall_share", stall_share, zero=True)
    validate.share(_WHERE, "max_hedge_ratio", max_hedge_ratio, zero=True)
    for name, number in (
        ("overhead_ms", overhead_ms),
        ("service_cv", service_cv),
        ("stall_ms", stall_ms),
    ):
        _number(name, number, 0.0)
    _number("imbalance", imbalance, 1.0)
    if not 0 <= _number("utilisation", utilisation, 0.0) < 1:
        raise bad_value(_WHERE, "utilisation", "be below 1", utilisation)
    _check_hedging(hedge_after)
    notes: list[tuple[str, str, str]] = []
    probes = _probes(made, n_probes, recall, curve, notes)

    room = None if memory is None else validate.integer(_WHERE, "memory", memory, 1)
    n_shards, each = _shards(made, n_rows, dtype, shards, room, notes, cuda=cuda)
    size = sizes(_WHERE, made, each, dtype, cuda=cuda)
    fits = None if room is None else size.held(cuda=cuda) + WORKSPACE_LIMIT <= room

    shape = row_shape(_WHERE, made, dtype, cuda=cuda)
    cost = work(made, shape, each, probes, imbalance)
    stated = rows_per_second, centers_per_second
    given = _given_rates(shape, batch, stated, (bandwidth, multiply_adds))
    found = given or rating.measure(made, dtype, probes, batch, device, seed)
    call_ms = overhead_ms + 1e3 * batch * found.query_seconds(cost)
    one = batch / (call_ms / 1e3)
    n_replicas = _replicas(replicas, load, one, utilisation, notes)

    model = CallModel(call_ms, service_cv, stall_share, stall_ms, utilisation)
    args: dict[str, Any] = {"n_searches": n_searches, "seed": seed}
    unhedged, hedged = simulate(model, n_shards, n_replicas, **args), None
    if hedge_after is not None and n_replicas > 1:
        args |= {"hedge_after": hedge_after, "max_hedge_ratio": max_hedge_ratio}
        hedged = simulate(model, n_shards, n_replicas, **args)
    budget = f"{hedge_after}, at most {max_hedge_ratio:.3g} of the calls, replicas {n_replicas}"
    notes += [
        ("rates", f"{found.rows_per_second:.4g} rows/s, {found.detail}", found.source),
        ("centres", f"{found.centers_per_second:.4g} centres/s, all on every shard", found.source),
        ("lists", f"imbalance {imbalance:g}, the same on every shard", "argument"),
        ("a call", f"batch {batch}, {overhead_ms:g} ms beside the scan", "argument"),
        ("spread of a call", f"gamma, coefficient of variation {service_cv:g}", "argument"),
        ("stalls", f"{stall_share:g} of the calls, {stall_ms:g} ms, independent", "argument"),
        ("queues", f"utilisation {utilisation:g}, Kingman's mean wait", "argument"),
        ("hedging", "none" if hedged is None else budget, "argument"),
        ("throughput", "all devices busy; what hedges and merging take is not in it", "model"),
        ("shards lie on", "CUDA devices" if cuda else "hosts", "argument"),
        ("memory", f"{WORKSPACE_LIMIT:,} bytes left for a search", "workspace_limit's default"),
        ("a device", f"{devices_per_machine} in a machine, one shard on each", "argument"),
        ("simulation", f"{n_searches:,} searches, seed {seed}", "argument"),
    ]
    machines = -(-n_shards * n_replicas // devices_per_machine)
    head = made.text, n_rows, made.dim, made.metric, dtype, n_shards, n_replicas, each, size, fits
    tail = call_ms, one * n_replicas, unhedged, hedged, machines, tuple(notes)
    return Plan(*head, probes, cost, found, *tail)


def _whole(name: str, value: object) -> int:
    """A number such as 1.2e9 as an int."""
    number = _number(name, value, 1.0)
    if number != int(number):
        raise bad_value(_WHERE, name, "be whole", value)
    return int(value) if isinstance(value, int) else int(number)


def _number(name: str, value: object, least: float, *, above: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise bad_type(_WHERE, name, "be a number", repr(value))
    if not least <= value < math.inf or (above and value == least):
        rule = f"be {'above' if above else 'at least'} {least:g} and finite"
        raise bad_value(_WHERE, name, rule, value)
    return float(value)


def _check_hedging(after: object) -> None:
    if after is None or after == "p95":
        return
    if isinstance(after, str):
        raise bad_value(_WHERE, "hedge_after", 'be milliseconds, "p95" or None', repr(after))
    _number("hedge_after", after, 0.0, above=True)


def _probes(made: Factory, n_probes: Any, recall: Any, curve: Any, notes: list[Any]) -> int:
    """Lists to visit: given, or the fewest of a curve that reach the recall."""
    if recall is None:
        source = "default" if n_probes is None else "argument"
        number = validate.integer(_WHERE, "n_probes", 20 if n_probes is None else n_probes, 1)
        notes.append(("probes", f"{min(number, n_lists_of(made))}; no recall is claimed", source))
        return min(number, n_lists_of(made))
    recall = validate.share(_WHERE, "recall", recall, zero=False)
    if n_probes is not None:
        raise bad_value(_WHERE, "n_probes", "be left out with recall", n_probes)
    if not curve:
        way_out = "measure one with `gpuann eval` on data of this kind, or give n_probes instead"
        raise bad_value(_WHERE, "curve", "be given with recall", "none", way_out)
    enough = sorted(n for n, reached in curve if reached >= recall)
    if not enough:
        best = max(reached for _, reached in curve)
        raise bad_value(_WHERE, "recall", f"be at most the curve's best, {best:.4f}", recall)
    number = min(validate.integer(_WHERE, "n_probes of curve", enough[0], 1), n_lists_of(made))
    text = f"{number}: recall {recall:g} on the curve's data, not proven for these rows and lists"
    notes.append(("probes", text, "curve"))
    return number


def _shards(
    made: Factory,
    n_rows: int,
    dtype: str,
    shards: int | None,
    room: int | None,
    notes: list[Any],
    *,
    cuda: bool,
) -> tuple[int, int]:
    """How many, and the rows of the largest."""
    if shards is not None:
        n_shards = validate.integer(_WHERE, "shards", shards, 1, n_rows)
        notes.append(("shards", f"{n_shards}", "argument"))
    elif room is None:
        n_shards = 1
        notes.append(("shards", "1, for no memory was given", "default"))
    else:
        most = most_rows(_WHERE, made, dtype, room - WORKSPACE_LIMIT, cuda=cuda)
        if most < 1:
            least = sizes(_WHERE, made, 1, dtype, cuda=cuda).held(cuda=cuda) + WORKSPACE_LIMIT
            rule = f"hold the models of {made.text} and a workspace, {least:,} bytes"
            raise bad_value(_WHERE, "memory", rule, room, "use fewer lists or a larger device")
        n_shards = -(-n_rows // most)
        notes.append(("shards", f"{n_shards}, the fewest that fit {room:,} bytes", "chosen"))
    return n_shards, -(-n_rows // n_shards)


def _given_rates(
    shape: RowShape,
    batch: int,
    stated: tuple[float | None, float | None],
    peaks: tuple[float | None, float | None],
) -> Rates | None:
    """Stated, bounded by stated peaks, or None: to be measured."""
    names = ("rows_per_second", "centers_per_second"), ("bandwidth", "multiply_adds")
    found: list[tuple[float, float] | None] = []
    for pair, values in zip(names, (stated, peaks), strict=True):
        if (values[0] is None) != (values[1] is None):
            raise bad_value(_WHERE, pair[values[0] is not None], f"go with {pair[0]}", "only one")
        if values[0] is None or values[1] is None:
            found.append(None)
        else:
            both = [_number(n, v, 0.0, above=True) for n, v in zip(pair, values, strict=True)]
            found.append((both[0], both[1]))
    if found[0] is not None and found[1] is not None:
        raise bad_value(_WHERE, "bandwidth", "be left out with rows_per_second", peaks[0])
    if found[0] is not None:
        return Rates(*found[0], "stated", "as stated")
    if found[1] is not None:
        return rating.bound(shape, batch, *found[1])
    return None


def _replicas(
    least: int, load: float | None, one: float, utilisation: float, notes: list[Any]
) -> int:
    """Enough that no device is busier than it may be."""
    if load is None:
        notes.append(("replicas", f"{least}, for no load was given", "argument"))
        return least
    if utilisation == 0:
        rule, way_out = "be above 0 with load", "say how busy a device may be, as 0.5"
        raise bad_value(_WHERE, "utilisation", rule, utilisation, way_out)
    wanted = math.ceil(_number("load", load, 0.0, above=True) / (one * utilisation))
    if wanted > _MOST_REPLICAS:
        rule = f"need at most {_MOST_REPLICAS} replicas"
        raise bad_value(_WHERE, "load", rule, f"{load} queries/s, which need {wanted}")
    text = f"{max(least, wanted)}: {load:g} queries/s need {wanted} at utilisation {utilisation:g}"
    notes.append(("replicas", text, "chosen"))
    return max(least, wanted)
