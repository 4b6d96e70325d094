"""NVTX ranges: around every public call by its name, and nothing where nvtx is not installed."""

from gpuann import _nvtx


class Recorder:
    """Stands in for the nvtx module."""

    def __init__(self):
        self.seen = []

    def annotate(self, name, domain):
        self.seen.append((name, domain))
        return self

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.seen.append("end")


def test_a_call_is_a_range_also_when_it_fails(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(_nvtx, "nvtx", recorder)

    @_nvtx.annotate("some.call")
    def call(value):
        """What it does."""
        return 1 / value

    assert call(2) == 0.5
    try:
        call(0)
    except ZeroDivisionError:
        recorder.seen.append("raised")
    assert recorder.seen == [("some.call", "gpuann"), "end"] * 2 + ["raised"]
    assert call.__name__ == "call"
    assert call.__doc__ == "What it does."


def test_without_nvtx_the_function_is_itself(monkeypatch):
    monkeypatch.setattr(_nvtx, "nvtx", None)

    def call():
        """Nothing."""

    assert _nvtx.annotate("x")(call) is call
