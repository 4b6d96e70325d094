"""The entries of a kernel's text: their names and launch bounds."""

import re

_COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
_BOUNDS = r"(?:__launch_bounds__\s*\((?P<{}>(?:[^()]|\([^()]*\))*)\)\s*)?"
_ENTRY = re.compile(
    r'extern\s*"C"\s*__global__\s+'
    + _BOUNDS.format("before")
    + r"void\s+"
    + _BOUNDS.format("behind")
    + r"(?P<name>\w+)\s*\("
)


def without_comments(text: str) -> str:
    """The text, each comment replaced by a blank; strings stay."""
    return _COMMENT.sub(lambda m: m[0] if m[0].startswith('"') else " ", text)


def entry_table(text: str) -> str:
    """The C++ table of all `extern "C" __global__` functions; the compiler evaluates the bounds."""
    rows = []
    for match in _ENTRY.finditer(without_comments(text)):
        bounds = match["before"] or match["behind"]
        arguments = f"{match['name']}, {bounds}" if bounds else match["name"]
        rows.append(f"    EMU_ENTRY({arguments}),\n")
    return (
        'extern "C" __attribute__((visibility("default"))) const emu::EntryRow emu_entries[] = {\n'
        + "".join(rows)
        + "    {nullptr, nullptr, 0, 0},\n};\n"
    )
