"""What is installed: the kernels in a wheel, beside a checkout, and named when they are nowhere."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gpuann import BackendError
from gpuann.cuda import source

ROOT = Path(__file__).parents[1]


def test_checkout_and_editable_install_find_the_kernels():
    assert source.kernel_dir() == ROOT / "kernels"


def test_missing_kernels_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(source, "_PLACES", (tmp_path / "a", tmp_path / "b"))
    with pytest.raises(BackendError, match=r"a and .*b; install gpuann again"):
        source.kernel_dir()


def test_wheel_has_kernels_data_and_types(tmp_path):
    # without isolation: the build needs no network, only setuptools
    tree = tmp_path / "tree"  # a copy: a build leaves files behind
    for part in ("gpuann", "kernels"):
        shutil.copytree(ROOT / part, tree / part)
    for part in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / part, tree)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(tmp_path)]
    subprocess.run([*command, str(tree)], check=True, capture_output=True)
    names = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    tracked = {f"gpuann/kernels/{p.name}" for p in (ROOT / "kernels").iterdir()}
    assert tracked <= names
    assert {"gpuann/data/words.npz", "gpuann/py.typed"} <= names
    assert "gpuann/distributed/README.md" in names
    assert not any(name.startswith("tests") for name in names)
