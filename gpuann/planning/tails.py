"""How long the slowest of S shard calls takes, by simulation, with and without hedging.

A call on a replica takes

    wait + service + stall

service  gamma, of a mean and a coefficient of variation; 0 is a constant
stall    stall_ms with probability stall_share, independent of all else
wait     at utilisation rho: 0 with probability 1 - rho, else exponential of mean
         service (1 + cv^2) / 2 / (1 - rho). Exact for M/M/1 (cv = 1), Kingman's mean else.

Hedging is what `gpuann.dask` does: after the delay a second replica is asked, once a call, while
hedges are under max_hedge_ratio of the calls; the first answer counts. Not in it: the load that
hedges add, stalls that hit several replicas at once, the network (see `overhead_ms`).
Sources: Dean and Barroso, "The Tail at Scale", CACM 2013; Kingman 1961.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuann.arrays import HostArray

_CALLS_AT_ONCE = 1 << 20  # 8 MiB an array
_PILOT = 1 << 16  # calls that the 95th percentile is taken of


@dataclass(frozen=True)
class CallModel:
    """One call of one replica, without the rest."""

    service_ms: float
    service_cv: float = 0.0
    stall_share: float = 0.0
    stall_ms: float = 0.0
    rho: float = 0.0
    """Utilisation of a replica, under 1."""

    def draw(self, rng: np.random.Generator, shape: Any) -> HostArray:
        """Milliseconds of calls, of this shape, float64."""
        if self.service_cv > 0:
            cv2 = self.service_cv**2
            found = rng.gamma(1 / cv2, self.service_ms * cv2, shape)
        else:
            found = np.full(shape, float(self.service_ms))
        if self.stall_share > 0:
            found += self.stall_ms * (rng.random(shape) < self.stall_share)
        if self.rho > 0:
            mean = self.service_ms * (1 + self.service_cv**2) / 2 / (1 - self.rho)
            found += rng.exponential(mean, shape) * (rng.random(shape) < self.rho)
        return found


@dataclass(frozen=True)
class Tail:
    """Milliseconds of searches, and what was sent for them."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    mean_ms: float
    hedged_share: float
    """Calls sent twice, as a share of all calls of shards."""
    hedge_ms: float | None
    """The delay, None where there was no hedging."""


def simulate(
    model: CallModel,
    n_shards: int,
    n_replicas: int,
    *,
    hedge_after: float | str | None = None,
    max_hedge_ratio: float = 0.05,
    n_searches: int = 100_000,
    seed: int = 0,
) -> Tail:
    """Searches one after the other, each of n_shards calls at once; ends with the slowest.

    Cost   about 0.1 s a million calls; memory 8 MiB an array, whatever n_searches is.
    """
    rng = np.random.default_rng(seed)
    delay = None
    if hedge_after is not None and n_replicas > 1:
        pilot = hedge_after == "p95"
        delay = float(np.percentile(model.draw(rng, _PILOT), 95)) if pilot else float(hedge_after)
    slowest, budget = np.empty(n_searches), Budget(max_hedge_ratio, n_shards)
    step = max(1, _CALLS_AT_ONCE // n_shards)
    for at in range(0, n_searches, step):
        first = model.draw(rng, (min(step, n_searches - at), n_shards))
        if delay is not None:
            late = budget.grant(first > delay)
            second = delay + model.draw(rng, int(late.sum()))
            first[late] = np.minimum(first[late], second)
        slowest[at : at + len(first)] = first.max(axis=1)
    p50, p95, p99 = np.percentile(slowest, [50, 95, 99]).tolist()
    share = budget.hedges / (n_searches * n_shards)
    return Tail(p50, p95, p99, float(slowest.mean()), share, delay)


class Budget:
    """Which calls are sent twice: as `dask.hedging.ask` counts, where all calls of a search are
    counted before the first hedge of it is sent.
    """

    def __init__(self, ratio: float, n_shards: int) -> None:
        self._ratio, self._n_shards = ratio, n_shards
        self.hedges = self._searches = 0

    def grant(self, late: HostArray) -> HostArray:
        """late (n, n_shards) bool, in order -> those that may be hedged.

        A hedge is sent while h < ratio * calls, so h <= ceil(ratio * calls) after it: a count held
        under a rising bound, h(t) = W(t) + min(h(0), min over s <= t of bound(s) - W(s)).
        """
        n = len(late)
        calls = self._n_shards * (self._searches + 1 + np.arange(n))
        bound = np.repeat(np.ceil(self._ratio * calls), self._n_shards)
        wanted = np.cumsum(late.ravel())
        held = np.minimum(np.minimum.accumulate(bound - wanted), self.hedges)
        count = (wanted + held).astype(np.int64)
        granted = np.diff(count, prepend=self.hedges) > 0
        self._searches += n
        self.hedges = int(count[-1]) if n else self.hedges
        return granted.reshape(late.shape)
