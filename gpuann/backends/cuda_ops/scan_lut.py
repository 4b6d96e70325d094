"""scan_lut: one block a query (or a share of it) over its lists, by look-up table."""

from gpuann._nvtx import annotate
from gpuann.backends.cuda_ops import _scan
from gpuann.backends.seam import Array, Lists, PqPayload
from gpuann.cuda import devices, variants
from gpuann.metric import ScanMetric


@annotate("scan_lut")
def scan_lut(
    lut: Array,
    queries: Array,
    terms: Array,
    payload: PqPayload,
    lists: Lists,
    probes: Array,
    k: int,
    metric: ScanMetric,
    keep: Array | None = None,
    limit: Array | None = None,
) -> tuple[Array, Array]:
    """See `seam.Ops.scan_lut`. One launch, and one more to merge where queries are few."""
    device = devices.of(queries)
    xp = device.xp
    if len(queries) == 0:
        return xp.empty((0, k), xp.float32), xp.empty((0, k), xp.int64)
    table_bytes = lut.nbytes // len(queries)
    plan = _scan.Plan("scan_lut", device, queries.shape[1], k, table_bytes)
    members = _scan.values(queries, terms, payload, lists, probes, k, metric, keep, limit, plan) | {
        "lut": lut
    }
    source = variants.scan_lut(lut.dtype)
    return _scan.walk(device, source, "scan_lut", members, len(lists.ids), plan.shared)
