"""The emulated arrays are as strict as a GPU's: nothing mixes with host arrays, nothing is free."""

import threading
from pathlib import Path

import emulated
import numpy as np
import pytest
from device_arrays import DeviceArray

from gpuann.cuda import device as cuda_device
from gpuann.cuda.launch import Workspace


@pytest.fixture
def device():
    return emulated.EmulatedDevice(emulated.Nothing())


@pytest.fixture
def x(device):
    return device.array(np.arange(12, dtype=np.float32).reshape(3, 4))


HOST = np.ones((3, 4), np.float32)
MIXTURES = {
    "add": lambda x: x + HOST,
    "add to host": lambda x: HOST + x,
    "host ufunc": lambda x: np.maximum(x, HOST),
    "index": lambda x: x[np.array([0, 1])],
    "index by list": lambda x: x[[0, 1]],
    "assign": lambda x: x.__setitem__(0, HOST[0]),
    "convert": np.asarray,
    "copy into host": lambda x: HOST.copy().__setitem__(0, x[0]),
    "numpy function": lambda x: np.concatenate([x, x]),
    "matrix product": lambda x: x @ x.T,
    "module function": lambda x: x.device.xp.concatenate([x, HOST]),
    "reduction of a ufunc": np.add.reduce,
}


@pytest.mark.parametrize("name", MIXTURES)
def test_host_and_device_do_not_mix(x, name):
    with pytest.raises((TypeError, ValueError)):
        MIXTURES[name](x)


def test_only_listed_names_are_there(device):
    for name in ("einsum", "matmul", "linalg", "random", "argsort", "unique", "dot"):
        assert not hasattr(device.xp, name)


WAITS = {
    "get": DeviceArray.get,
    "bool": lambda x: bool(x.any()),
    "int": lambda x: int(x.max()),
    "float": lambda x: float(x.sum()),
    "list": DeviceArray.tolist,
    "item": lambda x: x[0, 0].item(),
    "mask": lambda x: x[x > 3],
    "mask assigned": lambda x: x.__setitem__(x > 3, 0),
    "nonzero": lambda x: x.device.xp.flatnonzero(x + 0),
}


@pytest.mark.parametrize("name", WAITS)
def test_waiting_is_counted(x, name):
    WAITS[name](x)
    assert x.device.waits == 1


def test_what_stays_on_the_device_is_not_counted(x):
    y = (x[1:] * 2 + 1).astype(np.float16).reshape(4, 2).T.copy()
    assert isinstance(y, DeviceArray)
    x[0, 1] = 5
    x[:2] += x[1:]
    assert x.device.waits == 0


def test_views_share_and_copies_do_not(x):
    x[0].fill(7)
    assert (x.host[0] == 7).all()
    assert x[:, 1:].memory is x.memory
    assert (x + 0).memory is not x.memory


def test_memory_is_poisoned_aligned_and_known(device):
    made = device.empty((5, 3), np.float32)
    assert np.isnan(made.host).all()
    assert made.host.ctypes.data % 256 == 0
    assert [a.n_bytes for a in device._memory.live()] == [60]
    view = made[1:]
    del made
    assert len(device._memory.live()) == 1, "a view keeps it"
    del view
    assert not device._memory.live()


def test_the_file_that_drives_cupy_is_short():
    assert len(Path(cuda_device.__file__).read_text().splitlines()) < 150


def test_a_workspace_is_one_for_each_stream_and_thread():
    stream = [0]
    workspace = Workspace(lambda n: np.empty(n, np.uint8), lambda: stream[0])
    ask = ("a", (4,), np.dtype(np.float64))
    first = workspace.take(*ask)
    assert first.shape == (4,)
    assert np.shares_memory(first, workspace.take(*ask))
    stream[0] = 1
    other = workspace.take(*ask)
    assert not np.shares_memory(first, other)
    taken = []
    thread = threading.Thread(target=lambda: taken.append(workspace.take(*ask)))
    thread.start()
    thread.join()
    assert not np.shares_memory(taken[0], other)


def test_pieces_apart_are_of_those_who_keep_them():
    workspace = Workspace(lambda n: np.empty(n, np.uint8), lambda: 0)
    ask = ("a", (4,), np.dtype(np.float64))
    before = workspace.take(*ask)
    with workspace.apart() as kept:
        lent = workspace.take(*ask)
    assert not np.shares_memory(lent, before)
    assert [np.shares_memory(lent, piece) for piece in kept.values()] == [True]
    assert np.shares_memory(workspace.take(*ask), before)


def test_recorded_work_is_done_again_with_what_is_there_then(device):
    def work(x):
        y = x * 2
        y[0] = 5.0
        y += x
        return y.sum(axis=1), x[1:].copy()

    recorded = device.record(work, (2, 3), np.dtype(np.float32))
    assert device.nodes == 5
    recorded.given[:] = device.array(np.arange(6, dtype=np.float32).reshape(2, 3))
    recorded.launch()
    assert recorded.found[0].host.tolist() == [18.0, 36.0]
    assert recorded.found[1].host.tolist() == [[3.0, 4.0, 5.0]]
