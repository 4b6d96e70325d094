"""Changes in any order: never a wrong or a lost id. `python -m bench.soak` does many more."""

import emulated
import states
from emu import Fibers
from engines import needs_fibers
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test


def test_on_the_cpu():
    few = settings(max_examples=20, stateful_step_count=10, deadline=None, derandomize=True)
    run_state_machine_as_test(states.Changes, settings=few)


@needs_fibers
def test_on_a_device():
    class OnDevice(states.Changes):
        device = "cuda"

    few = settings(max_examples=4, stateful_step_count=6, deadline=None, derandomize=True)
    with emulated.stands_in(emulated.EmulatedDevice(Fibers(checked=False))):
        run_state_machine_as_test(OnDevice, settings=few)
