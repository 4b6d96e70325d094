"""The command line and the demo, as a person calls them."""

import os
import re
import subprocess
import sys

import pytest

import gpuann
from gpuann import cli, demo


def test_demo_prints_what_it_promises(capsys):
    assert cli.main(["demo", "king", "Violin"]) == 0
    out, err = capsys.readouterr()
    assert err == "", "no bars in a pipe"
    assert "device    cpu (" in out
    assert re.search(r"build     \d+\.\d\d s", out)
    assert "bytes     50 per vector as code" in out
    assert "float32 takes 400" in out
    rows = re.findall(
        r"^ +(\d+) +(0\.\d{3}) +[\d,]+ +(0\.\d{3}|1\.000) +[\d,]+$", out, re.MULTILINE
    )
    assert [int(r[0]) for r in rows] == [1, 2, 4, 8, 16, 32]
    plain, refined = ([float(r[i]) for r in rows] for i in (1, 2))
    assert plain == sorted(plain)
    assert refined == sorted(refined)
    # measured .924 and .990
    assert plain[-1] > 0.904
    assert refined[-1] > 0.970
    assert re.search(r"king: .*(prince|queen)", out)
    assert re.search(r"violin: .*(cello|piano)", out)


def test_unknown_word_is_one_line(capsys):
    assert cli.main(["demo", "violinn"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("gpuann: gpuann demo: word must be among the 30,000 words of the data")
    assert "violin" in err
    assert err.count("\n") == 1


def test_device_that_is_not_there(capsys):
    assert cli.main(["demo", "--device", "cuda"]) == 2
    assert "CUDA" in capsys.readouterr().err


def test_plot_without_matplotlib_names_the_extra(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    assert cli.main(["demo", "--plot", str(tmp_path / "f.png")]) == 2
    assert "gpuann[bench]" in capsys.readouterr().err


def test_plot_draws(tmp_path):
    points = [demo.Point(1, 0.5, 9e4, 0.6, 3e4), demo.Point(8, 0.9, 5e4, 0.95, 2e4)]
    demo._draw(points, tmp_path / "frontier.png")
    assert (tmp_path / "frontier.png").read_bytes().startswith(b"\x89PNG")


def test_version_and_usage(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert gpuann.__version__ in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        cli.main([])
    assert stop.value.code == 2


def test_import_is_light():
    """No CuPy, matplotlib or compiler is touched by `import gpuann`."""
    heavy = {"cupy", "matplotlib", "dask", "cuvs"}
    code = f"import sys, gpuann; print(sorted({heavy} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(demo._DATA.parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
