"""What the docstrings say is so: defaults, shapes, and an example that runs."""

import dataclasses
import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gpuann
from bench import api, cluster, cluster_build, distributed_training, soak, streaming
from bench.report import tables
from gpuann import distributed, ivf_flat, ivf_pq, ivf_sq, kmeans, quantize

ROOT = Path(__file__).parents[1]
SHARDING = ROOT / "gpuann" / "distributed" / "README.md"
PARAMS = [
    ivf_flat.IndexParams,
    ivf_flat.SearchParams,
    ivf_pq.IndexParams,
    ivf_pq.SearchParams,
    ivf_sq.IndexParams,
    ivf_sq.SearchParams,
    kmeans.KMeansParams,
    quantize.pq.QuantizerParams,
    quantize.scalar.QuantizerParams,
]
MODULES = [getattr(gpuann, kind) for kind in api.KINDS] + [module for _, module in api.OTHERS]
FUNCTIONS = {
    *(getattr(module, name) for module in MODULES for name in api.functions(module)),
    *(getattr(gpuann, name) for name in api.WHOLE),
    *(f for f in vars(distributed).values() if inspect.isfunction(f)),
}


@pytest.mark.parametrize("params", PARAMS, ids=lambda c: f"{c.__module__}.{c.__name__}")
def test_documented_defaults_are_the_defaults(params):
    text = inspect.cleandoc(params.__doc__)  # Python 3.13 takes the indentation off by itself
    written = dict(re.findall(r"^(\w+) : .*default (\S+)$", text, re.MULTILINE))
    actual = {f.name: f.default for f in dataclasses.fields(params)}
    assert set(written) == set(actual)
    for name, default in written.items():
        assert default.strip('"') == str(actual[name]), name


@pytest.mark.parametrize(
    "function",
    sorted(FUNCTIONS, key=lambda f: (f.__module__, f.__qualname__)),
    ids=lambda f: f"{f.__module__}.{f.__qualname__}",
)
def test_every_argument_is_documented(function):
    assert function.__doc__
    arguments = inspect.signature(function).parameters
    for name in set(arguments) - {"index_params", "device", "progress", "params"}:
        assert re.search(rf"\b{name}\b", function.__doc__), name
    shaped = {"dataset", "queries", "X", "centroids", "centers", "pq_centers"} & set(arguments)
    for name in shaped:
        own = rf"\b{name}\b[^;\n]*\((n_|pq_)|{name} as in"
        assert re.search(own, function.__doc__), f"no shape for {name}"


def test_readme_figures_are_those_of_the_committed_results():
    assert tables() in (ROOT / "README.md").read_text()


def test_readme_lists_every_call():
    """python -m bench.api prints what belongs there."""
    assert f"{api.BEGIN}\n\n{api.tables()}\n\n{api.END}" in (ROOT / "README.md").read_text()


def test_readme_has_the_committed_figures_of_the_soak():
    found = json.loads((ROOT / "bench/results/soak.json").read_text())
    text = " ".join((ROOT / "README.md").read_text().split())
    assert soak.sentence(found) in text


def test_the_readmes_updates_run(tmp_path, monkeypatch):
    """The second example, with what it takes for granted."""
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    rows = np.random.default_rng(0).random((500, 8), np.float32)
    index = ivf_pq.build(ivf_pq.IndexParams(n_lists=8, pq_dim=4), rows, device="cpu")
    space = {"index": index, "more_rows": rows[:20] + 1, "queries": rows[:5]}
    space["in_stock"] = np.arange(520) % 2 == 0
    exec(code, space)
    assert len(space["index"]) == 518
    assert (space["ids"] % 2 == 0).all()
    assert len(gpuann.load(tmp_path / "words.ann", device="cpu")) == 518


def test_the_readmes_refinement_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[2]
    rows = np.random.default_rng(0).random((600, 64), np.float32)
    space = {"rows": rows, "more_rows": rows[:20] + 1, "queries": rows[20:25]}
    exec(code, space)
    assert (space["ids"][:, 0] == np.arange(20, 25)).all()
    assert (space["distances"][:, 0] == 0).all()
    again = gpuann.load(tmp_path / "words.ann", device="cpu", mmap=True)
    assert len(again) == 618


def test_the_readmes_pipeline_runs():
    code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[3]
    rows = np.random.default_rng(0).random((500, 8), np.float32)
    index = ivf_pq.build(ivf_pq.IndexParams(n_lists=8, pq_dim=4), rows, device="cpu")
    space = {"index": index, "batches": [rows[:9], rows[9:20]], "queries": rows[9:20]}
    space["my_ids"] = np.empty((11, 10), np.int64)
    space["my_distances"] = np.empty((11, 10), np.float32)
    exec(code, space)
    assert (space["ids"] == space["my_ids"]).all()
    assert (space["distances"] == space["my_distances"]).all()


def test_readme_has_the_committed_figures_of_streaming():
    found = json.loads((ROOT / "bench/results/streaming.json").read_text())
    assert streaming.table(found) in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "said"), [("cluster", cluster.text), ("cluster_build", cluster_build.table)]
)
def test_readme_has_the_committed_figures_of_a_cluster(name, said):
    found = json.loads((ROOT / f"bench/results/{name}.json").read_text())
    text = " ".join((ROOT / "README.md").read_text().split())
    assert " ".join(said(found).split()) in text


def test_the_readmes_cluster_runs(tmp_path):
    """As it stands there: in a file, by a process of its own."""
    code = re.search(
        r"```python\n(import dask.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )[1]
    (tmp_path / "example.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "example.py"],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    ids = np.array(re.findall(r"\d+", done.stdout), int).reshape(5, 3)
    assert (ids[:, 0] == np.arange(5)).all(), done.stderr


def test_the_sharding_page_has_the_committed_figures():
    found = json.loads((ROOT / "bench/results/distributed_training.json").read_text())
    assert distributed_training.table(found) in SHARDING.read_text()


def test_the_sharding_page_runs():
    code = re.search(r"```python\n(.*?)```", SHARDING.read_text(), re.DOTALL)[1]
    space = {}
    exec(code, space)
    assert space["ids"].shape == (100, 10)
    assert len(space["on_disk"]) == 20_005
    shutil.rmtree(space["folder"])


def example():
    return re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]


def test_readme_example_runs_and_is_short(capsys):
    code = example()
    assert len(code.strip().splitlines()) <= 12
    exec(code, {})
    assert "recall" in capsys.readouterr().out
