"""What a plan comes to, for programs and for people."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from gpuann.planning.rates import Rates
from gpuann.planning.sizes import Sizes
from gpuann.planning.tails import Tail
from gpuann.planning.work import Work


@dataclass(frozen=True)
class Plan:
    """An index on paper: `str` is a table, `as_dict` the same for JSON."""

    index: str
    rows: int
    dim: int
    metric: str
    dtype: str
    shards: int
    replicas: int
    rows_per_shard: int
    """Of the largest shard."""
    sizes: Sizes
    """Of the largest shard."""
    fits: bool | None
    """Whether a shard and a search's workspace fit the memory given; None: none was given."""
    n_probes: int
    work: Work
    rates: Rates
    call_ms: float
    """One batch on one shard, alone: the mean service time that the tail is simulated with."""
    queries_per_second: float
    """Of all replicas, when every device is busy all the time."""
    unhedged: Tail
    hedged: Tail | None
    machines: int
    assumptions: tuple[tuple[str, str, str], ...]
    """(what, value, where it comes from): "stated", "default", "measured", "bound", "chosen"."""

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, texts and lists."""
        found = dataclasses.asdict(self)
        found["sizes"]["on_device"] = self.sizes.on_device
        found["work"] |= {"bytes": self.work.bytes, "multiply_adds": self.work.multiply_adds}
        names = ("what", "value", "source")
        found["assumptions"] = [dict(zip(names, one, strict=True)) for one in self.assumptions]
        return found

    def __str__(self) -> str:
        rated, size, work = f"({self.rates.source} rates)", self.sizes, self.work
        fits = {None: "", True: ", fits", False: ", DOES NOT FIT"}[self.fits]
        at_most = "at most " * (self.rates.source == "bound")
        at_least = "at least " * (self.rates.source == "bound")
        lines = [
            ("index", f"{self.index}, {self.rows:,} x {self.dim} {self.dtype}, {self.metric}"),
            ("shards x replicas", f"{self.shards} x {self.replicas}: {self.machines} machines"),
            ("rows of a shard", f"{self.rows_per_shard:,}"),
            ("bytes of a shard", f"{_bytes(size.on_device)}{fits}"),
            ("  codes or rows", _bytes(size.codes)),
            ("  ids, norms, scales", _bytes(size.beside)),
            ("  float16 copies", _bytes(size.halves)),
            ("  centres and models", _bytes(size.models)),
            ("rows kept to refine", f"{_bytes(size.kept)} a shard"),
            ("a query, each shard", f"{work.centers:,} centres, {work.rows:,.0f} rows"),
            ("  bytes read", _bytes(work.bytes)),
            ("  multiply-adds", f"{work.multiply_adds:,.0f}"),
            ("call of a shard", f"{at_least}{_ms(self.call_ms)} ms {rated}"),
            ("throughput", f"{at_most}{self.queries_per_second:,.0f} queries/s {rated}"),
            ("without hedging", _tail(self.unhedged, at_least)),
        ]
        if self.hedged is not None:
            lines.append(("hedged", _tail(self.hedged, at_least)))
        lines.append(("assumed", ""))
        lines += [(f"  {what}", f"{value} ({source})") for what, value, source in self.assumptions]
        return "\n".join(f"{name:22} {value}".rstrip() for name, value in lines)


def _bytes(n: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= size:
            return f"{n / size:,.2f} {unit}"
    return f"{n:,.0f} B"


def _ms(n: float) -> str:
    return f"{n:,.1f}" if n >= 10 else f"{n:.3g}"


def _tail(tail: Tail, at_least: str) -> str:
    p50, p95, p99 = map(_ms, (tail.p50_ms, tail.p95_ms, tail.p99_ms))
    text = f"{at_least}p50 {p50}, p95 {p95}, p99 {p99} ms"
    if tail.hedge_ms is None:
        return text
    return f"{text}, after {_ms(tail.hedge_ms)} ms, {tail.hedged_share:.2%} of the calls sent twice"
