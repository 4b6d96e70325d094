"""The arguments of `gpuann plan`: those of `planning.plan`, which checks them."""

import argparse
import re
from pathlib import Path

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Names as those of `planning.plan`, with dashes."""
    add = parser.add_argument
    add("--rows", type=float, required=True, help="of the data, as 1.2e9")
    add("--dim", type=int, required=True, help="components of a row")
    add("--index", required=True, help='as "OPQ64,IVF65536,PQ64"')
    add("--metric", default="sqeuclidean", help="or euclidean, inner_product, cosine")
    add("--dtype", default="float32", help="or float16, int8, uint8")
    add("--on-cpu", dest="cuda", action="store_false", help="shards lie on hosts, not on CUDA")
    add("--memory", type=size, help="of a device, as 80GiB; 1 GiB of it is left for searches")
    add("--shards", type=int, help="default: the fewest that fit --memory")
    add("--replicas", type=int, default=1, help="of each shard; more where --load needs them")
    add("--load", type=float, help="queries/s to be served")
    add("--utilisation", type=float, default=0.0, help="share of its time a device is busy")
    add("--n-probes", type=int, help="lists that a query visits (default: 20)")
    add("--recall", type=float, help="wanted, with --curve")
    add("--curve", type=Path, metavar="FILE", help="what `gpuann eval --json` said of like data")
    add("--imbalance", type=float, default=1.0, help="of the lists; 1: they are even")
    add("--batch", type=int, default=1, help="queries of a call")
    text = "of a device for a query, stated; left out: measured here"
    add("--rows-per-second", type=float, help=text)
    add("--centers-per-second", type=float, help=text)
    add("--bandwidth", type=float, help="peak bytes/s of a device: times are bounds")
    add("--multiply-adds", type=float, help="peak multiply-adds/s of a device, with --bandwidth")
    add("--device", help='where rates are measured: "cpu", "cuda" or "cuda:N"')
    add("--overhead-ms", type=float, default=0.0, help="of a call beside the scan")
    add("--service-cv", type=float, default=0.0, help="deviation of a call's time by its mean")
    add("--stall-share", type=float, default=0.0, help="share of the calls that stall ...")
    add("--stall-ms", type=float, default=0.0, help="... and for how long")
    add("--hedge-after", type=_delay, help='ask a second replica after ms, or "p95"')
    add("--max-hedge-ratio", type=float, default=0.05, help="calls sent twice, at most")
    add("--devices-per-machine", type=int, default=1, help="a shard's replica on each")
    add("--n-searches", type=int, default=100_000, help="simulated")
    add("--seed", type=int, default=0, help="of the simulation")


def size(text: str) -> int:
    """Bytes of a text such as 80GiB, 80GB or 85899345920."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", text)
    if match is None or (match[3] and not match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of bytes, as 80GiB")
    unit = _BINARY[f"{match[2]}i"] if match[3] else _UNITS[match[2]]
    return int(float(match[1]) * unit)


def _delay(text: str) -> float | str:
    """Milliseconds; what is no number is left to the plan to judge."""
    try:
        return float(text)
    except ValueError:
        return text
