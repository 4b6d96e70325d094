"""The bench's commands: `python -m bench run|report|compare|ops|gpu_check --help`."""

import importlib
import sys

from bench import machine

COMMANDS = {
    "run": "run",
    "report": "frontiers",
    "compare": "compare",
    "ops": "ops",
    "gpu_check": "gpu_check",
}


def main() -> None:
    """Hand the rest of the line to the command."""
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        wanted = sys.argv[1] if len(sys.argv) > 1 else "none"
        raise SystemExit(f"bench: the command must be of {', '.join(COMMANDS)}, got {wanted}")
    importlib.import_module(f"bench.{COMMANDS[sys.argv[1]]}").main(sys.argv[2:])


if __name__ == "__main__":
    machine.clear_presets()
    main()
