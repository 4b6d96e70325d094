"""Parameters that every inverted-file index shares; each public module adds its own."""

from dataclasses import dataclass, field

from gpuann import metric, validate
from gpuann.errors import bad_type

WORKSPACE_LIMIT = 1 << 30
LEAST_WORKSPACE = 1 << 27
NO_ARGUMENT = 2.0, "none of the metrics here has an argument"
_CUVS = (  # where another value would make another index
    ("metric_arg", *NO_ARGUMENT),
    ("adaptive_centers", False, "centres stay as they were trained when rows are added"),
)


@dataclass(frozen=True, kw_only=True)
class IvfIndexParams:
    """How to build; names and meanings as in cuVS.

    Parameters
    ----------
    n_lists : int, default 1024
        Inverted lists; about sqrt(n_rows) to 4 sqrt(n_rows).
    metric : {"sqeuclidean", "euclidean", "inner_product", "cosine"}, default "sqeuclidean"
    kmeans_n_iters : int, default 20
    kmeans_trainset_fraction : float, default 0.5
        Share of the rows that trains the centres ...
    max_train_points_per_cluster : int, default 256
        ... but at most so many for each list (or what the codes want, where lists are few),
        and 256 MiB of them as float32.
    balanced : bool, default False
        Even the lists out while the centres are trained: small ones take a part of large ones.
    seed : int, default 0
    metric_arg : float, default 2.0
    add_data_on_build : bool, default True
        False: the rows only train, and the index has none until `extend` brings them.
    adaptive_centers : bool, default False
    conservative_memory_allocation : bool, default False
        cuVS's: the last without effect, the others at these values only.
    """

    n_lists: int = 1024
    metric: str = "sqeuclidean"
    kmeans_n_iters: int = 20
    kmeans_trainset_fraction: float = 0.5
    max_train_points_per_cluster: int = 256
    balanced: bool = False
    seed: int = 0
    metric_arg: float = field(default=2.0, repr=False)
    adaptive_centers: bool = field(default=False, repr=False)
    add_data_on_build: bool = field(default=True, repr=False)
    conservative_memory_allocation: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        where = self._where()
        metric.check(where, self.metric)
        for name in ("n_lists", "kmeans_n_iters", "max_train_points_per_cluster"):
            keep_integer(self, where, name, 1)
        keep_integer(self, where, "seed", 0)
        for name in ("balanced", "add_data_on_build"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise bad_type(where, name, "be True or False", type(value).__name__)
        fraction = self.kmeans_trainset_fraction
        fraction = validate.share(where, "kmeans_trainset_fraction", fraction, zero=False)
        object.__setattr__(self, "kmeans_trainset_fraction", fraction)
        for name, allowed, way_out in _CUVS:
            validate.only(where, name, getattr(self, name), allowed, way_out)

    def _where(self) -> str:
        return f"{type(self).__module__.rpartition('.')[2]}.{type(self).__name__}"


def keep_integer(
    params: object, where: str, name: str, least: int, most: int | None = None
) -> None:
    """Check a field of frozen parameters and keep it as an int: NumPy's small ones overflow."""
    number = validate.integer(where, name, getattr(params, name), least, most)
    object.__setattr__(params, name, number)


@dataclass(frozen=True, kw_only=True)
class IvfSearchParams:
    """How to search.

    Parameters
    ----------
    n_probes : int, default 20
        Lists visited per query; more than n_lists means all of them.
    workspace_limit : int, default 1073741824
        Bytes that a search may take beside its result, and some 20 MB a thread.
    """

    n_probes: int = 20
    workspace_limit: int = WORKSPACE_LIMIT

    def __post_init__(self) -> None:
        where = f"{type(self).__module__.rpartition('.')[2]}.{type(self).__name__}"
        keep_integer(self, where, "n_probes", 1)
        keep_integer(self, where, "workspace_limit", LEAST_WORKSPACE)
