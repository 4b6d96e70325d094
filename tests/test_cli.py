"""The command line: what it writes, what it says, and how it fails."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from compare import assert_same

import gpuann
from bench.data import clustered
from gpuann import cli, cli_plan, io, ivf_pq

ROWS, QUERIES = clustered(1500, 16, 30)


@pytest.fixture
def folder(tmp_path):
    io.write_vectors(tmp_path / "base.fvecs", ROWS)
    io.write_vectors(tmp_path / "query.fbin", QUERIES)
    return tmp_path


def run(capsys, *words):
    """Exit code, standard output, standard error."""
    code = cli.main([str(word) for word in words])
    said = capsys.readouterr()
    return code, said.out, said.err


def made(capsys, folder, index="IVF16,PQ8x6"):
    out = folder / "x.ann"
    code, said, _ = run(
        capsys, "build", folder / "base.fvecs", out, "--index", index, "--json", "--device", "cpu"
    )
    assert code == 0
    return out, json.loads(said)


def test_build_search_eval_info(capsys, folder):
    out, said = made(capsys, folder)
    assert said["bytes"] == out.stat().st_size
    assert said["index"].startswith("ivf_pq.Index(1,500 rows")
    index = gpuann.load(out, device="cpu")
    dists, ids = ivf_pq.search(ivf_pq.SearchParams(n_probes=4), index, QUERIES, 5)
    words = "search", out, folder / "query.fbin", "-k", 5, "--n-probes", 4, "--device", "cpu"
    code, text, _ = run(capsys, *words, "--json")
    found = json.loads(text)
    assert code == 0
    assert found["neighbors"] == ids.tolist()
    assert found["neighbor_distances"] == dists.astype(float).tolist()
    to = "--ids", folder / "i.ivecs", "--distances", folder / "d.npy"
    assert run(capsys, *words, *to)[0] == 0
    assert_same(np.asarray(io.open_vectors(folder / "i.ivecs")), ids.astype(np.int32))
    assert_same(np.asarray(io.open_vectors(folder / "d.npy")), dists)

    shown = run(capsys, *words)[1]
    assert f"0: {' '.join(map(str, ids[0]))}" in shown
    code, text, _ = run(capsys, "info", out)
    assert code == 0
    assert "pq bits              6" in text
    assert json.loads(run(capsys, "info", out, "--json")[1])["n_lists"] == 16
    code, text, _ = run(capsys, "info", folder / "base.fvecs", "--json")
    assert json.loads(text)["rows"] == 1500


def test_eval(capsys, folder):
    out, _ = made(capsys, folder, "IVF16,Flat")
    truth = gpuann.brute_force.search(gpuann.brute_force.build(ROWS, device="cpu"), QUERIES, 10)[1]
    io.write_vectors(folder / "t.ivecs", truth.astype(np.int32))
    words = "eval", out, folder / "query.fbin", "--n-probes", "1,4,16", "--device", "cpu", "--json"
    for more in (("--truth", folder / "t.ivecs"), ("--data", folder / "base.fvecs")):
        points = json.loads(run(capsys, *words, *more)[1])["points"]
        assert [p["n_probes"] for p in points] == [1, 4, 16]
        recalls = [p["recall"] for p in points]
        assert sorted(recalls) == recalls
        assert recalls[-1] == 1.0
    shown = run(capsys, *words[:-1], "--data", folder / "base.fvecs")[1]
    assert "n_probes    recall   queries/s" in shown
    code, _, error = run(capsys, *words)
    assert (code, error) == (
        2,
        "gpuann: gpuann eval: --truth must be given, or --data to find it, got neither\n",
    )


def test_refine(capsys, folder):
    out, _ = made(capsys, folder)
    words = "search", out, folder / "query.fbin", "-k", 5, "--device", "cpu", "--json"
    more = "--n-probes", 16, "--refine", folder / "base.fvecs", "--k-factor", 40
    truth = gpuann.brute_force.search(gpuann.brute_force.build(ROWS, device="cpu"), QUERIES, 5)[1]
    assert json.loads(run(capsys, *words, *more)[1])["neighbors"] == truth.tolist()


def test_an_index_with_its_rows(capsys, folder):
    out, said = made(capsys, folder, "IVF16,PQ8x6,RFlat")
    assert said["index"].startswith("refined.Index(ivf_pq.Index(1,500 rows")
    words = "search", out, folder / "query.fbin", "-k", 5, "--device", "cpu", "--json"
    truth = gpuann.brute_force.search(gpuann.brute_force.build(ROWS, device="cpu"), QUERIES, 5)[1]
    more = "--n-probes", 16, "--k-factor", 40
    assert json.loads(run(capsys, *words, *more)[1])["neighbors"] == truth.tolist()
    info = json.loads(run(capsys, "info", out, "--json")[1])
    assert (info["kind"], info["rows"], info["n_lists"]) == ("refined", 1500, 16)
    words = "eval", out, folder / "query.fbin", "--n-probes", 16, "--device", "cpu", "--json"
    points = json.loads(run(capsys, *words, "--data", folder / "base.fvecs")[1])["points"]
    assert points[0]["recall"] > 0.9  # measured 0.977


def test_convert(capsys, folder):
    for name in ("x.npy", "x.fbin", "x.parquet", "x.hdf5", "y.fvecs"):
        assert run(capsys, "convert", folder / "base.fvecs", folder / name)[0] == 0
        found = io.open_vectors(folder / name)
        assert_same(found.whole() if isinstance(found, io.Chunks) else np.asarray(found), ROWS)
    bits = "convert", folder / "base.fvecs", folder / "z.fbin", "--header-bits", 64
    assert run(capsys, *bits)[0] == 0
    assert (folder / "z.fbin").stat().st_size == 16 + ROWS.nbytes
    pytest.importorskip("faiss")
    out, _ = made(capsys, folder, "IVF16,Flat")
    assert run(capsys, "convert", out, folder / "x.faiss")[0] == 0
    assert run(capsys, "convert", folder / "x.faiss", folder / "y.ann")[0] == 0
    assert len(gpuann.load(folder / "y.ann", device="cpu")) == 1500


WRONG = {
    "no file": (["info", "{}/none.ann"], "must be there, got no such file"),
    "format": (["build", "{}/base.txt", "{}/x"], "must end with one of .npy"),
    "index": (["build", "{}/base.fvecs", "{}/x", "--index", "IVF16,PQ"], "nearest is PQ16"),
    "metric": (["build", "{}/base.fvecs", "{}/x", "--metric", "l3"], "metric must be one of"),
    "not ours": (["info", "{}/query.txt"], "must be there"),
    "damaged": (["search", "{}/bad.ann", "{}/query.fbin"], "damaged"),
    "no folder": (["build", "{}/base.fvecs", "{}/none/x"], "none must be a folder, got none of"),
    "a folder": (["build", "{}/base.fvecs", "{}"], "must be the name of a file, got a folder"),
    "no folder for ids": (
        ["search", "{}/bad.ann", "{}/query.fbin", "--ids", "{}/none/x.ivecs"],
        "none must be a folder, got none of that name",
    ),
    "ids as floats": (
        ["search", "{}/bad.ann", "{}/query.fbin", "--ids", "{}/x.fbin"],
        "rows must be float32 for .fbin, got int64",
    ),
    "distances as bytes": (
        ["search", "{}/bad.ann", "{}/query.fbin", "--distances", "{}/x.u8bin"],
        "rows must be uint8 for .u8bin, got float32",
    ),
    "no folder for faiss": (
        ["convert", "{}/bad.ann", "{}/none/y.faiss"],
        "none must be a folder, got none of that name",
    ),
    "suffixes": (["convert", "{}/bad.ann", "{}/y.ann"], "must end with .faiss, or one of"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line(capsys, folder, name):
    """Where it cannot be written, that is said before the work: not after a build."""
    (folder / "bad.ann").write_bytes(b"hello, hello, hello")
    words, text = WRONG[name]
    code, out, error = run(capsys, *(word.replace("{}", str(folder)) for word in words))
    assert code == 2
    assert out == ""
    assert error.startswith("gpuann: ")
    assert error.count("\n") == 1
    assert text in error


def test_usage(capsys):
    probes = ["eval", "a", "b", "--n-probes", "1,few"]
    for words in ([], ["fly"], ["build", "x"], ["search", "a", "b", "-k", "few"], probes):
        with pytest.raises(SystemExit) as stopped:
            cli.main(words)
        assert stopped.value.code == 2
    assert "--n-probes: must be numbers, as 1,4,16, got '1,few'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0
    assert gpuann.__version__ in capsys.readouterr().out


def test_help_has_the_defaults(capsys):
    wanted = {
        "build": [
            "(default: IVF1024,Flat)",
            "(default: sqeuclidean)",
            "(default: 20)",
            "default: 0",
        ],
        "search": ["of each (default: 10)", "visits (default: 20)", "(default: 4)"],
        "eval": ["(default: 10)", "(default: 1,4,16,64)", "CUDA if there is one"],
        "convert": ["32 or 64 (default: 32)"],
    }
    for command, words in wanted.items():
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        said = " ".join(capsys.readouterr().out.split())
        assert [word for word in words if word not in said] == []
        assert "None" not in said
        assert "default: False" not in said


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGPIPE")
def test_a_reader_that_has_gone(folder, capsys):
    """`gpuann search ... | head -1` ends quietly, as other programs do."""
    out, _ = made(capsys, folder, "IVF4,Flat")
    words = "search", str(out), str(folder / "query.fbin"), "-k", "1500", "--device", "cpu"
    code = "import sys; from gpuann import cli; cli.demo.run = print; sys.exit(cli.main())"
    for command in (words, ("demo", "king")):
        with subprocess.Popen(
            [sys.executable, "-c", code, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as child:
            child.stdout.close()
            error = child.stderr.read()
        assert (child.returncode, error) == (141, b"")


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT")
def test_an_interrupt_leaves_no_half_file(folder):
    rows = np.random.default_rng(0).random((60_000, 64)).astype(np.float32)
    io.write_vectors(folder / "more.npy", rows)
    code = "import sys; from gpuann.cli import main; print('on', flush=True); sys.exit(main())"
    words = "build", folder / "more.npy", folder / "x.ann", "--device", "cpu"
    command = [sys.executable, "-c", code, *words, "--index", "IVF256,Flat"]
    before = set(folder.iterdir())
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as child:
        assert child.stdout.readline() == "on\n"
        time.sleep(0.1)
        child.send_signal(signal.SIGINT)
        error = child.stderr.read()
    assert child.returncode == 130
    assert error.endswith("gpuann: interrupted\n")
    assert set(folder.iterdir()) == before


def test_files_of_faiss_that_are_none(capsys, folder):
    pytest.importorskip("faiss")
    (folder / "bad.faiss").write_bytes(b"hello, hello")
    for name, words in (("bad", "must be a whole file of FAISS"), ("none", "must be there")):
        code, _, error = run(capsys, "convert", folder / f"{name}.faiss", folder / "x.ann")
        assert code == 2
        assert error.count("\n") == 1
        assert words in error


def test_names_in_capitals_and_names_that_mean_vectors(capsys, folder):
    out, _ = made(capsys, folder, "IVF4,Flat")
    index = gpuann.brute_force.build(ROWS, device="cpu")
    truth = gpuann.brute_force.search(index, QUERIES, 10)[1]
    io.write_vectors(folder / "T.HDF5", ROWS[:30, :10])
    io.write_vectors(folder / "T.HDF5", truth, column="neighbors")
    words = "eval", out, folder / "query.fbin", "--n-probes", 4, "--device", "cpu", "--json"
    points = json.loads(run(capsys, *words, "--truth", folder / "T.HDF5")[1])["points"]
    assert points[0]["recall"] == 1.0
    code, _, error = run(capsys, "build", folder / "base.fvecs", folder / "x.npy")
    assert code == 2
    assert "must not end as a file of vectors" in error


PLAN = "plan --rows 1.2e9 --dim 512 --index OPQ64,IVF65536,PQ64 --n-probes 64 --shards 16"
PLAN += " --replicas 3 --memory 80GiB --rows-per-second 1e7 --centers-per-second 1e7"
PLAN += " --service-cv 0.15 --stall-share 0.01 --stall-ms 120 --hedge-after p95"


def test_plan(capsys):
    """What the README says of it, and the same as JSON."""
    code, text, _ = run(capsys, *PLAN.split())
    assert code == 0
    readme = (Path(gpuann.__file__).parents[1] / "README.md").read_text()
    said = readme.partition("## Planning")[2].partition("\n## ")[0]
    assert f"gpuann {PLAN}" in " ".join(said.replace("\\\n", " ").split())
    shown = [line for line in text.splitlines() if line.startswith(("bytes of", "without", "hedg"))]
    assert len(shown) == 3
    for line in shown:
        assert line in said
    found = json.loads(run(capsys, *PLAN.split(), "--json")[1])
    assert found["sizes"]["codes"] == 64 * 75_000_000
    assert found["work"]["centers"] == 65536
    assert found["hedged"]["hedge_ms"] > found["call_ms"]
    assert {one["source"] for one in found["assumptions"]} >= {"stated", "argument"}


def test_a_billion_rows_of_768_as_the_readme_has_them(capsys):
    readme = (Path(gpuann.__file__).parents[1] / "README.md").read_text()
    said = readme.partition("## Planning")[2].partition("\n## ")[0]
    command = " ".join(said.replace("\\\n", " ").split()).partition("gpuann plan --rows 1e9 ")[2]
    command = command.partition(" ```")[0]
    code, text, _ = run(capsys, "plan", "--rows", "1e9", *command.split())
    assert code == 0
    for line in text.splitlines()[1:4]:
        assert line in said


def test_plan_takes_what_eval_says_as_its_curve(capsys, folder):
    out, _ = made(capsys, folder, "IVF16,Flat")
    words = "eval", out, folder / "query.fbin", "--data", folder / "base.fvecs", "--device", "cpu"
    text = run(capsys, *words, "--n-probes", "1,4,16", "--json")[1]
    (folder / "curve.json").write_text(text)
    words = [
        "plan",
        "--rows",
        "1e6",
        "--dim",
        "16",
        "--index",
        "IVF1000,Flat",
        "--rows-per-second",
        "1e7",
    ]
    words += ["--centers-per-second", "1e7", "--curve", folder / "curve.json", "--json"]
    best = max(point["recall"] for point in json.loads(text)["points"])
    found = json.loads(run(capsys, *words, "--recall", best)[1])
    assert found["n_probes"] in (1, 4, 16)
    code, _, error = run(capsys, *words[:-3], "--recall", 0.9)
    assert (code, error[:42]) == (2, "gpuann: planning.plan: curve must be given")
    (folder / "curve.json").write_text("[]")
    code, _, error = run(capsys, *words, "--recall", 0.5)
    assert code == 2
    assert "must be what `gpuann eval --json` says" in error


@pytest.mark.parametrize(
    ("text", "n"),
    [("80GiB", 80 << 30), ("80GB", 80 * 10**9), ("1.5 Ki", 1536), ("7", 7), ("9B", 9)],
)
def test_sizes_of_memory(text, n):
    assert cli_plan.size(text) == n


@pytest.mark.parametrize("text", ["", "80 pounds", "-1GB", "4i", "4iB"])
def test_no_sizes(text):
    with pytest.raises(argparse.ArgumentTypeError):
        cli_plan.size(text)
