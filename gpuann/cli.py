"""The command line: `gpuann build | search | eval | info | convert | plan | demo`."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gpuann import cli_plan, commands, demo
from gpuann._version import __version__
from gpuann.errors import BackendError
from gpuann.params import IvfIndexParams

_DEVICE = '"cpu", "cuda" or "cuda:N"; default: CUDA if there is one'
_COLUMN = "data set or column of .hdf5, .parquet, .arrow or .lance"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command -> exit code. What the user got wrong is one line on standard error and 2; an
    interrupt is 130, and leaves no half file; a reader that has gone, as `head` does, is 141: both
    are what a shell shows of a program that the signal ended.
    """
    arguments = vars(_parser().parse_args(argv))
    command, as_json = arguments.pop("command"), arguments.pop("json", False)
    try:
        if command == "demo":
            demo.run(arguments["words"], arguments["plot"], arguments["device"])
        elif command == "plan":
            planned = commands.plan(**arguments)
            print(json.dumps(planned.as_dict()) if as_json else planned)
        else:
            found = _COMMANDS[command](**arguments)
            print(json.dumps(found) if as_json else _shown(found))
        sys.stdout.flush()
    except BrokenPipeError:
        # what is left in the buffer would raise again when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, TypeError, BackendError, OSError) as error:
        print(f"gpuann: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("gpuann: interrupted", file=sys.stderr)
        return 130
    return 0


_COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {
    "build": commands.build,
    "search": commands.search,
    "eval": commands.evaluate,
    "info": commands.info,
    "convert": commands.convert,
}


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Defaults where there is one that can be given."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False or isinstance(action.default, list):
            return action.help
        return super()._get_help_string(action)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gpuann", description="Nearest-neighbour search.")
    parser.add_argument("--version", action="version", version=f"gpuann {__version__}")
    sub = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        made = sub.add_parser(name, help=text, description=text, formatter_class=_Help)
        made.add_argument("--json", action="store_true", help="say it as JSON")
        return made

    build = command("build", "make an index file of a file of vectors")
    build.add_argument("data", type=Path, help="vectors; the end of the name says the format")
    build.add_argument("out", type=Path, help="index file")
    build.add_argument("--index", default="IVF1024,Flat", help='as "OPQ16,IVF1024,PQ16x8"')
    build.add_argument(
        "--metric", default="sqeuclidean", help="or euclidean, inner_product, cosine"
    )
    iterations = f"of the centres and the codebooks (default: {IvfIndexParams.kmeans_n_iters})"
    build.add_argument("--kmeans-n-iters", type=int, help=iterations)
    seed = f"of every random choice (default: {IvfIndexParams.seed})"
    build.add_argument("--seed", type=int, help=seed)

    search = command("search", "find the neighbours of the vectors of a file")
    search.add_argument("index", type=Path, help="index file")
    search.add_argument("queries", type=Path, help="vectors")
    search.add_argument("-k", type=int, default=10, help="neighbours of each")
    search.add_argument("--n-probes", type=int, default=20, help="lists that a query visits")
    search.add_argument("--refine", type=Path, metavar="DATA", help="rank anew by these vectors")
    search.add_argument("--k-factor", type=int, default=4, help="k times so many are ranked")
    search.add_argument("--ids", type=Path, metavar="FILE", help="write them: .ivecs, .ibin, .npy")
    search.add_argument("--distances", type=Path, metavar="FILE", help=".fvecs, .fbin, .npy")

    evaluate = command("eval", "recall and speed of an index")
    evaluate.add_argument("index", type=Path, help="index file")
    evaluate.add_argument("queries", type=Path, help="vectors")
    evaluate.add_argument("--truth", type=Path, help="ids of the true neighbours")
    evaluate.add_argument("--data", type=Path, help="vectors, to find them by brute force")
    evaluate.add_argument("-k", type=int, default=10, help="neighbours of each")
    probes = "lists that a query visits, one after the other (default: 1,4,16,64)"
    evaluate.add_argument("--n-probes", type=_numbers, default=[1, 4, 16, 64], help=probes)

    info = command("info", "what a file holds, an index or vectors")
    info.add_argument("path", type=Path, help="file")

    convert = command("convert", "vectors to another format; an index to .faiss and back")
    convert.add_argument("source", type=Path, help="file of vectors, of an index, or .faiss")
    convert.add_argument("out", type=Path, help="file; the end of the name says the format")
    bits = "of each number in the header of .fbin and the like: 32 or 64"
    convert.add_argument("--header-bits", type=int, default=32, help=bits)

    for one in (build, search, evaluate, info, convert):
        one.add_argument("--column", help=_COLUMN)
    for one in (build, search, evaluate):
        one.add_argument("--device", help=_DEVICE)

    cli_plan.add_arguments(command("plan", "what an index that is not built would take"))

    text = "search 30,000 word embeddings, and measure it"
    show = sub.add_parser("demo", help=text, description=text)
    show.add_argument("words", nargs="*", help="find the words nearest to these")
    show.add_argument("--plot", type=Path, metavar="FILE", help="draw recall against queries/s")
    show.add_argument("--device", help=_DEVICE)
    return parser


def _numbers(text: str) -> list[int]:
    try:
        return [int(one) for one in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be numbers, as 1,4,16, got {text!r}") from None


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
