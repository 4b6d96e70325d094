"""Instructions of the tensor cores: ldmatrix and mma, fragments as the manual lays them out.

Lane 4 g + t has word t of row g of an 8 x 4 matrix of 32-bit words.
"""

import numpy as np

from .decode import TYPES, Action, Instruction, opcode

B32, F32 = TYPES["b32"], TYPES["f32"]
_GROUP, _PLACE = np.arange(32) // 4, np.arange(32) % 4
_ALL = np.array([0xFFFFFFFF], np.uint32)


def _every_lane(machine, lanes, name: str) -> np.ndarray:
    """The warps of the lanes, all of whose lanes take part -> their numbers."""
    present = machine.table(lanes, np.ones(lanes.count, bool), False)
    warps = np.flatnonzero(present.any(1))
    if not present[warps].all():
        machine.fail(int(lanes.ids[0]), f"{name} needs all lanes of the warp")
    return warps


def _whole_warp(step) -> Action:
    return Action(step, "warp", lambda machine, lanes: _ALL)


@opcode("ldmatrix")
def _load_matrices(ins: Instruction):
    for word in ("sync", "aligned", "m8n8", "x4"):
        ins.take(word)
    ins.take("shared", "shared::cta")
    ins.take("b16")
    ins.expect(2)
    targets = ins.vector(ins.operands[0])
    if len(targets) != 4:
        ins.refuse("4 destinations are expected")
    writes, address = [ins.write(name, B32) for name in targets], ins.address(1)

    def step(machine, lanes):
        warps = _every_lane(machine, lanes, "ldmatrix")
        places = np.broadcast_to(address(machine, lanes), lanes.count)
        if (places % 16 != 0).any():
            machine.fail(int(lanes.ids[0]), "ldmatrix from an address that is no multiple of 16")
        rows = machine.memory.load("shared", places, lanes, 4, 4)
        # word [warp, lane, i] of the row that a lane names
        words = np.stack([machine.table(lanes, column, 0) for column in rows], axis=2)[warps]
        mine = np.searchsorted(warps, machine.warp_of[lanes.ids])
        lane = machine.lane_of[lanes.ids]
        for matrix, write in enumerate(writes):
            write(machine, lanes, words[mine, 8 * matrix + _GROUP[lane], _PLACE[lane]])

    return _whole_warp(step)


@opcode("mma")
def _multiply(ins: Instruction):
    for word in ("sync", "aligned"):
        ins.take(word)
    halves = ins.modifiers[:1] == ["m16n8k16"]
    kind = ("m16n8k16", "f16") if halves else ("m16n8k8", "tf32")
    for word in (kind[0], "row", "col", "f32", kind[1], kind[1], "f32"):
        ins.take(word)
    ins.expect(4)
    names = [ins.vector(operand) for operand in ins.operands]
    if [len(vector) for vector in names] != [4, 4, 2, 4]:
        ins.refuse("fragments of 4, 4, 2 and 4 registers are expected")
    writes = [ins.write(name, F32) for name in names[0]]
    reads = [
        [ins.read(name, type) for name in vector]
        for vector, type in zip(names[1:], (B32, B32, F32), strict=True)
    ]

    def step(machine, lanes):
        warps = _every_lane(machine, lanes, "mma")

        def fragment(read):
            """(warps, lanes)"""
            values = np.broadcast_to(read(machine, lanes), lanes.count)
            return machine.table(lanes, values, 0)[warps]

        a, b, c = ([fragment(read) for read in part] for part in reads)
        depth = 16 if halves else 8
        left = np.empty((len(warps), 16, depth))
        right = np.empty((len(warps), depth, 8))
        total = np.empty((len(warps), 16, 8))
        for i in range(4):
            for column, value in _entries(a[i], i // 2, halves):
                left[:, _GROUP + 8 * (i % 2), column] = value
            total[:, _GROUP + 8 * (i // 2), 2 * _PLACE + i % 2] = c[i]
        for i in range(2):
            for row, value in _entries(b[i], i, halves):
                right[:, row, _GROUP] = value
        # the products are exact and rounded once: the emulator sums in another way, on purpose
        result = (total + left @ right).astype(np.float32)
        mine = np.searchsorted(warps, machine.warp_of[lanes.ids])
        lane = machine.lane_of[lanes.ids]
        for i, write in enumerate(writes):
            row, column = _GROUP[lane] + 8 * (i // 2), 2 * _PLACE[lane] + i % 2
            write(machine, lanes, result[mine, row, column])

    return _whole_warp(step)


def _entries(words: np.ndarray, half: int, halves: bool):
    """What a register holds of its row of the product's depth: (places of the lanes, values)."""
    if not halves:
        return [(_PLACE + 4 * half, _tf32(words))]
    both = words.astype(np.uint32)
    low, high = (both & 0xFFFF).astype(np.uint16), (both >> 16).astype(np.uint16)
    place = 2 * _PLACE + 8 * half
    return [(place, low.view(np.float16).astype(np.float64)), (place + 1, high.view(np.float16))]


def _tf32(bits: np.ndarray) -> np.ndarray:
    """What a tensor core sees: the upper 19 bits. Of subnormal numbers the manual says nothing:
    here they are zero, in the emulator they are not.
    """
    seen = (bits.astype(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)
    return np.where(np.abs(seen) < 2.0**-126, 0.0, seen)


def to_tf32(x: np.ndarray) -> np.ndarray:
    """cvt.rna.tf32.f32: nearest, halves away from zero -> bits."""
    bits = x.view(np.uint32)
    rounded = (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    return np.where(np.isnan(x), np.uint32(0x7FFFFFFF), rounded)
