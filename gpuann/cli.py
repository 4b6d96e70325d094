"""The command line: `gpuann demo`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from gpuann import demo
from gpuann._version import __version__
from gpuann.errors import BackendError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; what the user got wrong is one line on standard error and exit code 2."""
    parser = argparse.ArgumentParser(prog="gpuann", description="Nearest-neighbour search.")
    parser.add_argument("--version", action="version", version=f"gpuann {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("demo", help="search 30,000 word embeddings, and measure it")
    show.add_argument("words", nargs="*", help="find the words nearest to these")
    show.add_argument("--plot", type=Path, metavar="FILE", help="draw recall against queries/s")
    show.add_argument("--device", help='"cpu", "cuda" or "cuda:N"; default: CUDA if there is one')
    arguments = parser.parse_args(argv)
    try:
        demo.run(arguments.words, arguments.plot, arguments.device)
    except (ValueError, TypeError, BackendError, OSError) as error:
        print(f"gpuann: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0
