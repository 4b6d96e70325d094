"""What a service counts: calls, hedges, retries, and how long calls take."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_WINDOW = 1024  # latest calls that percentiles are of
_ENOUGH = 100  # calls before a percentile means something
_RENEW = 32  # calls between two sorts of the window


class Latencies:
    """The latest calls of one kind, in seconds."""

    def __init__(self) -> None:
        self._window: deque[float] = deque(maxlen=_WINDOW)
        self._p95: float | None = None
        self._since = 0

    def add(self, seconds: float) -> None:
        """One more call has ended."""
        self._window.append(seconds)
        self._since += 1

    def p95(self) -> float | None:
        """The 95th percentile, None before 100 calls; looked up anew every 32 calls."""
        if len(self._window) < _ENOUGH:
            return None
        if self._p95 is None or self._since >= _RENEW:
            self._p95, self._since = float(np.percentile(self._window, 95)), 0
        return self._p95

    def summary(self) -> dict[str, float]:
        """p50, p95, p99 in milliseconds; empty before the first call."""
        if not self._window:
            return {}
        found = np.percentile(self._window, [50, 95, 99]) * 1e3
        return dict(zip(("p50_ms", "p95_ms", "p99_ms"), found.tolist(), strict=True))


@dataclass
class Counters:
    """Of one index, since it was loaded."""

    searches: int = 0
    calls: int = 0
    """Calls of shards that searches made, hedges and retries not among them."""
    hedges: int = 0
    hedge_wins: int = 0
    retries: int = 0
    """Calls sent anew because a replica was lost."""
    lost: int = 0
    """Workers that stopped answering."""
    reloads: int = 0
    """Replicas that were loaded in place of theirs."""
    failed_reloads: int = 0
    last_failure: str = ""
    """Why a replica could not be loaded, the last time."""
    partial: int = 0
    """Searches answered without some shard."""
    by_shard: dict[int, Latencies] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for logs."""
        plain = {name: value for name, value in vars(self).items() if name != "by_shard"}
        return plain | {"shards": {s: one.summary() for s, one in sorted(self.by_shard.items())}}
