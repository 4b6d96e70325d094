"""CuPy's device against a recording stand-in, and the launches that go through it.

No GPU is needed: the stand-in has what `CupyDevice` uses of CuPy and writes down what is asked. One
test checks that the installed CuPy has all of it.
"""

import contextlib
import sys
import types

import emulated
import kept
import numpy as np
import pytest
from device_arrays import NAMES
from engines import needs_nvrtc

from bench.kernel_resources import ARCHS
from gpuann import arrays
from gpuann.cuda import compile, device, devices, launch, source, variants
from gpuann.errors import BackendError

WHY_NOT = device.why_not  # as it is before conftest hides the GPU


class FakeCupy:
    """What CupyDevice uses of CuPy; `said` is what it was asked."""

    float32, uint8 = np.float32, np.uint8

    def __init__(self, capability="90", optin=232_448):
        self.said = []
        self.locked = (0, 0)  # addresses of page-locked memory
        self.ndarray = lambda *about: about
        attributes = {"MultiProcessorCount": 132, "MaxSharedMemoryPerBlockOptin": optin}
        fake = self

        class Device:
            def __init__(self, number):
                self.id, self.compute_capability, self.attributes = number, capability, attributes

            def __enter__(self):
                fake.said.append(("enter", self.id))
                return self

            def __exit__(self, *_):
                fake.said.append(("leave", self.id))

        class Function:
            def __init__(self, name):
                self.name, self.ptr = name, 77

            def __call__(self, grid, block, args, shared_mem):
                fake.said.append((self.name, grid, block, args, shared_mem))

        class Module:
            def load(self, cubin):
                assert cubin[:4] == b"\x7fELF"
                fake.said.append(("load",))

            def get_function(self, name):
                return Function(name)

        class Stream:
            def __init__(self, non_blocking=False):
                self.ptr = 6 if non_blocking else 5

            def __enter__(self):
                fake.current = self
                return self

            def __exit__(self, *_):
                fake.current = Stream()

            def synchronize(self):
                fake.said.append(("synchronize",))

            def record(self, event=None):
                fake.said.append(("record", self.ptr, event))
                return event or f"event of {self.ptr}"

            def wait_event(self, event):
                fake.said.append(("wait", self.ptr, event))

            def begin_capture(self):
                fake.said.append(("begin", self.ptr))

            def end_capture(self):
                fake.said.append(("end", self.ptr))
                return Graph()

            def is_capturing(self):
                return fake.said[-1] == ("begin", self.ptr)

        class Graph:
            def launch(self, stream):
                fake.said.append(("graph", stream.ptr))

        class MemoryPool:
            def malloc(self, n_bytes):
                raise NotImplementedError

            def total_bytes(self):
                return 512

        @contextlib.contextmanager
        def using_allocator(allocator):
            fake.said.append(("own pool", isinstance(allocator.__self__, MemoryPool)))
            try:
                yield
            finally:
                fake.said.append(("common pool",))

        self.current = Stream()

        self.cuda = types.SimpleNamespace(
            Device=Device,
            function=types.SimpleNamespace(Module=Module),
            driver=types.SimpleNamespace(
                CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8,
                funcSetAttribute=lambda *a: fake.said.append(("attribute", *a)),
            ),
            get_current_stream=lambda: fake.current,
            Stream=Stream,
            MemoryPool=MemoryPool,
            using_allocator=using_allocator,
            runtime=types.SimpleNamespace(
                memoryTypeHost=1,
                pointerGetAttributes=lambda p: types.SimpleNamespace(
                    type=int(fake.locked[0] <= p < fake.locked[1]), devicePointer=p + (1 << 40)
                ),
            ),
            UnownedMemory=lambda *about: about,
            MemoryPointer=lambda memory, offset: (memory, offset),
            alloc_pinned_memory=lambda n: fake.said.append(("pinned", n)) or bytearray(n + 100),
        )

    def zeros(self, shape, dtype):
        self.said.append(("zeros", self.current.ptr))
        return np.zeros(shape, dtype)

    def empty(self, n_bytes, dtype):
        self.said.append(("empty", n_bytes))
        return np.empty(n_bytes, dtype).view(FakeDeviceArray)


class FakeDeviceArray(np.ndarray):
    """As far as uploads look at it."""

    def set(self, host, stream):
        assert stream.ptr == 5, "on the current stream"
        self[...] = host


class FakeArray:
    """A CuPy array, as far as launching looks at it."""

    def __init__(self, shape, dtype, address=4096, number=0):
        self._host = np.empty(shape, dtype)
        self.data = types.SimpleNamespace(ptr=address)
        self.device = types.SimpleNamespace(id=number)

    dtype = property(lambda self: self._host.dtype)
    flags = property(lambda self: self._host.flags)


@pytest.fixture
def cupy(monkeypatch, tmp_path):
    monkeypatch.setenv("GPUANN_CACHE_DIR", str(tmp_path))
    return FakeCupy()


def accumulate(on, **other):
    """The arguments of a small launch."""
    source_ = variants.plain("accumulate")
    values = {
        "x": FakeArray((6, 2), np.float32, 0x1000),
        "order": FakeArray((6,), np.int64, 0x2000),
        "offsets": FakeArray((4,), np.int64, 0x3000),
        "sums": FakeArray((3, 2), np.float64, 0x4000),
        "counts": FakeArray((3,), np.int64, 0x5000),
        "n_clusters": 3,
        "dim": 2,
    }
    return launch.arguments(on, source_, **values | other)


@needs_nvrtc
def test_limits_are_read_from_the_device(cupy):
    limits = device.CupyDevice(2, cupy).limits
    assert limits == launch.Limits(90, 132, 232_448 - device.STATIC_SHARED)


@needs_nvrtc
def test_a_launch_loads_once_and_passes_one_struct(cupy):
    on = device.CupyDevice(0, cupy)
    for _ in range(2):
        launch.launch(accumulate(on), "accumulate", (3,))
    said = [s for s in cupy.said if s[0] not in ("enter", "leave")]
    assert [s[0] for s in said] == ["load", "accumulate__BLOCK256", "accumulate__BLOCK256"]
    _, grid, block, (packed,), shared = said[1]
    assert (grid, block, shared) == ((3, 1, 1), (256, 1, 1), 0)
    assert packed.shape == (1,)
    expected = [0x1000, 0x2000, 0x3000, 0x4000, 0x5000]
    assert np.frombuffer(packed.tobytes()[:40], np.uint64).tolist() == expected
    assert np.frombuffer(packed.tobytes()[40:48], np.int64).tolist() == [3]
    assert np.frombuffer(packed.tobytes()[48:52], np.int32).tolist() == [2]
    assert len(packed.tobytes()) == 56, "padded as C pads it"
    at = cupy.said.index(said[1])
    assert cupy.said[at - 1] == ("enter", 0), "the launch is on its own device"
    assert cupy.said[at + 1] == ("leave", 0)


@needs_nvrtc
def test_much_shared_memory_is_asked_for_once(cupy):
    on = device.CupyDevice(0, cupy)
    to = accumulate(on)
    for shared in (44_000, 49_152 - 4096, 49_152 - 4095, 70_000):
        launch.launch(to, "accumulate", (1,), shared)
    said = [s[0] for s in cupy.said if s[0] not in ("enter", "leave", "load")]
    launched = "accumulate__BLOCK256"
    # static and dynamic together may have 48 KiB unasked
    assert said == [launched, launched, "attribute", launched, launched]
    assert ("attribute", 77, 8, on.limits.shared_bytes) in cupy.said


@needs_nvrtc
def test_an_array_of_another_device_is_refused(cupy):
    with pytest.raises(ValueError, match="array on cuda:1 given to cuda:0"):
        accumulate(device.CupyDevice(0, cupy), x=FakeArray((6, 2), np.float32, 4096, 1))


@needs_nvrtc
def test_scratch_is_reused_and_grows(cupy):
    on = device.CupyDevice(0, cupy)
    first = on.scratch("a", (100,), np.float32)
    again = on.scratch("a", (10, 5), np.float32)
    assert np.shares_memory(first, again)
    assert again.shape == (10, 5)
    assert not np.shares_memory(on.scratch("b", (100,), np.float32), first)
    assert on.scratch("a", (1000,), np.float32).shape == (1000,)
    assert [s[1] for s in cupy.said if s[0] == "empty"] == [400, 400, 4000]


@needs_nvrtc
def test_recorded_work_has_a_stream_and_memory_of_its_own(cupy):
    on = device.CupyDevice(0, cupy)
    before = on.scratch("a", (100,), np.float32)
    pieces = []
    cupy.said.clear()

    def work(x):
        assert on.is_captured() == (len(pieces) == 1)
        pieces.append(on.scratch("a", (100,), np.float32))
        cupy.said.append(("work", x.shape))
        return (pieces[-1],)

    recorded = on.record(work, (4, 2), np.float32)
    said = [s for s in cupy.said if s[0] not in ("enter", "leave")]
    assert said == [
        ("record", 5, None),
        ("own pool", True),
        ("wait", 6, "event of 5"),
        ("zeros", 6),
        ("empty", 400),
        ("work", (4, 2)),
        ("begin", 6),
        ("work", (4, 2)),
        ("end", 6),
        ("record", 6, None),
        ("common pool",),
    ]
    assert np.shares_memory(*pieces), "what the first run allocated serves the second"
    assert not np.shares_memory(pieces[0], before)
    assert np.shares_memory(on.scratch("a", (100,), np.float32), before), "the thread's own again"
    assert not on.is_captured()
    assert recorded.n_bytes == 512
    cupy.said.clear()
    recorded.wait()
    recorded.launch()
    recorded.done()
    said = [s for s in cupy.said if s[0] not in ("enter", "leave")]
    assert said == [("wait", 5, "event of 6"), ("graph", 5), ("record", 5, "event of 6")]


@needs_nvrtc
def test_work_that_fails_leaves_no_capture_and_no_pool(cupy):
    on, runs = device.CupyDevice(0, cupy), []

    def work(x):
        runs.append(x)
        if len(runs) == 2:
            raise RuntimeError("it cannot be captured")

    with pytest.raises(RuntimeError, match="it cannot be captured"):
        on.record(work, (1, 1), np.float32)
    assert ("end", 6) in cupy.said
    assert ("common pool",) in cupy.said
    assert cupy.current.ptr == 5


@needs_nvrtc
def test_uploads_go_from_pinned_memory_on_the_current_stream(cupy):
    on = device.CupyDevice(1, cupy)
    staged = on.pinned(24)
    assert (staged.shape, staged.dtype, staged.flags.writeable) == ((24,), np.uint8, True)
    part = staged[:12].view(np.float32)
    part[:] = [1, 2, 3]
    made = on.upload(part)
    assert made.tolist() == [1, 2, 3]
    assert not np.shares_memory(made, staged)
    said = [s for s in cupy.said if s[0] in ("enter", "leave", "pinned", "empty")]
    assert said == [
        ("enter", 1),
        ("pinned", 24),
        ("leave", 1),
        ("enter", 1),
        ("empty", (3,)),
        ("leave", 1),
    ]


@needs_nvrtc
def test_page_locked_memory_is_read_where_it_is(cupy):
    on, host = device.CupyDevice(1, cupy), np.zeros((3, 4), np.float32)
    first, end = host.ctypes.data, host.ctypes.data + host.nbytes
    assert on.mapped(host) is None, "pageable"
    cupy.locked = first, end
    shape, dtype, (memory, offset) = on.mapped(host)
    assert (shape, dtype, offset) == ((3, 4), np.float32, 0)
    assert memory == (first + (1 << 40), 48, host, 1), "the owner lives as long as the array"
    assert on.mapped(host.T) is None, "not contiguous"
    assert on.mapped(host[:0]) is None
    for locked in ((first, end - 1), (first + 1, end)):
        cupy.locked = locked
        assert on.mapped(host) is None, "only a part of it"


@needs_nvrtc
def test_an_old_device_is_refused(cupy):
    with pytest.raises(BackendError, match=r"compute capability must be 8.0 or newer, got 7.5"):
        device.CupyDevice(0, FakeCupy("75"))


def test_the_installed_cupy_has_what_is_used():
    cupy = pytest.importorskip("cupy")
    missing = [name for name in NAMES if not hasattr(cupy, name)]
    assert not missing, "the emulated array module has names that CuPy has not"
    assert hasattr(cupy.maximum, "at")
    paths = ["cuda.Device", "cuda.function.Module", "cuda.get_current_stream", "ndarray.set"]
    paths += ["cuda.alloc_pinned_memory", "cuda.runtime.pointerGetAttributes", "ndarray"]
    paths += ["cuda.runtime.memoryTypeHost", "cuda.UnownedMemory", "cuda.MemoryPointer"]
    paths += ["cuda.Graph.launch", "cuda.MemoryPool.malloc", "cuda.MemoryPool.total_bytes"]
    calls = ["record", "wait_event", "begin_capture", "end_capture", "is_capturing"]
    paths += [f"cuda.Stream.{name}" for name in calls] + ["cuda.using_allocator"]
    for path in paths:
        found = cupy
        for part in path.split("."):
            found = getattr(found, part)
    assert hasattr(cupy.cuda.function.Module, "load")
    assert hasattr(cupy.cuda.function.Module, "get_function")
    assert hasattr(cupy.cuda.driver, "funcSetAttribute")
    assert hasattr(cupy.cuda.driver, "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES")
    for name in ("MaxSharedMemoryPerBlockOptin", "MultiProcessorCount"):
        assert hasattr(cupy.cuda.runtime, f"cudaDevAttr{name}")
    for name in ("compute_capability", "attributes", "id", "__enter__", "__exit__"):
        assert hasattr(cupy.cuda.Device, name)
    array = [n for n in vars(emulated.DeviceArray) if not n.startswith("_")]
    ours = {"host", "memory"}  # what only the tests look at
    assert not [n for n in array if not hasattr(cupy.ndarray, n) and n not in ours]


def test_why_there_is_no_device(monkeypatch):
    real = WHY_NOT
    real.cache_clear()
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert real() == "no CuPy (pip install 'gpuann[cuda13]' or 'gpuann[cuda12]')"
    real.cache_clear()
    absent = types.SimpleNamespace(cuda=types.SimpleNamespace(is_available=lambda: False))
    monkeypatch.setitem(sys.modules, "cupy", absent)
    assert real() == "no CUDA device"
    real.cache_clear()
    old = FakeCupy("75")
    old.cuda.is_available = lambda: True
    monkeypatch.setitem(sys.modules, "cupy", old)
    assert "compute capability must be 8.0 or newer, got 7.5" in real()
    real.cache_clear()


class TorchTensor:
    """A CUDA array of another library: an interface, but no `get`."""

    __cuda_array_interface__ = {"version": 3}  # noqa: RUF012 - the protocol's name
    shape = (2, 3)


class JaxArray:
    """One that has DLPack only."""

    def __dlpack__(self):
        return "capsule"

    def __dlpack_device__(self):
        return (2, 0)


@pytest.mark.parametrize("kind", [TorchTensor, JaxArray])
def test_device_arrays_of_other_libraries_come_to_the_host(monkeypatch, kind):
    on_host = np.ones((2, 3), np.float32)
    asked = []
    back = types.SimpleNamespace(get=lambda: on_host)
    stand_in = types.SimpleNamespace(
        asarray=lambda a: asked.append("asarray") or back,
        from_dlpack=lambda a: asked.append("from_dlpack") or back,
    )
    monkeypatch.setitem(sys.modules, "cupy", stand_in)
    assert arrays.as_host("test", "x", kind()) is on_host
    assert asked == ["asarray" if kind is TorchTensor else "from_dlpack"]


@pytest.fixture
def nowhere():
    """An emulated device that runs nothing."""
    with emulated.stands_in(emulated.EmulatedDevice(emulated.Nothing())) as stand_in:
        yield stand_in


def real_arguments(on, **other):
    def array(shape, dtype):
        return on.empty(shape, dtype)

    values = {
        "x": array((6, 2), np.float32),
        "order": array((6,), np.int64),
        "offsets": array((4,), np.int64),
        "sums": array((3, 2), np.float64),
        "counts": array((3,), np.int64),
        "n_clusters": 3,
        "dim": 2,
    }
    return launch.arguments(on, variants.plain("accumulate"), **values | other)


BAD_ARGUMENTS = {
    "dtype": ({"x": np.float64}, TypeError, "x must be a device array of float32, got float64"),
    "no array": ({"x": 3}, TypeError, "x must be a device array of float32, got int"),
    "layout": ({"x": "transposed"}, ValueError, "x must be C-contiguous"),
    "too large": ({"dim": 2**31}, ValueError, "dim must fit int32, got 2147483648"),
    "not a number": ({"dim": None}, TypeError, "NoneType"),
    "half a number": ({"dim": 2.5}, TypeError, "float"),
    "unknown": ({"dims": 2}, ValueError, r"exactly those of accumulate.cu, got \['dims'\]"),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_arguments_are_checked(nowhere, case):
    other, kind, text = BAD_ARGUMENTS[case]
    other = dict(other)
    if other.get("x") == "transposed":
        other["x"] = nowhere.empty((2, 6), np.float32).T
    elif other.get("x") is np.float64:
        other["x"] = nowhere.empty((6, 2), np.float64)
    with pytest.raises(kind, match=text):
        real_arguments(nowhere, **other)


def test_a_missing_argument_is_named(nowhere):
    with pytest.raises(ValueError, match=r"got \[.*'x'"):
        launch.arguments(nowhere, variants.plain("accumulate"), dim=2)


@pytest.mark.parametrize("grid", [(0,), (1, 0), (1, 65_536), (2**31,)])
def test_an_impossible_grid_is_refused(nowhere, grid):
    with pytest.raises(ValueError, match="accumulate: grid must have between 1 and"):
        launch.launch(real_arguments(nowhere), "accumulate", grid)
    assert not nowhere.launches


def test_too_much_shared_memory_is_refused(nowhere):
    with pytest.raises(BackendError, match=r"at most 162816 bytes .* got 200000; ask for fewer"):
        launch.launch(real_arguments(nowhere), "accumulate", (1,), 200_000)


def test_sync_mode_places_a_fault(nowhere, monkeypatch):
    to = real_arguments(nowhere)
    nowhere.fault = RuntimeError("an illegal memory access was encountered")
    launch.launch(to, "accumulate", (1,))  # unnoticed, as on a GPU
    monkeypatch.setenv("GPUANN_SYNC", "1")
    with pytest.raises(BackendError, match=r"accumulate__BLOCK256: grid \(1,\) .* illegal memory"):
        launch.launch(to, "accumulate", (1,))
    nowhere.fault = None
    launch.launch(to, "accumulate", (1,))
    assert nowhere.waits == 2


def test_devices_are_opened_once(monkeypatch):
    opened = []
    monkeypatch.setattr(
        device, "open_device", lambda n: opened.append(n) or types.SimpleNamespace()
    )
    try:
        assert devices.get(3) is devices.get(3)
        assert opened == [3]
    finally:
        devices.put(3, None)


class TestSource:
    """The text of a variant."""

    def test_constants_first_and_headers_once(self):
        made = variants.scan_lists(variants.Codec.WHOLE, np.float16)
        assert made.text.startswith("#define BLOCK 256\n#define TABLE float\n#define ROW __half\n")
        assert made.text.count("typedef long long i64;") == 1
        assert '#include "' not in made.text.replace('#include "ptx_host.h"', "")
        assert (
            made.symbol("scan_bound")
            == "scan_bound__BLOCK256_CODEC0_PACKED0_PQ_LEN0_ROWhalf_ROWS_AS0_TABLEfloat_TILE64"
        )
        assert "\nENTRY(" not in made.text

    def test_lines_keep_their_numbers(self):
        made = variants.plain("select_k").text.splitlines()
        folder = source.kernel_dir()
        at, name = 0, ""
        seen = 0
        for line in made:
            if line.startswith("#line "):
                at, name = int(line.split()[1]), line.split('"')[1]
                continue
            if name and line and not line.startswith('extern "C"'):
                assert (folder / name).read_text().splitlines()[at - 1] == line
                seen += 1
            at += 1
        assert seen > 200

    @pytest.mark.parametrize("variant", variants.table(), ids=lambda s: f"{s.op} {s.variant}")
    def test_members_lie_where_a_c_compiler_puts_them(self, variant):
        """NumPy's aligned layout is C's; each member is set alone and found at its place."""
        pointer = np.dtype(np.uint64)
        members = [(f.name, pointer if f.pointer else f.dtype) for f in variant.fields]
        layout = np.dtype(members, align=True)
        for field in variant.fields:
            values = {f.name: None if f.pointer else 0 for f in variant.fields}
            values[field.name] = FakeArray((1,), field.dtype) if field.pointer else 77
            packed = source.pack(variant, lambda array: array.data.ptr, values)
            assert packed.nbytes == layout.itemsize
            found = packed.view(layout)
            for name in layout.names:
                want = (4096 if field.pointer else 77) if name == field.name else 0
                assert found[name][0] == want

    def test_an_unknown_operation(self):
        with pytest.raises(BackendError, match="op must be one of"):
            source.source("nothing", (("BLOCK", "256"),))

    def test_a_struct_that_does_not_read(self):
        body = "// budget  f: regs <= 9, spills 0, blocks/SM >= 1\n"
        body += "struct Args {\n    int n;\n};\nENTRY(f)(const Args a) {}\n"
        with pytest.raises(BackendError, match="one member a line, a comment behind each"):
            source.make("f", body, {"BLOCK": "32"})
        commented = body.replace("int n;", "int n;  // rows")
        assert source.make("f", commented, {"BLOCK": "32"}).fields[0].name == "n"
        wide = commented + "// budget  f with TILE 128: regs <= 99, spills 8, blocks/SM >= 1\n"
        budgets = [
            dict(source.make("f", wide, {"BLOCK": "32", "TILE": tile}).budgets)["f"]
            for tile in ("64", "128")
        ]
        assert budgets == [source.Budget(9, 0, 1), source.Budget(99, 8, 1)]
        without = commented.split("\n", 1)[1]
        with pytest.raises(BackendError, match="one budget line for each entry"):
            source.make("f", without, {"BLOCK": "32"})


@needs_nvrtc
class TestCompile:
    """Text to binary, and what is kept of it."""

    @pytest.fixture(autouse=True)
    def cache(self, monkeypatch, tmp_path):
        monkeypatch.setattr(compile, "build", kept.nvrtc)
        monkeypatch.setenv("GPUANN_CACHE_DIR", str(tmp_path / "kernels"))
        return tmp_path / "kernels"

    TEXT = variants.plain("accumulate").text

    def test_kept_and_found_again(self, cache, monkeypatch):
        made = compile.cubin(self.TEXT, "sm_90")
        assert len(list(cache.iterdir())) == 1
        monkeypatch.setattr(compile, "build", None)  # must not be called again
        assert compile.cubin(self.TEXT, "sm_90") == made

    def test_a_damaged_file_is_made_again(self, cache):
        made = compile.cubin(self.TEXT, "sm_90")
        (path,) = cache.iterdir()
        for damaged in (b"", b"no newline", path.read_bytes()[:-1], b"x" + path.read_bytes()):
            path.write_bytes(damaged)
            assert compile.cubin(self.TEXT, "sm_90") == made
            assert path.read_bytes().endswith(made)

    def test_another_text_or_arch_is_another_file(self, cache):
        compile.cubin(self.TEXT, "sm_90")
        compile.cubin(self.TEXT, "sm_80")
        compile.cubin(self.TEXT + "\n// edited", "sm_90")
        assert len(list(cache.iterdir())) == 3

    def test_a_folder_that_cannot_be_written(self, monkeypatch, tmp_path, capsys):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("GPUANN_CACHE_DIR", str(tmp_path / "file" / "below"))
        assert compile.cubin(self.TEXT, "sm_90")[:4] == b"\x7fELF"
        assert "compiled kernels are not kept" in capsys.readouterr().err

    def test_an_error_shows_the_compiler(self):
        with pytest.raises(BackendError, match=r"identifier \"undeclared\" is undefined"):
            compile.build("__global__ void f() { undeclared = 1; }", "sm_90")

    def test_arch_of(self):
        assert compile.arch_of(90) == "sm_90"
        assert compile.arch_of(89) == "sm_80", "its binaries run on every 8.x"
        assert compile.arch_of(121) == "sm_120"
        assert [compile.arch_of(int(arch)) for arch in ARCHS] == [f"sm_{arch}" for arch in ARCHS]
        with pytest.raises(BackendError, match=r"sm_990 must be known to NVRTC 13.0"):
            compile.arch_of(990)
        with pytest.raises(BackendError, match=r"8.0 or newer, got 7.5"):
            compile.arch_of(75)
