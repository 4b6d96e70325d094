"""Arrays of a device that is not there: as strict as CuPy's, on host memory.

`DeviceArray` refuses to mix with NumPy arrays, copies nothing silently, and counts what makes the
host wait for the device. `ArrayModule` has the listed names of CuPy and no other; a test checks
that the installed CuPy has them all.
"""

import threading
import weakref

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

POISON = 0xFF  # NaN as a float, -1 as an integer: uninitialised memory shows
ALIGNMENT = 256

DTYPES = ["bool_", "uint8", "int8", "uint32", "int32", "int64", "uint64"]
DTYPES += ["float16", "float32", "float64"]
UFUNCS = ["maximum", "minimum", "sqrt", "square", "isfinite", "rint"]
CREATORS = ["empty", "zeros", "full", "arange"]
FUNCTIONS = [
    "asarray",
    "ascontiguousarray",
    "clip",
    "concatenate",
    "empty_like",
    "zeros_like",
    "ones_like",
    "where",
]
FUNCTIONS += ["from_dlpack", "searchsorted"]
WAITING = ["flatnonzero"]  # the size of their result is only known on the device
NAMES = DTYPES + UFUNCS + CREATORS + FUNCTIONS + WAITING


class Allocation:
    """One piece of device memory, poisoned."""

    def __init__(self, shape, dtype):
        n_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        raw = np.full(n_bytes + ALIGNMENT, POISON, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        self.bytes = raw[start : start + n_bytes]
        self.address, self.n_bytes = self.bytes.ctypes.data, n_bytes
        self.host = self.bytes.view(dtype).reshape(shape)


class DeviceArray(NDArrayOperatorsMixin):
    """Looks like a CuPy array; `host` is what only this module may touch."""

    __array_priority__ = 100

    def __init__(self, host, memory, device):
        self.host, self.memory, self.device = host, memory, device

    shape = property(lambda self: self.host.shape)
    dtype = property(lambda self: self.host.dtype)
    ndim = property(lambda self: self.host.ndim)
    size = property(lambda self: self.host.size)
    nbytes = property(lambda self: self.host.nbytes)
    strides = property(lambda self: self.host.strides)
    flags = property(lambda self: self.host.flags)

    @property
    def T(self):  # noqa: N802 - NumPy's name
        return self._view(self.host.T)

    @property
    def __cuda_array_interface__(self):
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (0, False), "version": 3}

    def __len__(self):
        return len(self.host)

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    # what waits for the device
    def get(self):
        self.device.wait()
        return self.host.copy()

    def tolist(self):
        return self.get().tolist()

    def item(self):
        return self.get().item()

    def __int__(self):
        return int(self.get())

    def __float__(self):
        return float(self.get())

    def __bool__(self):
        return bool(self.get())

    # what stays on it
    def __getitem__(self, index):
        plain = self._index(index)
        return self._result(lambda: self.host[plain])

    def __setitem__(self, index, value):
        self.device.must_be_active()
        if isinstance(value, np.ndarray):
            raise TypeError("a NumPy array cannot be assigned to a device array")
        plain, given = self._index(index), value.host if isinstance(value, DeviceArray) else value
        self.device.does(lambda: self.host.__setitem__(plain, given))

    def _index(self, index):
        parts = index if isinstance(index, tuple) else (index,)
        for part in parts:
            if isinstance(part, np.ndarray | list):
                raise TypeError("a device array cannot be indexed by a NumPy array or a list")
            if isinstance(part, DeviceArray) and part.dtype == np.bool_:
                self.device.wait()
        plain = tuple(p.host if isinstance(p, DeviceArray) else p for p in parts)
        return plain if isinstance(index, tuple) else plain[0]

    def _view(self, host):
        return DeviceArray(host, self.memory, self.device)

    def _result(self, make):
        """A view stays in this memory, anything else gets memory of its own."""
        host = make()
        if isinstance(host, np.ndarray) and np.may_share_memory(host, self.memory.bytes):
            return self._view(host)
        return self.device.computed(make)

    def reshape(self, *shape):
        return self._result(lambda: self.host.reshape(*shape))

    def transpose(self, *axes):
        return self._view(self.host.transpose(*axes))

    def view(self, dtype):
        return self._view(self.host.view(dtype))

    def astype(self, dtype, copy=True):
        self.device.must_be_active()
        return self._result(lambda: self.host.astype(dtype, copy=copy))

    def copy(self):
        self.device.must_be_active()
        return self.device.computed(lambda: self.host)

    def fill(self, value):
        self.device.does(lambda: self.host.fill(value))

    def sum(self, axis=None):
        """In another order than NumPy's, as on a GPU: no answer may depend on it."""
        return self.device.computed(lambda: np.flip(self.host, axis).sum(axis=axis))

    def max(self, axis=None):
        return self.device.computed(lambda: self.host.max(axis=axis))

    def min(self, axis=None):
        return self.device.computed(lambda: self.host.min(axis=axis))

    def any(self, axis=None, keepdims=False):
        return self.device.computed(lambda: self.host.any(axis=axis, keepdims=keepdims))

    def all(self, axis=None):
        return self.device.computed(lambda: self.host.all(axis=axis))

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **more):
        self.device.must_be_active()
        for x in inputs:
            if isinstance(x, np.ndarray) and x.ndim:
                raise TypeError(f"{ufunc.__name__}: a device array meets a NumPy array")
        plain = [x.host if isinstance(x, DeviceArray) else x for x in inputs]
        if method == "at":
            return self.device.does(lambda: ufunc.at(*plain))
        if method != "__call__" or more.keys() - {"dtype"} or ufunc.signature:  # matmul has one
            raise TypeError(f"{ufunc.__name__}.{method} {sorted(more)} is not on the device")
        if out is not None:
            into = tuple(o.host for o in out)
            self.device.does(lambda: ufunc(*plain, out=into, **more))
            return out[0]
        return self.device.computed(lambda: ufunc(*plain, **more))

    def __array_function__(self, function, *_):
        raise TypeError(f"numpy.{function.__name__} was given a device array")


class ArrayModule:
    """The part of CuPy that the code above the seam may use."""

    def __init__(self, device):
        self._device = device
        for name in [*DTYPES, *UFUNCS]:
            setattr(self, name, getattr(np, name))

    def empty(self, shape, dtype):
        self._device.must_be_active()
        return self._device.empty(shape, dtype)

    def zeros(self, shape, dtype):
        return self.full(shape, 0, dtype)

    def full(self, shape, value, dtype):
        out = self.empty(shape, dtype)
        out.fill(value)
        return out

    def arange(self, *bounds, dtype=None):
        self._device.must_be_active()
        return self._device.computed(lambda: np.arange(*bounds, dtype=dtype))

    def asarray(self, data, dtype=None):
        self._device.must_be_active()
        if isinstance(data, DeviceArray):
            return data if dtype in (None, data.dtype) else data.astype(dtype)
        return self._device.array(np.asarray(data, dtype))

    def from_dlpack(self, data):
        self._device.must_be_active()
        return self._own(data.__dlpack__())

    def ascontiguousarray(self, x):
        self._device.must_be_active()
        self._own(x)
        if x.flags.c_contiguous:
            return x
        return self._device.computed(lambda: np.ascontiguousarray(x.host))

    def clip(self, x, low, high):
        self._device.must_be_active()
        return self._device.computed(lambda: np.clip(self._own(x).host, low, high))

    def concatenate(self, parts, axis=0):
        self._device.must_be_active()
        plain = [self._own(p).host for p in parts]
        return self._device.computed(lambda: np.concatenate(plain, axis))

    def empty_like(self, x):
        return self.empty(self._own(x).shape, x.dtype)

    def zeros_like(self, x):
        return self.zeros(self._own(x).shape, x.dtype)

    def ones_like(self, x):
        return self.full(self._own(x).shape, 1, x.dtype)

    def where(self, condition, a, b):
        plain = [x.host if isinstance(x, DeviceArray) else x for x in (a, b)]
        which = self._own(condition).host
        return self._device.computed(lambda: np.where(which, *plain))

    def searchsorted(self, x, values, side):
        sorted_, found = self._own(x).host, self._own(values).host
        return self._device.computed(lambda: np.searchsorted(sorted_, found, side))

    def flatnonzero(self, x):
        self._device.wait()
        return self._device.array(np.flatnonzero(self._own(x).host))

    @staticmethod
    def _own(x):
        if not isinstance(x, DeviceArray):
            raise TypeError(f"a device array is wanted, got {type(x).__name__}")
        return x


class Memory:
    """What is allocated on a device, and since when nobody holds it."""

    def __init__(self):
        self._live = weakref.WeakSet()
        self._lock = threading.Lock()  # several host threads may use one device

    def allocate(self, shape, dtype):
        made = Allocation(shape, dtype)
        with self._lock:
            self._live.add(made)
        return made

    def live(self):
        """Allocations that arrays still refer to."""
        with self._lock:
            return [a for a in self._live if a.n_bytes]
