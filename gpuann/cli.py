"""The command line: `gpuann build | search | eval | info | convert | demo`."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gpuann import commands, demo
from gpuann._version import __version__
from gpuann.errors import BackendError

_DEVICE = '"cpu", "cuda" or "cuda:N"; default: CUDA if there is one'
_COLUMN = "data set or column of .hdf5, .parquet, .arrow or .lance"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command -> exit code. What the user got wrong is one line on standard error and 2; an
    interrupt is 130, and leaves no half file.
    """
    arguments = vars(_parser().parse_args(argv))
    command, as_json = arguments.pop("command"), arguments.pop("json", False)
    try:
        if command == "demo":
            demo.run(arguments["words"], arguments["plot"], arguments["device"])
            return 0
        found = _COMMANDS[command](**arguments)
    except (ValueError, TypeError, BackendError, OSError) as error:
        print(f"gpuann: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("gpuann: interrupted", file=sys.stderr)
        return 130
    try:
        print(json.dumps(found) if as_json else _shown(found), flush=True)
    except BrokenPipeError:  # `| head` has what it wanted
        sys.stderr.close()
    return 0


_COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {
    "build": commands.build,
    "search": commands.search,
    "eval": commands.evaluate,
    "info": commands.info,
    "convert": commands.convert,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gpuann", description="Nearest-neighbour search.")
    parser.add_argument("--version", action="version", version=f"gpuann {__version__}")
    sub = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        made = sub.add_parser(name, help=text, description=text)
        made.add_argument("--json", action="store_true", help="say it as JSON")
        return made

    build = command("build", "make an index file of a file of vectors")
    build.add_argument("data", type=Path, help="vectors; the end of the name says the format")
    build.add_argument("out", type=Path, help="index file")
    build.add_argument("--index", default="IVF1024,Flat", help='as "OPQ16,IVF1024,PQ16x8"')
    build.add_argument("--metric", default="sqeuclidean", help="euclidean, inner_product, cosine")
    build.add_argument("--kmeans-n-iters", type=int, help="of the centres and the codebooks")
    build.add_argument("--seed", type=int, help="of every random choice")

    search = command("search", "find the neighbours of the vectors of a file")
    search.add_argument("index", type=Path)
    search.add_argument("queries", type=Path)
    search.add_argument("-k", type=int, default=10)
    search.add_argument("--n-probes", type=int, default=20)
    search.add_argument("--refine", type=Path, metavar="DATA", help="rank anew by these vectors")
    search.add_argument("--k-factor", type=int, default=4, help="k times so many are ranked")
    search.add_argument("--ids", type=Path, metavar="FILE", help="write them: .ivecs, .ibin, .npy")
    search.add_argument("--distances", type=Path, metavar="FILE", help=".fvecs, .fbin, .npy")

    evaluate = command("eval", "recall and speed of an index")
    evaluate.add_argument("index", type=Path)
    evaluate.add_argument("queries", type=Path)
    evaluate.add_argument("--truth", type=Path, help="ids of the true neighbours")
    evaluate.add_argument("--data", type=Path, help="vectors, to find them by brute force")
    evaluate.add_argument("-k", type=int, default=10)
    evaluate.add_argument("--n-probes", type=_numbers, default=[1, 4, 16, 64], help="as 1,4,16")

    info = command("info", "what a file holds, an index or vectors")
    info.add_argument("path", type=Path)

    convert = command("convert", "vectors to another format; an index to .faiss and back")
    convert.add_argument("source", type=Path)
    convert.add_argument("out", type=Path)
    convert.add_argument("--header-bits", type=int, default=32, help="of .fbin and the like")

    for one in (build, search, evaluate, info, convert):
        one.add_argument("--column", help=_COLUMN)
    for one in (build, search, evaluate):
        one.add_argument("--device", help=_DEVICE)

    show = sub.add_parser("demo", help="search 30,000 word embeddings, and measure it")
    show.add_argument("words", nargs="*", help="find the words nearest to these")
    show.add_argument("--plot", type=Path, metavar="FILE", help="draw recall against queries/s")
    show.add_argument("--device", help=_DEVICE)
    return parser


def _numbers(text: str) -> list[int]:
    return [int(one) for one in text.split(",")]


def _shown(found: dict[str, Any]) -> str:
    """For people: a line each, neighbours and points as tables."""
    lines = []
    for name, value in found.items():
        if name == "points":
            lines.append("n_probes    recall   queries/s")
            row = "{n_probes:8}  {recall:8.4f}  {queries_per_second:10,.0f}"
            lines += [row.format(**point) for point in value]
        elif name == "neighbors":
            lines += [f"{i}: {' '.join(map(str, ids))}" for i, ids in enumerate(value)]
        elif name != "neighbor_distances":
            shown = f"{value:,.3f}" if isinstance(value, float) else value
            lines.append(f"{name.replace('_', ' '):20} {shown}")
    return "\n".join(lines)
