"""Instructions of a warp: the machine brings the lanes of a mask together before they are run.

A table has a row for every warp and a column for every lane; lanes that do not take part are empty.
"""

import numpy as np

from .decode import TYPES, Action, Instruction, opcode

U32, B32, PRED = TYPES["u32"], TYPES["b32"], TYPES["pred"]
# what a lane reads from one that does not take part: the manual leaves it undefined
UNDEFINED = 0xDEADBEEF
_LANE_BITS = np.uint64(1) << np.arange(32, dtype=np.uint64)


def lane_bits(machine, lanes, holds=True) -> np.ndarray:
    """For every lane: the bits of those lanes of its warp, among `lanes`, for which it holds."""
    table = machine.table(lanes, np.broadcast_to(holds, lanes.count), False)
    return (table * _LANE_BITS).sum(1).astype(np.uint32)[machine.warp_of[lanes.ids]]


def members(machine, lanes, mask: np.ndarray) -> np.ndarray:
    """(lanes, 32) booleans: which lanes of its warp take part with this lane."""
    present = machine.table(lanes, np.ones(lanes.count, bool), False)[machine.warp_of[lanes.ids]]
    named = np.broadcast_to(mask, lanes.count)[:, None].astype(np.uint64) & _LANE_BITS != 0
    return present & named


def _warp_action(ins: Instruction, mask_operand: int, step) -> Action:
    return Action(step, "warp", ins.read(mask_operand, B32))


@opcode("shfl")
def _shuffle(ins: Instruction):
    ins.take("sync")
    mode = ins.take("up", "down", "bfly", "idx")
    ins.take("b32")
    ins.expect(5)
    target, _, also = ins.operands[0].partition("|")
    write, write_valid = ins.write(target, B32), ins.write(also or "_", PRED)
    reads = [ins.read(1, B32), ins.read(2, U32), ins.read(3, U32), ins.read(4, B32)]

    def step(machine, lanes):
        value, b, c, mask = (
            np.broadcast_to(read(machine, lanes), lanes.count).astype(np.int64) for read in reads
        )
        lane = machine.lane_of[lanes.ids].astype(np.int64)
        b, clamp, segment = b & 31, c & 31, c >> 8 & 31
        last = (lane & segment) | (clamp & ~segment & 31)
        source = {
            "up": lane - b,
            "down": lane + b,
            "bfly": lane ^ b,
            "idx": (lane & segment) | (b & ~segment & 31),
        }[mode]
        valid = source >= last if mode == "up" else source <= last
        source = np.where(valid, source, lane)
        table = machine.table(lanes, value.astype(np.uint32), UNDEFINED)
        found = table[machine.warp_of[lanes.ids], source]
        named = members(machine, lanes, mask)[np.arange(lanes.count), source]
        write(machine, lanes, np.where(named, found, np.uint32(UNDEFINED)))
        write_valid(machine, lanes, valid)

    return _warp_action(ins, 4, step)


@opcode("vote")
def _vote(ins: Instruction):
    ins.take("sync")
    mode = ins.take("all", "any", "uni", "ballot")
    result = ins.type("b32" if mode == "ballot" else "pred")
    ins.expect(3)
    write, read, read_mask = ins.write(0, result), ins.read(1, PRED), ins.read(2, B32)

    def step(machine, lanes):
        holds = np.broadcast_to(read(machine, lanes), lanes.count)
        among = members(machine, lanes, read_mask(machine, lanes))
        votes = machine.table(lanes, holds, False)[machine.warp_of[lanes.ids]] & among
        if mode == "ballot":
            write(machine, lanes, (votes * _LANE_BITS).sum(1).astype(np.uint32))
            return
        every, some = (votes == among).all(1), votes.any(1)
        write(machine, lanes, {"all": every, "any": some, "uni": every | ~some}[mode])

    return _warp_action(ins, 2, step)


@opcode("match")
def _match(ins: Instruction):
    mode = ins.take("any", "all")
    ins.take("sync")
    type = ins.type("b32", "b64")
    ins.expect(3)
    target, _, also = ins.operands[0].partition("|")
    if also and mode == "any":
        ins.refuse("match.any has no predicate")
    write, write_valid = ins.write(target, B32), ins.write(also or "_", PRED)
    read, read_mask = ins.read(1, type), ins.read(2, B32)

    def step(machine, lanes):
        value = np.broadcast_to(read(machine, lanes), lanes.count)
        among = members(machine, lanes, read_mask(machine, lanes))
        table = machine.table(lanes, value, 0)[machine.warp_of[lanes.ids]]
        equal = (table == value[:, None]) & among
        all_equal = (equal == among).all(1)
        found = equal if mode == "any" else equal & all_equal[:, None]
        write(machine, lanes, (found * _LANE_BITS).sum(1).astype(np.uint32))
        write_valid(machine, lanes, all_equal)

    return _warp_action(ins, 2, step)


@opcode("redux")
def _reduce(ins: Instruction):
    ins.take("sync")
    operation = ins.take("add", "min", "max", "and", "or", "xor")
    type = ins.type(*(("u32", "s32") if operation in ("add", "min", "max") else ("b32",)))
    ins.expect(3)
    write, read, read_mask = ins.write(0, type), ins.read(1, type), ins.read(2, B32)
    limits = np.iinfo(type.dtype)
    function, empty = {
        "add": (np.add, 0),
        "min": (np.minimum, limits.max),
        "max": (np.maximum, limits.min),
        "and": (np.bitwise_and, limits.max),
        "or": (np.bitwise_or, 0),
        "xor": (np.bitwise_xor, 0),
    }[operation]

    def step(machine, lanes):
        value = np.broadcast_to(read(machine, lanes), lanes.count)
        among = members(machine, lanes, read_mask(machine, lanes))
        table = machine.table(lanes, value, 0)[machine.warp_of[lanes.ids]]
        values = np.where(among, table, type.dtype.type(empty))
        write(machine, lanes, function.reduce(values, axis=1, dtype=type.dtype))

    return _warp_action(ins, 2, step)


@opcode("activemask")
def _active_mask(ins: Instruction):
    ins.take("b32")
    ins.expect(1)
    write = ins.write(0, B32)
    return lambda machine, lanes: write(machine, lanes, lane_bits(machine, lanes))


@opcode("bar", "barrier")
def _barrier(ins: Instruction):
    if ins.name == "bar" and ins.maybe("warp"):
        ins.take("sync")
        ins.expect(1)
        return _warp_action(ins, 0, lambda machine, lanes: None)
    ins.maybe("cta")
    what = ins.take("sync", "arrive", "red")
    operation = ins.take("popc", "and", "or") if what == "red" else None
    if ins.name == "barrier":
        ins.maybe("aligned")
    write = value = None
    operands = list(ins.operands)
    if what == "red":
        ins.expect(3, 4)
        write = ins.write(operands.pop(0), ins.type("u32" if operation == "popc" else "pred"))
        value = ins.read(operands.pop(), PRED)
    else:
        ins.expect(2 if what == "arrive" else 1, 2)
    number = ins.read(operands[0], U32)
    threads = ins.read(operands[1], U32) if len(operands) == 2 else None
    return Action(BarrierStep(what, operation, number, threads, value, write), "barrier")


class BarrierStep:
    """A decoded barrier instruction: what a thread brings to it, what it takes away."""

    def __init__(self, what, operation, number, threads, value, write):
        self.waits, self.operation = what != "arrive", operation
        self.number, self.threads, self.value, self.write = number, threads, value, write

    def finish(self, machine, lanes, votes: np.ndarray) -> None:
        """Gives the threads of one completed barrier the reduction of their votes."""
        if self.operation is None:
            return
        result = {
            "popc": lambda: np.array([votes.sum()], np.uint32),
            "and": lambda: np.array([votes.all()]),
            "or": lambda: np.array([votes.any()]),
        }[self.operation]()
        self.write(machine, lanes, result)
