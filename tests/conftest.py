"""Fixtures of all tests."""

import gc
import os
import zlib

import kept
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import gpuann
from gpuann.cuda import compile, device

settings.register_profile(
    "ci", derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)
settings.load_profile("ci")


@pytest.fixture
def rng(request):
    """A generator seeded by the test's name."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture(autouse=True, scope="session")
def kept_binaries():
    """Every text is compiled once; tests of NVRTC itself put `compile.build` back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compile, "build", kept.build)
        yield


@pytest.fixture(autouse=True)
def no_gpu_but_where_asked(request, monkeypatch):
    """Tests see no GPU unless they are marked `gpu`: the same on every machine."""
    if "gpu" not in request.keywords:
        monkeypatch.setattr(device, "why_not", lambda: "no CUDA device")


@pytest.fixture
def threads():
    """Sets the number of threads; puts it back after the test."""
    yield gpuann.set_num_threads
    gpuann.set_num_threads(None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `-n 2` each of two processes has half of the tests, and who is done first takes of what
    the other has left. Else xdist hands them out in rounds, and the longest tests make one wait.
    """
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getvalue("dist") == "load" else None


def pytest_collection_finish():
    """What is there by now stays until the end: no collection of garbage need look at it again."""
    gc.collect()
    gc.freeze()


def pytest_report_header():
    return f"gpuann {gpuann.__version__} from {gpuann.__path__[0]}, numpy {np.__version__}"


def pytest_sessionfinish(session):
    """With GPUANN_REQUIRE_ALL=1 a skipped test fails the run: CI leaves no proof out."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("GPUANN_REQUIRE_ALL") == "1" and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
