"""What is kept of NVRTC's work: that it is NVRTC's, whole, and of this very text and compiler."""

import kept
import pytest
from engines import needs_nvrtc
from models import at_once

from gpuann.cuda import compile, variants

pytestmark = needs_nvrtc
TEXT = variants.plain("accumulate").text


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setattr(kept, "cache_folder", lambda: tmp_path)
    return tmp_path


@pytest.fixture
def calls(monkeypatch):
    """What NVRTC was asked for."""
    asked = []
    nvrtc = kept.nvrtc
    monkeypatch.setattr(kept, "nvrtc", lambda *what: asked.append(what) or nvrtc(*what))
    return asked


def test_it_is_what_nvrtc_makes(calls):
    made = compile.build(TEXT, "sm_90")  # as conftest has it
    again = kept.build(TEXT, "sm_90")
    assert made == again
    assert calls == [(TEXT, "sm_90")]
    assert made[:2] == kept.nvrtc(TEXT, "sm_90")[:2]  # the log has times in it


def test_the_ptx_of_a_binary_is_that_without_a_binary(calls):
    assert compile.ptx(TEXT, "sm_90") == compile.ptx(TEXT, "compute_90")
    assert kept.build(TEXT, "compute_90").cubin == b""
    assert len(calls) == 2


def test_one_makes_it_while_the_others_wait(calls):
    made = at_once(lambda _: kept.build(TEXT, "sm_80"))
    assert len(calls) == 1
    assert made == [made[0]] * 4


@pytest.mark.parametrize("damage", [b"", b"no newline", b"x\n"])
def test_a_damaged_file_is_made_again(folder, calls, damage):
    made = kept.build(TEXT, "sm_90")
    (path,) = folder.glob("*.nvrtc")
    path.write_bytes(damage + path.read_bytes()[:-1] if damage else damage)
    assert kept.build(TEXT, "sm_90")[:2] == made[:2]
    assert len(calls) == 2


def test_another_text_arch_option_or_compiler_is_another_file(monkeypatch):
    keys = [kept.key(TEXT, "sm_90"), kept.key(TEXT + "\n", "sm_90"), kept.key(TEXT, "sm_80")]
    with monkeypatch.context() as patch:
        patch.setattr(compile, "OPTIONS", (*compile.OPTIONS, "-ftz=true"))
        keys.append(kept.key(TEXT, "sm_90"))
    monkeypatch.setattr(kept, "compiler", lambda: ("13.1", []))
    keys.append(kept.key(TEXT, "sm_90"))
    assert len(set(keys)) == len(keys)


def test_a_text_that_does_not_compile_is_not_kept(folder):
    for _ in range(2):
        with pytest.raises(compile.BackendError, match="undeclared"):
            kept.build("__global__ void f() { undeclared = 1; }", "sm_90")
    assert not list(folder.glob("*.nvrtc"))
