"""group: stable counting sort of small integers."""

from gpuann._nvtx import annotate
from gpuann.backends.cuda_ops._sizes import DIGIT_BITS
from gpuann.backends.seam import Array
from gpuann.cuda import devices, variants
from gpuann.cuda.launch import arguments, launch
from gpuann.errors import bad_value

RUN = 4096  # keys of one block, at least ...
MAX_RUNS = 1024  # ... and as many as make no more blocks than this


@annotate("group")
def group(keys: Array, n_groups: int) -> tuple[Array, Array]:
    """See `seam.Ops.group`."""
    return _sort(keys, n_groups, 1)


def by_problem(labels: Array, n_clusters: int) -> tuple[Array, Array]:
    """Rows of B problems by (problem, label): labels (B, N) int32 -> order (B * N,) int64 of rows
    numbered through, offsets (B * n_clusters + 1,) int64.
    """
    return _sort(labels, n_clusters, len(labels))


def _sort(keys: Array, n_clusters: int, n_problems: int) -> tuple[Array, Array]:
    device = devices.of(keys)
    xp = device.xp
    source = variants.plain("group")
    n, n_groups = keys.size, n_problems * n_clusters
    order, offsets = xp.empty(n, xp.int64), xp.zeros(n_groups + 1, xp.int64)
    if n_groups >= 1 << 31:
        rule = "make fewer than 2^31 groups over all problems"
        raise bad_value("group", "n_clusters", rule, f"{n_problems} * {n_clusters}")
    if n == 0:
        return order, offsets
    passes = max(1, -(-(n_groups - 1).bit_length() // DIGIT_BITS))
    run = -(-max(RUN, -(-n // MAX_RUNS)) // source.block) * source.block
    n_runs = -(-n // run)
    sorted_keys = [device.scratch(f"group.keys{i}", (n,), xp.int32) for i in range(2)]
    # the last pass writes `order`, those before it take turns
    rows = [order, device.scratch("group.rows", (n,), xp.int64)]
    from_keys = from_rows = None
    for i in range(passes):
        to_keys, to_rows = sorted_keys[i % 2], rows[(passes - 1 - i) % 2]
        work = arguments(
            device,
            source,
            keys=keys,
            from_keys=from_keys,
            from_rows=from_rows,
            to_keys=to_keys,
            to_rows=to_rows,
            counts=device.scratch("group.counts", (1 << DIGIT_BITS, n_runs), xp.int64),
            offsets=offsets,
            n=n,
            n_groups=n_groups,
            per_problem=n // n_problems,
            stride=n_clusters,
            run=run,
            n_runs=n_runs,
            shift=i * DIGIT_BITS,
        )
        launch(work, "group_count", (n_runs,))
        launch(work, "group_scan", (1,))
        launch(work, "group_scatter", (n_runs,))
        from_keys, from_rows = to_keys, to_rows
    launch(work, "group_offsets", (-(-(n_groups + 1) // source.block),))
    return order, offsets
