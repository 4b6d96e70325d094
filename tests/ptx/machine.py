"""The threads of a launch: registers as arrays over all threads, stepped lowest instruction first.

Of all threads that can go on, those at the lowest program counter execute one instruction together:
branches that part meet again where their paths do. A warp instruction waits until all living lanes
of its mask stand at it, a block barrier until its threads have arrived; when nobody can go on and
somebody has not ended, the launch raises. Blocks go in chunks, in order.
"""

from typing import NamedTuple

import numpy as np

from .barrier import Barriers
from .decode import TYPES, Action, Instruction, Lanes
from .loadstore import AsyncCopies
from .memory import Memory
from .parse import PtxError

CHUNK_THREADS = 1 << 14  # threads stepped at once, in whole blocks; bounds the memory of a launch
MAX_STEPS = 20_000_000  # a launch of more instructions is taken to be endless
# now and then the threads farthest ahead have their turn, or one that holds a lock would wait for
# ever while the others spin at a lower program counter
_PERIOD, _TURN = 2048, 64
_POISON = 0xFF  # in every byte of a fresh register: a float is a NaN, an integer -1


class Launch(NamedTuple):
    """The shape of a launch."""

    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int  # bytes of dynamic shared memory


class Code(NamedTuple):
    """A decoded kernel."""

    instructions: list[Instruction]
    actions: list[Action]
    register_types: list[str]
    static_shared: int
    local: int


class Registers(dict):
    """The registers of all threads by number; one comes into being when it is first used."""

    def __init__(self, types: list[str], threads: int):
        super().__init__()
        self._types, self._threads = types, threads

    def __missing__(self, index: int) -> np.ndarray:
        raw = TYPES[self._types[index]].raw
        poisoned = np.full(self._threads * raw.itemsize, _POISON, np.uint8)
        self[index] = poisoned.astype(bool) if raw.kind == "b" else poisoned.view(raw)
        return self[index]


class Machine:
    """One launch. What is named without an underscore is for the instructions."""

    def __init__(self, code: Code, launch: Launch, argument: bytes, buffers):
        self._code, self._launch = code, launch
        self._block_threads = int(np.prod(launch.block))
        sizes = {"shared": code.static_shared + launch.shared, "local": code.local}
        self._shared = sizes["shared"]
        self.memory = Memory(self, buffers, argument, sizes)
        self.count = 0  # instructions stepped
        self._current: Instruction | None = None

    def run(self) -> None:
        blocks = int(np.prod(self._launch.grid))
        at_once = max(1, CHUNK_THREADS // self._block_threads)
        with np.errstate(all="ignore"):
            for first in range(0, blocks, at_once):
                self._start_chunk(first, min(at_once, blocks - first))
                while self._living.count:
                    self._step()

    def _start_chunk(self, first_block: int, blocks: int) -> None:
        threads = blocks * self._block_threads
        self.thread_numbers = np.arange(threads)
        self.block_of = self.thread_numbers // self._block_threads
        self._first_block, self._thread_in_block = (
            first_block,
            (self.thread_numbers % self._block_threads),
        )
        block_warps = -(-self._block_threads // 32)
        self.lane_of = self._thread_in_block % 32
        self.warp_of = self.block_of * block_warps + self._thread_in_block // 32
        self._warps = blocks * block_warps
        self.registers = Registers(self._code.register_types, threads)
        self.carry = np.zeros(threads, bool)
        self._special: dict[str, np.ndarray] = {}
        self.memory.start_chunk(blocks, threads)
        self.copies = AsyncCopies(self, threads)
        self.barriers = Barriers(self, blocks, threads)
        self._living = Lanes(slice(None), self.thread_numbers)
        self.alive = np.ones(threads, bool)
        self.blocked = np.zeros(threads, bool)
        # while all living threads stand at one instruction, `_common` is its number and `pc` is old
        self._common: int | None = 0
        self.pc = np.zeros(threads, np.int64)

    # for the instructions

    def fail(self, thread: int, message: str):
        raise PtxError(f"PTX: {message}, by {self.name_of(thread)}: {self._current.text}")

    def name_of(self, thread: int) -> str:
        def place(number, extent):
            x, y, _ = extent
            return f"({number % x}, {number // x % y}, {number // x // y})"

        block = place(self._first_block + int(self.block_of[thread]), self._launch.grid)
        return (
            f"block {block} thread {place(int(self._thread_in_block[thread]), self._launch.block)}"
        )

    def table(self, lanes: Lanes, values: np.ndarray, empty) -> np.ndarray:
        """(warps, 32): the lanes' values at their places."""
        table = np.full((self._warps, 32), empty, values.dtype)
        table[self.warp_of[lanes.ids], self.lane_of[lanes.ids]] = values
        return table

    def special(self, name: str) -> np.ndarray:
        """A special register of all threads."""
        if name not in self._special:
            values = np.broadcast_to(SPECIAL_REGISTERS[name](self), len(self.thread_numbers))
            self._special[name] = np.ascontiguousarray(values, np.uint32)
        return self._special[name]

    def coordinate(self, what: str, axis: int) -> np.ndarray | int:
        extent = self._launch.grid if what.endswith("ctaid") else self._launch.block
        if what.startswith("n"):
            return extent[axis]
        block = self._first_block + self.block_of
        number = block if what == "ctaid" else self._thread_in_block
        return number // int(np.prod(extent[:axis])) % extent[axis]

    # stepping

    def _step(self) -> None:
        if self.count >= MAX_STEPS:
            raise PtxError(
                f"PTX: the launch did not end in {MAX_STEPS} steps: {self._current.text}"
            )
        place, lanes = self._choose()
        if place >= len(self._code.actions):
            raise PtxError("PTX: the end of the kernel is passed without a ret")
        self._current, action = self._code.instructions[place], self._code.actions[place]
        self.count += 1
        active, idle = self._guarded(lanes)
        if action.kind == "plain":
            if active.count:
                action.step(self, active)
            self.go(lanes, place + 1)
        elif not active.count:
            self.go(idle, place + 1)
        elif action.kind == "branch":
            targets = action.step(self, active)
            self.go(idle, place + 1)
            self.go(active, targets)
        elif action.kind == "exit":
            self.go(idle, place + 1)
            self._end(active)
        elif action.kind == "warp":
            self.go(idle, place + 1)
            self._warp_step(place, active, action)
        else:
            together = self._common is not None and not idle.count
            self.go(idle, place + 1)
            self.barriers.arrive(place, active, action.step, together)

    def _choose(self) -> tuple[int, Lanes]:
        """The instruction to be stepped next, and the threads that stand at it."""
        if self._common is not None:
            return self._common, self._living
        runnable = self._living.ids[~self.blocked[self._living.ids]]
        if not runnable.size:
            self._deadlock()
        places = self.pc[runnable]
        others_turn = self.count % _PERIOD >= _PERIOD - _TURN
        place = int(places.max() if others_turn else places.min())
        ids = runnable[places == place]
        if ids.size == self._living.count:
            self._common = place
            return place, self._living
        return place, Lanes(ids, ids)

    def _guarded(self, lanes: Lanes) -> tuple[Lanes, Lanes]:
        """The lanes whose guard holds, and the others."""
        nobody = Lanes(lanes.ids[:0], lanes.ids[:0])
        if self._current.guard is None:
            return lanes, nobody
        register, negated = self._current.guard
        holds = self.registers[register][lanes.select] != negated
        if holds.all():
            return lanes, nobody
        if not holds.any():
            return nobody, lanes
        yes, no = lanes.ids[holds], lanes.ids[~holds]
        return Lanes(yes, yes), Lanes(no, no)

    def go(self, lanes: Lanes, place) -> None:
        """The lanes go on at a place, or each at its own."""
        if not lanes.count:
            return
        if self._common is not None and lanes.count == self._living.count and np.size(place) == 1:
            self._common = int(np.ravel(place)[0])
            return
        self.part()
        self.pc[lanes.ids] = place

    def part(self) -> None:
        """From now on every thread has its own program counter."""
        if self._common is not None:
            self.pc[self._living.ids] = self._common
            self._common = None

    def _end(self, lanes: Lanes) -> None:
        self.alive[lanes.ids] = False
        ids = np.flatnonzero(self.alive)
        self._living = Lanes(ids, ids)
        # who waits for lanes of its warp looks again: the dead are no longer waited for
        self.blocked &= self.barriers.waiting >= 0
        self.barriers.release()

    def _warp_step(self, place: int, lanes: Lanes, action: Action) -> None:
        """Steps the lanes whose mask is complete; the others wait for the rest of their mask."""
        if self._common is None:
            waiting = self.alive & self.blocked & (self.barriers.waiting < 0) & (self.pc == place)
            if waiting.any():
                waiting[lanes.ids] = True
                ids = np.flatnonzero(waiting)
                lanes = Lanes(ids, ids)
        masks = np.broadcast_to(action.mask(self, lanes), lanes.count)
        complete = lanes.count == self._living.count and (masks == 0xFFFFFFFF).all()
        if not complete:
            own = masks >> self.lane_of[lanes.ids].astype(np.uint32) & np.uint32(1) == 0
            if own.any():
                self.fail(int(lanes.ids[np.flatnonzero(own)[0]]), "a lane outside of its own mask")
            rows = self.warp_of[lanes.ids]
            arrived = self.table(lanes, masks, 0)[rows] == masks[:, None]
            living = self.table(self._living, self.alive[self._living.ids], False)[rows]
            named = masks[:, None] >> np.arange(32, dtype=np.uint32) & np.uint32(1) != 0
            ready = (arrived | ~(named & living)).all(1)
            if not ready.all():
                rest, lanes = lanes.ids[~ready], Lanes(lanes.ids[ready], lanes.ids[ready])
                self.part()
                self.pc[rest], self.blocked[rest] = place, True
        if lanes.count:
            action.step(self, lanes)
            self.blocked[lanes.ids] = False
            self.go(lanes, place + 1)

    def _deadlock(self):
        ids, lines = self._living.ids, []
        for place in np.unique(self.pc[ids])[:8]:
            there = ids[self.pc[ids] == place]
            text = self._code.instructions[place].text
            lines.append(f"{len(there)} threads, first {self.name_of(int(there[0]))}, in: {text}")
        raise PtxError("PTX: deadlock, nobody can go on\n  " + "\n  ".join(lines))


SPECIAL_REGISTERS = {
    "%laneid": lambda m: m.lane_of,
    "%warpid": lambda m: m.warp_of - m.block_of * -(-m._block_threads // 32),
    "%nwarpid": lambda m: -(-m._block_threads // 32),
    "%lanemask_eq": lambda m: 1 << m.lane_of,
    "%lanemask_lt": lambda m: (1 << m.lane_of) - 1,
    "%lanemask_le": lambda m: (2 << m.lane_of) - 1,
    "%lanemask_gt": lambda m: 2**32 - (2 << m.lane_of),
    "%lanemask_ge": lambda m: 2**32 - (1 << m.lane_of),
    "%dynamic_smem_size": lambda m: m._launch.shared,
}
for _what in ("tid", "ntid", "ctaid", "nctaid"):
    for _axis, _letter in enumerate("xyz"):
        SPECIAL_REGISTERS[f"%{_what}.{_letter}"] = lambda m, what=_what, axis=_axis: m.coordinate(
            what, axis
        )
