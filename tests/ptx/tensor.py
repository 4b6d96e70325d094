"""The instruction of the tensor cores, mma, fragments as the manual lays them out.

Lane 4 g + t holds rows g, g + 8 of the left, column g of the right, and of the product columns 2 t,
2 t + 1; along the depth places 2 t, 2 t + 1 and 2 t + 8, 2 t + 9, two a word.
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


@opcode("mma")
def _multiply(ins: Instruction):
    for word in ("sync", "aligned", "m16n8k16", "row", "col", "f32", "f16", "f16", "f32"):
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
        left = np.empty((len(warps), 16, 16))
        right = np.empty((len(warps), 16, 8))
        total = np.empty((len(warps), 16, 8))
        for i in range(4):
            total[:, _GROUP + 8 * (i // 2), 2 * _PLACE + i % 2] = c[i]
            for half in range(2):
                depth = 2 * _PLACE + 8 * (i // 2) + half
                left[:, _GROUP + 8 * (i % 2), depth] = _half(a[i], half)
                if i % 2 == 0:
                    right[:, depth, _GROUP] = _half(b[i // 2], half)
        # the products are exact and rounded once: the emulator sums in another way, on purpose
        result = (total + left @ right).astype(np.float32)
        mine = np.searchsorted(warps, machine.warp_of[lanes.ids])
        lane = machine.lane_of[lanes.ids]
        for i, write in enumerate(writes):
            row, column = _GROUP[lane] + 8 * (i // 2), 2 * _PLACE[lane] + i % 2
            write(machine, lanes, result[mine, row, column])

    return Action(step, "warp", lambda machine, lanes: _ALL)


def _half(words: np.ndarray, which: int) -> np.ndarray:
    """The lower or the upper half of each word."""
    bits = (words.astype(np.uint32) >> (16 * which)) & 0xFFFF
    return bits.astype(np.uint16).view(np.float16).astype(np.float64)
