"""PTX text to statements: entries, declared registers and variables, instructions, labels.

Only what NVRTC writes is understood; anything else raises PtxError instead of being skipped.
"""

import functools
import re
from dataclasses import dataclass, field


class PtxError(RuntimeError):
    """The PTX text is not understood, or its execution did something it must not do."""


@dataclass(frozen=True)
class Register:
    """A declared register: its place in the register file and its declared type."""

    index: int
    type: str


@dataclass(frozen=True)
class Variable:
    """A declared variable of the .shared or .local space; size None is a dynamic array."""

    space: str
    name: str
    align: int
    size: int | None


@dataclass
class Statement:
    """One instruction as written, with the registers visible where it stands."""

    text: str
    guard: str | None  # "%p1" or "!%p1"
    opcode: str
    operands: list[str]
    scope: dict[str, Register]


@dataclass
class Entry:
    """One kernel of a PTX text."""

    name: str
    param_name: str
    param_size: int
    max_threads: int | None
    registers: list[Register] = field(default_factory=list)
    variables: list[Variable] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    branch_targets: dict[str, list[str]] = field(default_factory=dict)


_TYPE_BYTES = {"b8": 1, "u8": 1, "s8": 1, "b16": 2, "u16": 2, "s16": 2, "f16": 2}
_TYPE_BYTES |= {"b32": 4, "u32": 4, "s32": 4, "f32": 4, "b64": 8, "u64": 8, "s64": 8, "f64": 8}
_REGISTER_TYPES = {"pred", *(name for name in _TYPE_BYTES if not name.endswith("8"))}

_ENTRY = re.compile(r"(?:\.visible\s+|\.weak\s+)?\.entry\s+([\w$]+)\s*\(([^)]*)\)([^{;]*)\{")
_PARAM = re.compile(r"\.param\s+\.align\s+\d+\s+\.b8\s+([\w$]+)\[(\d+)\]")
_VARIABLE = re.compile(
    r"(?:\.extern\s+)?\.(shared|local)\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d*)\])?"
)
_LABEL = re.compile(r"([A-Za-z_$%][\w$]*)\s*:(?!:)")
_PRAGMA = re.compile(r'\.pragma "(?:nounroll|used_bytes_mask \w+)"')  # hints to ptxas
_SPACE = re.compile(r"\s*")
_INSTRUCTION = re.compile(r"(?:@(!?[\w$%]+)\s+)?([a-z][\w.:]*)(?:\s+(.*))?", re.S)
# directives that say how to compile the kernel and nothing about what it computes
_TUNING = re.compile(
    r"\.(?:maxntid|reqntid)\s+[\d,\s]+|\.(?:minnctapersm|maxnreg)\s+\d+|\.noreturn\s*"
)
_MAX_THREADS = re.compile(r"\.(?:maxntid|reqntid)\s+(\d+(?:\s*,\s*\d+)*)")


def _without_comments(text: str) -> str:
    """Neither the comments nor what -lineinfo adds."""
    text = re.sub(r"/\*.*?\*/", " ", text.replace("\0", ""), flags=re.S)
    text = re.sub(r"//[^\n]*", "", text)
    text = re.sub(r"^\s*\.(?:loc|file)\b[^\n]*", "", text, flags=re.M)
    return re.sub(r"^\s*\.section\s+\.debug_\w+\s*\{[^{}]*\}", "", text, flags=re.M)


def _body_end(text: str, start: int) -> int:
    """The place of the brace that closes the body whose opening brace ends at start."""
    depth = 1
    for brace in re.compile(r"[{}]").finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.start()
    raise PtxError("PTX: a body is not closed")


def _pieces(body: str):
    """Yields ("open" | "close" | "label" | "statement", text) in the order of the text."""
    place = 0
    while True:
        place = _SPACE.match(body, place).end()
        if place == len(body):
            return
        if body[place] in "{}":
            yield ("open" if body[place] == "{" else "close"), body[place]
            place += 1
            continue
        if body[place] == ";":
            place += 1
            continue
        if label := _LABEL.match(body, place):
            yield "label", label[1]
            place = label.end()
            continue
        end = body.find(";", place)
        if end < 0:
            raise PtxError(f"PTX: a statement without its semicolon: {body[place:][:80]!r}")
        yield "statement", " ".join(body[place:end].split())
        place = end + 1


def split_operands(text: str) -> list[str]:
    """The operands of an instruction: commas inside braces and brackets do not divide."""
    operands, depth, current = [], 0, ""
    for character in text:
        depth += (character in "{[(") - (character in "}])")
        if character == "," and depth == 0:
            operands.append(current.strip())
            current = ""
        else:
            current += character
    if depth:
        raise PtxError(f"PTX: brackets do not match in {text!r}")
    last = current.strip()
    if operands and not last:
        raise PtxError(f"PTX: an operand is missing in {text!r}")
    return operands + ([last] if last else [])


def _declare_registers(entry: Entry, scope: dict[str, Register], text: str) -> None:
    match = re.fullmatch(r"\.reg\s*\.(\w+)\s+(.+)", text)
    if not match or match[1] not in _REGISTER_TYPES:
        raise PtxError(f"PTX: a register declaration is not understood: {text!r}")
    for declared in match[2].split(","):
        name = re.fullmatch(r"([\w$%]+)(?:<(\d+)>)?", declared.strip())
        if not name:
            raise PtxError(f"PTX: a register declaration is not understood: {text!r}")
        names = [name[1]] if name[2] is None else [f"{name[1]}{i}" for i in range(int(name[2]))]
        for register_name in names:
            scope[register_name] = Register(len(entry.registers), match[1])
            entry.registers.append(scope[register_name])


def _variable(text: str) -> Variable:
    match = _VARIABLE.fullmatch(text)
    if not match or match[3] not in _TYPE_BYTES:
        raise PtxError(f"PTX: a variable declaration is not understood: {text!r}")
    space, align, element, name, count = match.groups()
    width = _TYPE_BYTES[element]
    size = width if count is None else None if count == "" else width * int(count)
    return Variable(space, name, int(align or width), size)


def _statement(text: str, scope: dict[str, Register]) -> Statement:
    match = _INSTRUCTION.fullmatch(text)
    if not match:
        raise PtxError(f"PTX: a line is not understood: {text!r}")
    guard, opcode, operands = match.groups()
    return Statement(text, guard, opcode, split_operands(operands or ""), scope)


def _parse_body(entry: Entry, body: str) -> None:
    scopes: list[dict[str, Register]] = [{}]
    for kind, text in _pieces(body):
        if kind == "open":
            scopes.append(dict(scopes[-1]))
        elif kind == "close":
            scopes.pop()
        elif kind == "label":
            if text in entry.labels:
                raise PtxError(f"PTX: the label {text} stands twice in {entry.name}")
            entry.labels[text] = len(entry.statements)
        elif text.startswith(".reg"):
            _declare_registers(entry, scopes[-1], text)
        elif text.startswith((".shared", ".local")):
            entry.variables.append(_variable(text))
        elif text.startswith(".branchtargets"):
            last = next(reversed(entry.labels), None)
            if last is None or entry.labels.pop(last) != len(entry.statements):
                raise PtxError(f"PTX: targets without a name: {text!r}")
            entry.branch_targets[last] = split_operands(text.removeprefix(".branchtargets"))
        elif text.startswith(".pragma"):
            if not _PRAGMA.fullmatch(text):
                raise PtxError(f"PTX: an unknown pragma: {text!r}")
        elif text.startswith("."):
            raise PtxError(f"PTX: an unknown directive: {text!r}")
        else:
            entry.statements.append(_statement(text, scopes[-1]))


def _parse_head(name: str, params: str, tuning: str) -> Entry:
    param = _PARAM.fullmatch(params.strip())
    if not param:
        raise PtxError(f"PTX: {name} must take one struct by value, it takes: {params.strip()!r}")
    if rest := _TUNING.sub("", tuning).strip():
        raise PtxError(f"PTX: an unknown directive of {name}: {rest!r}")
    threads = None
    if bounds := _MAX_THREADS.search(tuning):
        threads = 1
        for extent in bounds[1].split(","):
            threads *= int(extent)
    return Entry(name, param[1], int(param[2]), threads)


@functools.lru_cache(maxsize=32)
def parse(text: str) -> dict[str, Entry]:
    """The entries of a PTX text by name."""
    text = _without_comments(text)
    entries, outside, place = {}, "", 0
    for head in _ENTRY.finditer(text):
        end = _body_end(text, head.end())
        entry = _parse_head(head[1], head[2], head[3])
        _parse_body(entry, text[head.end() : end])
        entries[entry.name] = entry
        outside += text[place : head.start()] + "\n"
        place = end + 1
    outside += text[place:]
    # file-scope shared variables: demoted ones stand in the bodies, dynamic ones stand here
    shared = [_variable(" ".join(found.split())) for found in _file_scope_shared(outside)]
    for entry in entries.values():
        entry.variables = shared + entry.variables
    return entries


def _file_scope_shared(outside: str) -> list[str]:
    """Checks the text between the kernels; a .func or a .global is met only when it is used."""
    outside = re.sub(r"\.(?:version|target|address_size)\b[^\n]*", "", outside)
    shared = []
    for kind, text in _pieces(outside):
        if kind == "statement" and re.match(r"(?:\.extern\s+)?\.shared\b", text):
            shared.append(text)
        elif kind == "statement" and not re.match(r"(?:\.visible\s+|\.weak\s+)?\.global\b", text):
            raise PtxError(f"PTX: not understood outside of the kernels: {text!r}")
        elif kind in ("open", "close", "label"):
            raise PtxError("PTX: functions beside the kernels are not supported")
    return shared


def opcodes(text: str) -> set[str]:
    """The full spellings of all opcodes in a PTX text."""
    return {line.opcode for entry in parse(text).values() for line in entry.statements}
