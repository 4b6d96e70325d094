"""Block barriers: who waits at which, when it opens, what its reduction gives.

Only called while threads have their own program counters, but for the case that all living threads
arrive at once. A thread that has ended is no longer waited for.
"""

import numpy as np

from .decode import Lanes

_BARRIERS = 16


class Barriers:
    """The barriers of all blocks of a chunk."""

    def __init__(self, machine, blocks: int, threads: int):
        self._machine, self._blocks = machine, blocks
        self.waiting = np.full(threads, -1)  # the number of the barrier a thread waits at
        self._wanted = np.zeros(threads, np.int64)  # threads it waits for, 0 is the whole block
        self._votes = np.zeros(threads, bool)
        self._steps: dict[int, object] = {}  # by the place of the instruction
        self._arrived_only = np.zeros(blocks * _BARRIERS, np.int64)  # by bar.arrive

    def arrive(self, place: int, lanes: Lanes, step, together: bool) -> None:
        """`together`: these are all living threads."""
        machine = self._machine
        number = np.broadcast_to(step.number(machine, lanes), lanes.count)
        votes = np.broadcast_to(step.value(machine, lanes) if step.value else False, lanes.count)
        if (number >= _BARRIERS).any():
            machine.fail(int(lanes.ids[np.argmax(number)]), "a barrier beyond 15")
        if together and step.threads is None and (number == number[0]).all():
            self._all_at_once(place, lanes, step, votes)
            return
        machine.part()
        wanted = step.threads(machine, lanes) if step.threads else np.zeros(1, np.uint32)
        wanted = np.broadcast_to(wanted.astype(np.int64), lanes.count)
        if step.threads and ((wanted == 0) | (wanted % 32 != 0)).any():
            machine.fail(int(lanes.ids[0]), "a barrier counts whole warps")
        if not step.waits:
            np.add.at(self._arrived_only, machine.block_of[lanes.ids] * _BARRIERS + number, 1)
            machine.go(lanes, place + 1)
        else:
            self._steps[place] = step
            self.waiting[lanes.ids], self._wanted[lanes.ids] = number, wanted
            self._votes[lanes.ids] = votes
            machine.blocked[lanes.ids], machine.pc[lanes.ids] = True, place
        self.release()

    def _all_at_once(self, place, lanes, step, votes):
        machine = self._machine
        if step.operation is not None:
            blocks = machine.block_of[lanes.ids]
            for block in np.unique(blocks):
                ids = lanes.ids[blocks == block]
                step.finish(machine, Lanes(ids, ids), votes[blocks == block])
        machine.go(lanes, place + 1)

    def release(self) -> None:
        """Opens the barriers at which all have arrived."""
        machine = self._machine
        ids = np.flatnonzero((self.waiting >= 0) & machine.alive)
        if not ids.size:
            return
        key = machine.block_of[ids] * _BARRIERS + self.waiting[ids]
        self._same(ids, machine.warp_of[ids] * _BARRIERS + self.waiting[ids], machine.pc, "places")
        self._same(ids, key, self._wanted, "counts")
        keys, first, inverse, arrived = np.unique(
            key, return_index=True, return_inverse=True, return_counts=True
        )
        arrived = arrived + self._arrived_only[keys]
        living = np.bincount(machine.block_of[machine.alive], minlength=self._blocks)
        wanted = self._wanted[ids[first]]
        needed = np.where(wanted > 0, wanted, living[keys // _BARRIERS])
        if (arrived > needed).any():
            machine.fail(int(ids[first[np.argmax(arrived - needed)]]), "too many at a barrier")
        opens = (arrived == needed)[inverse]
        whole = opens & (wanted == 0)[inverse]
        # __syncthreads: the whole block must stand at the same one
        self._same(ids[whole], key[whole], machine.pc, "places")
        self._open(ids[opens], key[opens])

    def _same(self, ids, key, values, what: str) -> None:
        """Raises where threads of one key bring different values."""
        if not ids.size:
            return
        _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        differs = values[ids] != values[ids[first]][inverse]
        if differs.any():
            thread = int(ids[np.flatnonzero(differs)[0]])
            self._machine.fail(thread, f"a divergent barrier: different {what} meet in it")

    def _open(self, ids, key) -> None:
        machine = self._machine
        for place in np.unique(machine.pc[ids]):
            step = self._steps[int(place)]
            if step.operation is not None:
                for opened in np.unique(key[machine.pc[ids] == place]):
                    there = ids[(key == opened) & (machine.pc[ids] == place)]
                    step.finish(machine, Lanes(there, there), self._votes[ids[key == opened]])
        self._arrived_only[key] = 0
        self.waiting[ids], machine.blocked[ids] = -1, False
        machine.pc[ids] += 1
