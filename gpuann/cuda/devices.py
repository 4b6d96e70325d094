"""Which device: by number, or the one that an array lies on."""

import threading
from typing import Any

from gpuann.cuda import device
from gpuann.cuda.launch import Device

_open: dict[int, Device] = {}
_opening = threading.Lock()


def get(number: int) -> Device:
    """The device "cuda:<number>", opened at its first use."""
    with _opening:
        if number not in _open:
            _open[number] = device.open_device(number)
        return _open[number]


def of(array: Any) -> Device:
    """The device of a device array."""
    return get(array.device.id)


def put(number: int, stand_in: Device | None) -> None:
    """Let `stand_in` be device `number`, or None to forget it: for tests."""
    with _opening:
        _open.pop(number, None)
        if stand_in is not None:
            _open[number] = stand_in


def why_not() -> str | None:
    """What is missing for CUDA, or None."""
    return None if _open else device.why_not()
