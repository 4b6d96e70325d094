"""What one query costs a shard: rows, bytes and multiply-adds, centres included."""

from dataclasses import dataclass

from gpuann.factory import Factory
from gpuann.planning.sizes import RowShape, n_lists_of


@dataclass(frozen=True)
class Work:
    """Of one query on one shard, alone in its batch."""

    centers: int
    """Centres that it is compared with: all of them, on every shard."""
    rows: float
    """Rows of the lists that it probes, expected."""
    center_bytes: float
    row_bytes: float
    center_multiply_adds: float
    row_multiply_adds: float
    """Of decoded rows; with look-up tables a row costs pq_dim look-ups instead."""

    @property
    def bytes(self) -> float:
        """Bytes read."""
        return self.center_bytes + self.row_bytes

    @property
    def multiply_adds(self) -> float:
        """Multiply-adds."""
        return self.center_multiply_adds + self.row_multiply_adds


def work(made: Factory, shape: RowShape, n_rows: float, n_probes: int, imbalance: float) -> Work:
    """Of a shard of n_rows rows. Queries fall as rows do: a list is probed as often as it has rows,
    so lists of uneven sizes make it `imbalance` times the rows of even ones (`Index.imbalance`),
    at most all.
    """
    n_lists = n_lists_of(made)
    centers = 0 if made.index_params is None else n_lists
    rows = n_rows * min(1.0, imbalance * min(n_probes, n_lists) / n_lists)
    return Work(
        centers,
        rows,
        float(centers * shape.center_bytes),
        rows * shape.scan_bytes,
        float(centers * shape.width),
        rows * shape.width,
    )
