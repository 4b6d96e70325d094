"""How a cluster's index answers: when to ask a second replica, and what to do when none is left."""

from dataclasses import dataclass

from gpuann import validate
from gpuann.errors import bad_type, bad_value

ON_LOSS = ("raise", "partial")


@dataclass(frozen=True, kw_only=True)
class ServeParams:
    """How searches deal with slow and lost workers.

    Parameters
    ----------
    hedge_after : float or "p95", optional
        Milliseconds after which a shard's call is sent to a second replica too; the first answer
        counts, and both are the same. "p95": after the 95th percentile of the shard's latest
        calls, once there were 100. None: never. At most once a call.
    max_hedge_ratio : float, default 0.05
        Calls sent twice, as a share of all calls of shards, at most.
    on_loss : {"raise", "partial"}, default "raise"
        When no replica of a shard answers, or not in time: an error that names the shard, or the
        answer of the others, with `coverage` below 1.
    deadline : float, optional
        Seconds that a search may take.
    call_timeout : float, default 60
        Seconds after which a worker that says nothing counts as lost.
    batch_queries : int, default 1024
        Searches of a few queries that come at the same time are asked in one call of so many
        queries at most; 1: each by itself.
    """

    hedge_after: float | str | None = None
    max_hedge_ratio: float = 0.05
    on_loss: str = "raise"
    deadline: float | None = None
    call_timeout: float = 60.0
    batch_queries: int = 1024

    def __post_init__(self) -> None:
        where = "dask.ServeParams"
        if self.hedge_after != "p95" and self.hedge_after is not None:
            if isinstance(self.hedge_after, str):
                rule = 'be milliseconds, "p95" or None'
                raise bad_value(where, "hedge_after", rule, repr(self.hedge_after))
            _positive(where, "hedge_after", self.hedge_after)
        validate.share(where, "max_hedge_ratio", self.max_hedge_ratio, zero=True)
        validate.one_of(where, "on_loss", self.on_loss, ON_LOSS)
        if self.deadline is not None:
            _positive(where, "deadline", self.deadline)
        _positive(where, "call_timeout", self.call_timeout)
        validate.integer(where, "batch_queries", self.batch_queries, 1)


def _positive(where: str, name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise bad_type(where, name, "be a number", repr(value))
    if not 0 < value < float("inf"):
        raise bad_value(where, name, "be above 0", value)
