"""Instructions that move the program counter. The machine decides where the lanes go on."""

import numpy as np

from .decode import TYPES, Action, Instruction, opcode


@opcode("bra")
def _branch(ins: Instruction):
    ins.maybe("uni")
    ins.expect(1)
    target = np.array([ins.label(ins.operands[0])])
    return Action(lambda machine, lanes: target, "branch")


@opcode("brx")
def _indexed_branch(ins: Instruction):
    ins.take("idx")
    ins.maybe("uni")
    ins.expect(2)
    if ins.operands[1] not in ins.entry.branch_targets:
        ins.refuse(f"the list {ins.operands[1]} does not exist")
    names = ins.entry.branch_targets[ins.operands[1]]
    targets = np.array([ins.label(name) for name in names])
    read = ins.read(0, TYPES["u32"])

    def step(machine, lanes):
        index = np.broadcast_to(read(machine, lanes), lanes.count)
        if (outside := index >= len(targets)).any():
            machine.fail(int(lanes.ids[np.flatnonzero(outside)[0]]), "a branch beyond its list")
        return targets[index]

    return Action(step, "branch")


@opcode("ret", "exit")
def _exit(ins: Instruction):
    if ins.name == "ret":
        ins.maybe("uni")
    ins.expect(0)
    return Action(lambda machine, lanes: None, "exit")


@opcode("trap")
def _trap(ins: Instruction):
    ins.expect(0)
    return _trapped


def _trapped(machine, lanes):
    machine.fail(int(lanes.ids[0]), "the kernel stopped itself")
