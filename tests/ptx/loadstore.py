"""Instructions that touch memory: ld, st, atom, red, cvta, cp.async, fences."""

from functools import partial

import numpy as np

from .decode import TYPES, Instruction, Lanes, Type, opcode
from .memory import WINDOWS

_SPACES = {"global": "global", "shared": "shared", "shared::cta": "shared", "local": "local"}
_SCOPES = ("cta", "gpu", "sys", "cluster")
_HINTS = ("L1::no_allocate", "L1::evict_first", "L1::evict_last", "L1::evict_normal")
_PREFETCH = ("L2::64B", "L2::128B", "L2::256B")
_VECTORS = {None: 1, "v2": 2, "v4": 4, "v8": 8}
_MEMORY_TYPES = [f"{letter}{bits}" for letter in "bus" for bits in (8, 16, 32, 64)]


def _vector_type(ins: Instruction, space: str) -> tuple[int, Type]:
    count = _VECTORS[ins.maybe("v2", "v4", "v8")]
    type = ins.type(*_MEMORY_TYPES, "f32", "f64")
    if count * type.bytes > (32 if space == "global" else 16):
        ins.refuse("the vector is too wide")
    return count, type


def _ordering(ins: Instruction, *strong: str) -> None:
    """The memory orderings: all threads are stepped in one order, so each of them holds."""
    if ins.maybe("volatile", "weak") is None and ins.maybe(*strong) is not None:
        ins.take(*_SCOPES)


@opcode("ld")
def _load(ins: Instruction):
    _ordering(ins, "relaxed", "acquire")
    space = {**_SPACES, None: "generic", "param": "param"}[ins.maybe(*_SPACES, "param")]
    cached = ins.maybe("ca", "cg", "cs", "lu", "cv")
    if space == "global" and cached not in ("lu", "cv"):
        ins.maybe("nc")
    ins.maybe(*_HINTS)
    ins.maybe(*_PREFETCH)
    count, type = _vector_type(ins, space)
    ins.expect(2)
    targets = ins.vector(ins.operands[0])
    if len(targets) != count:
        ins.refuse(f"{count} destinations are expected")
    writes, address = [ins.write(name, type, wider=True) for name in targets], ins.address(1)

    def step(machine, lanes):
        places = address(machine, lanes)
        for write, raw in zip(
            writes, machine.memory.load(space, places, lanes, type.bytes, count), strict=True
        ):
            write(machine, lanes, raw.view(type.dtype))

    return step


@opcode("st")
def _store(ins: Instruction):
    _ordering(ins, "relaxed", "release")
    space = {**_SPACES, None: "generic"}[ins.maybe(*_SPACES)]
    ins.maybe("wb", "cg", "cs", "wt")
    ins.maybe(*_HINTS)
    count, type = _vector_type(ins, space)
    ins.expect(2)
    sources = ins.vector(ins.operands[1])
    if len(sources) != count:
        ins.refuse(f"{count} sources are expected")
    reads, address = [ins.read(name, type, wider=True) for name in sources], ins.address(0)

    def step(machine, lanes):
        values = [read(machine, lanes).view(type.raw) for read in reads]
        machine.memory.store(space, address(machine, lanes), lanes, values)

    return step


_ATOMIC = {  # (old value, operand) -> new value, on Python integers or NumPy float scalars
    "add": lambda old, value: old + value,
    "min": min,
    "max": max,
    "and": lambda old, value: old & value,
    "or": lambda old, value: old | value,
    "xor": lambda old, value: old ^ value,
    "exch": lambda old, value: value,
    "inc": lambda old, value: 0 if old >= value else old + 1,
    "dec": lambda old, value: value if old == 0 or old > value else old - 1,
}
_ATOMIC_TYPES = {
    "add": ("u32", "s32", "u64", "f32", "f64"),
    **dict.fromkeys(("min", "max"), ("u32", "s32", "u64", "s64")),
    **dict.fromkeys(("and", "or", "xor", "exch", "cas"), ("b32", "b64")),
    **dict.fromkeys(("inc", "dec"), ("u32",)),
}


@opcode("atom", "red")
def _atomic(ins: Instruction):
    ins.anywhere("relaxed", "acquire", "release", "acq_rel")
    ins.anywhere(*_SCOPES)
    space = {**_SPACES, None: "generic"}[ins.maybe("global", "shared", "shared::cta")]
    returns = ins.name == "atom"
    operation = ins.take(*(name for name in _ATOMIC_TYPES if returns or name != "cas"))
    type = ins.type(*_ATOMIC_TYPES[operation])
    ins.expect(2 + returns + (operation == "cas"))
    write = ins.write(0, type) if returns else None
    address = ins.address(int(returns))
    reads = [ins.read(name, type) for name in ins.operands[1 + returns :]]

    def step(machine, lanes):
        """One lane after the other: the old value of a lane is what the lane before left."""
        places = np.broadcast_to(address(machine, lanes), lanes.count)
        columns = [np.broadcast_to(read(machine, lanes), lanes.count) for read in reads]
        if operation == "cas":
            compare, columns = columns[0].tolist(), columns[1:]
        olds = np.zeros(lanes.count, type.dtype)
        for where, array, index in machine.memory.places(space, places, lanes, type.bytes):
            typed = array.view(type.dtype)
            cells, cell_of = np.unique(index, return_inverse=True)
            if type.letter == "f":  # NumPy scalars round after every addition
                current, values = list(typed[cells]), list(columns[0][where])
            else:
                current, values = typed[cells].tolist(), columns[0][where].tolist()
            before = []
            lane_numbers = np.arange(lanes.count)[where].tolist()
            for lane, cell, value in zip(lane_numbers, cell_of.tolist(), values, strict=True):
                old = current[cell]
                before.append(old)
                if operation != "cas":
                    current[cell] = _wrap(_ATOMIC[operation](old, value), type)
                elif old == compare[lane]:
                    current[cell] = value
            typed[cells], olds[where] = current, before
        if write is not None:
            write(machine, lanes, olds)

    return step


def _wrap(value, type: Type):
    """An integer result as the type holds it."""
    if type.letter == "f":
        return value
    value %= 2**type.bits
    return value - 2**type.bits if type.letter == "s" and value >> (type.bits - 1) else value


@opcode("cvta")
def _convert_address(ins: Instruction):
    to_space = ins.maybe("to") is not None
    space = ins.take("global", "shared", "shared::cta", "local", "param").removesuffix("::cta")
    type = ins.type("u64")
    ins.expect(2)
    window = np.uint64(WINDOWS.get(space, 0))
    read, write = ins.read(1, type), ins.write(0, type)
    if to_space:  # outside of the window the result wraps; using it is what is out of bounds
        return lambda m, lanes: write(m, lanes, read(m, lanes) - window)
    return lambda m, lanes: write(m, lanes, read(m, lanes) + window)


@opcode("isspacep")
def _is_in_space(ins: Instruction):
    space = ins.take("global", "shared", "shared::cta", "local").removesuffix("::cta")
    ins.expect(2)
    write, read = ins.write(0, TYPES["pred"]), ins.read(1, TYPES["u64"])
    least = np.uint64(min(WINDOWS.values()))
    window = np.uint64(WINDOWS.get(space, 0))

    def step(machine, lanes):
        address = read(machine, lanes)
        inside = (address >= window) & (address < window * np.uint64(2))
        write(machine, lanes, address < least if space == "global" else inside)

    return step


@opcode("membar")
def _membar(ins: Instruction):
    ins.take("cta", "gl", "sys")
    ins.expect(0)
    return lambda machine, lanes: None


@opcode("fence")
def _fence(ins: Instruction):
    ins.maybe("sc", "acq_rel")
    ins.take(*_SCOPES)
    ins.expect(0)
    return lambda machine, lanes: None


@opcode("cp")
def _copy_async(ins: Instruction):
    ins.take("async")
    what = ins.take("cg", "ca", "commit_group", "wait_group", "wait_all")
    if what == "commit_group":
        ins.expect(0)
        return lambda machine, lanes: machine.copies.commit(lanes)
    if what == "wait_all":
        ins.expect(0)
        return lambda machine, lanes: machine.copies.wait(lanes, None)
    if what == "wait_group":
        ins.expect(1)
        if not ins.operands[0].isdigit():
            ins.refuse("the number of groups must be a constant")
        return partial(_wait_group, groups=int(ins.operands[0]))
    ins.take("shared", "shared::cta")
    ins.take("global")
    ins.maybe(*_PREFETCH)
    with_size = ins.expect(3, 4) == 4
    sizes = ("16",) if what == "cg" else ("4", "8", "16")
    if ins.operands[2] not in sizes:
        ins.refuse(f"the size must be {' or '.join(sizes)}")
    size = int(ins.operands[2])
    target, source = ins.address(0), ins.address(1)
    valid = ins.read(ins.operands[3] if with_size else str(size), TYPES["u32"])

    def step(machine, lanes):
        places = (read(machine, lanes) for read in (target, source, valid))
        machine.copies.issue(lanes, *(np.broadcast_to(p, lanes.count) for p in places), size)

    return step


def _wait_group(machine, lanes, groups):
    machine.copies.wait(lanes, groups)


class AsyncCopies:
    """cp.async: nothing is copied before the wait that demands it, the latest allowed moment."""

    def __init__(self, machine, threads: int):
        self._machine = machine
        self._committed = np.zeros(threads, np.int64)  # groups a thread has closed
        self._pending: list[tuple] = []  # (ids, group of each, target, source, valid bytes, size)

    def issue(self, lanes, target, source, valid, size):
        memory = self._machine.memory
        if (valid > size).any():
            lane = int(lanes.ids[np.flatnonzero(valid > size)[0]])
            self._machine.fail(lane, f"cp.async of more than {size} bytes")
        # addresses are checked now, where the instruction is known; nothing is read yet
        list(memory.places("shared", target, lanes, min(size, 8), size // min(size, 8)))
        if (source % np.uint64(size) != 0).any():
            lane = int(lanes.ids[np.flatnonzero(source % np.uint64(size))[0]])
            self._machine.fail(lane, "cp.async from a misaligned address")
        self._bytes(lanes.ids, source, valid, size)
        groups = self._committed[lanes.ids]
        self._pending.append((lanes.ids, groups, target.copy(), source.copy(), valid.copy(), size))

    def _bytes(self, ids, source, valid, size) -> np.ndarray:
        """(lanes, size) bytes: the valid ones from global memory, the others 0."""
        data = np.zeros((len(ids), size), np.uint8)
        for byte in range(size):
            some = np.flatnonzero(valid > byte)
            part = Lanes(ids[some], ids[some])
            place = source[some] + np.uint64(byte)
            data[some, byte] = self._machine.memory.load("global", place, part, 1)[0]
        return data

    def commit(self, lanes):
        self._committed[lanes.ids] += 1

    def wait(self, lanes, groups: int | None):
        """Completes all but the last `groups` closed groups; None: everything, also open ones."""
        waiting = np.zeros(len(self._committed), bool)
        waiting[lanes.ids] = True
        still = []
        for ids, group, target, source, valid, size in self._pending:
            due = waiting[ids]
            if groups is not None:
                due &= group < self._committed[ids] - groups
            now, later = np.flatnonzero(due), np.flatnonzero(~due)
            if len(now):
                data = self._bytes(ids[now], source[now], valid[now], size)
                part = Lanes(ids[now], ids[now])
                words = list(np.ascontiguousarray(data).view("u4").T)
                for number, word in enumerate(words):
                    place = target[now] + np.uint64(4 * number)
                    self._machine.memory.store("shared", place, part, [word])
            if len(later):
                rest = (array[later] for array in (ids, group, target, source, valid))
                still.append((*rest, size))
        self._pending = still
