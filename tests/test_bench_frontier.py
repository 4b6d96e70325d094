"""The bench of libraries side by side: measures by hand, data, and a small frontier for real."""

import gzip
import http.server
import importlib.util
import json
import sys
import threading
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from bench import (
    compare,
    datasets,
    download,
    frontiers,
    gpu_check,
    measures,
    peers,
    run,
    stages,
    truth,
)
from gpuann.errors import BackendError

POINT = {"data": "d", "peer": "a", "kind": "x", "build": {}, "k": 10, "batch": 1, "noisy": False}


def point(probes, recall, qps, **more):
    return {**POINT, "search": {"p": probes}, "recall": recall, "qps": qps, "turns": [qps], **more}


def test_recall_counts_each_neighbour_once():
    truth_ids = np.array([[1, 2, 3], [4, 5, 6]])
    assert measures.recall(np.array([[3, 2, 1], [6, 5, 4]]), truth_ids) == 1
    assert measures.recall(np.array([[1, 1, 1], [9, 8, 7]]), truth_ids) == pytest.approx(1 / 6)
    assert measures.recall(np.array([[-1, -1, -1], [4, -1, -1]]), truth_ids) == pytest.approx(1 / 6)
    assert measures.recall(np.full((1, 2), -1), np.array([[0, -1]])) == 0


def test_recall_by_distance_accepts_ties_only():
    rows = np.array([[0.0], [1.0], [-1.0], [2.0]], np.float32)
    query, true = np.zeros((1, 1), np.float32), np.array([[0, 1]])
    for ids, want in (([0, 1], 1), ([0, 2], 1), ([0, 3], 0.5), ([0, 0], 0.5), ([-1, -1], 0)):
        assert measures.recall_by_distance(np.array([ids]), rows, query, true) == want
    assert measures.recall(np.array([[0, 2]]), true) == 0.5


def test_a_frontier_never_credits_recall_that_was_not_attained():
    curve = [(0.8, 1000.0), (0.94, 100.0)]
    assert measures.at_recall(curve, 0.95) is None
    assert measures.at_recall(curve, 0.94) == 100
    assert measures.at_recall(curve, 0.87) == pytest.approx(1000**0.5 * 100**0.5)
    assert measures.at_recall(curve, 0.5) == 1000, "more recall than asked is attained"
    slow = [(0.8, 50.0), (0.94, 100.0)]
    assert measures.at_recall(slow, 0.87) == 100, "a slower point with less recall is no help"


def test_curves_are_not_joined_across_other_parameters():
    points = [point(1, 0.8, 1000.0), point(2, 0.9, 10.0) | {"build": {"n": 2}}]
    assert measures.best(points, 0.85)[0] == 10
    assert measures.best(points, 0.95) is None


def test_the_same_parameters_under_other_names():
    ours = point(0, 0.9, 1.0) | {"kind": "IVF-SQ+refine", "build": {"n_lists": 64}}
    ours["search"] = {"n_probes": 8, "k_factor": 2}
    theirs = point(0, 0.9, 1.0) | {"kind": "IVF-SQ8+refine", "peer": "faiss"}
    theirs |= {"build": {"factory": "IVF64,SQ8,RFlat"}, "search": {"nprobe": 8, "k_factor": 2}}
    assert measures.setting_of(ours) == measures.setting_of(theirs) == ("IVF-SQ+refine", 64, 8, 2)
    assert measures.setting_of(point(1, 0.9, 1.0)) is None, "no lists"
    near = [ours | {"search": {"n_probes": p, "k_factor": 2}, "recall": r} for p, r in
            ((8, 0.8), (16, 0.94), (32, 0.99))]  # fmt: skip
    far = [theirs | {"search": {"nprobe": p, "k_factor": 2}, "recall": 0.99} for p in (8, 16, 64)]
    lines = frontiers.alike({"points": near + far})
    assert lines[2:4] == [
        "| IVF-SQ+refine, 64 lists, 16 probes, 2 k candidates | a | 0.940 | 1 |",
        "| IVF-SQ+refine, 64 lists, 16 probes, 2 k candidates | faiss | 0.990 | 1 |",
    ]
    assert frontiers.alike({"points": near}) == []


def test_of_two_ways_of_a_library_the_faster_counts():
    ours = point(0, 0.9, 9.0) | {"peer": "gpuann", "build": {"n_lists": 64}}
    theirs = point(0, 0.9, 5.0) | {"peer": "faiss", "build": {"factory": "IVF64,Flat"}}
    plain, by_list = {"nprobe": 8}, {"nprobe": 8, "by": "list"}
    ways = [theirs | {"search": plain}, theirs | {"search": by_list, "qps": 7.0}]
    for two in (ways, ways[::-1]):
        lines = frontiers.alike({"points": [ours | {"search": {"n_probes": 8}}, *two]})
        assert lines[3] == "| x, 64 lists, 8 probes | faiss | 0.900 | 7 |"


def test_what_disturbs_a_part_of_a_turn_meets_all_libraries():
    many = [point(i, 0.9, 1.0) for i in range(6)]
    few = [point(i, 0.9, 1.0) | {"peer": "b"} for i in range(2)]
    order = run.spread_over_turn(many + few, 0)
    assert [p["peer"] for p in order] == ["a", "a", "b", "a", "a", "a", "b", "a"]
    assert [p["search"]["p"] for p in order if p["peer"] == "a"] == list(range(6))
    assert run.spread_over_turn(many + few, 1) == order[::-1]


def test_stages_of_a_build():
    stages.take()
    assert stages.staged("training", divmod)(7, 2) == (3, 1)
    with stages.stage("training"), stages.stage("other"):
        pass
    assert set(stages.take()) == {"training", "other"}
    assert stages.take() == {}


def test_percentiles():
    assert measures.percentiles([float(x) for x in range(101)]) == {"p50": 50, "p95": 95, "p99": 99}


def test_a_manifold_has_the_same_rows_whatever_is_asked_for():
    n = datasets.CHUNK + 100
    rows, queries = datasets.manifold(n, 8, 50)
    again, _ = datasets.manifold(1000, 8, 50)
    assert (rows[:1000] == again).all()
    assert rows.shape == (n, 8)
    assert queries.shape == (50, 8)
    assert not (rows[:50] == queries).any()
    parts = list(datasets.manifold_chunks(n, 8))
    assert (np.concatenate(parts) == rows).all()


def test_images_in_idx_format(tmp_path):
    shape = np.array([3, 28, 28], ">u4").tobytes()
    pixels = np.arange(3 * 784) % 256
    content = bytes([0, 0, 8, 3]) + shape + pixels.astype(np.uint8).tobytes()
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(content))
    data = datasets.fashion_mnist(tmp_path)
    assert (data.rows == pixels.reshape(3, 784)).all()
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(content[:-1]))
    with pytest.raises(ValueError, match="must be bytes in idx format"):
        datasets.fashion_mnist(tmp_path)
    with pytest.raises(ValueError, match="apt-get install dataset-fashion-mnist"):
        datasets.fashion_mnist(tmp_path / "none")


def test_files_of_others(tmp_path):
    from gpuann.io import write_vectors

    rows = np.random.default_rng(0).random((20, 4), np.float32)
    for name, suffix in (
        ("base", "fbin"),
        ("query", "fbin"),
        ("s_base", "fvecs"),
        ("s_query", "fvecs"),
    ):
        write_vectors(tmp_path / f"{name}.{suffix}", rows)
    for name in (tmp_path, tmp_path / "s_base.fvecs"):
        found = datasets.get(str(name), tmp_path)
        assert (found.rows == rows).all()
        assert (found.queries == rows).all()
    with pytest.raises(ValueError, match="be a file, a folder or one of"):
        datasets.get("no-such-set", tmp_path)
    with pytest.raises(ValueError, match="ROWSxDIM"):
        datasets.get("clustered:many", tmp_path)


def test_number_of_queries(tmp_path):
    """More of them than one piece of the manifold holds."""
    found = datasets.get("manifold:50x3x70000", tmp_path)
    assert found.rows.shape == (50, 3)
    assert found.queries.shape == (70_000, 3)
    fewer = datasets.get("manifold:50x3", tmp_path)
    assert (fewer.rows == found.rows).all()
    assert (fewer.queries == found.queries[:10_000]).all()
    assert len(np.unique(found.queries, axis=0)) == 70_000
    assert len(datasets.get("clustered:50x3x7", tmp_path).queries) == 7


class Server(http.server.BaseHTTPRequestHandler):
    content = bytes(range(256)) * 100
    ranges: ClassVar[list] = []

    def do_GET(self):
        asked = self.headers.get("Range")
        self.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.end_headers()
        self.wfile.write(self.content[start:])

    def log_message(self, *_):
        pass


def test_a_download_goes_on_where_it_stopped_and_is_checked(tmp_path):
    server = http.server.HTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        (tmp_path / "x.hdf5.part").write_bytes(Server.content[:1000])
        url = f"http://127.0.0.1:{server.server_port}/x.hdf5"
        place = download.download(url, tmp_path)
        assert place.read_bytes() == Server.content
        assert download.download(url, tmp_path) == place
        assert Server.ranges == ["bytes=1000-"], "asked once, for the rest"
        place.write_bytes(b"other")
        with pytest.raises(BackendError, match="must have SHA-256"):
            download.download(url, tmp_path)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_wrong_ground_truth_is_refused():
    data = datasets.Data("d", *datasets.manifold(500, 8, 20))
    right = np.argsort(((data.rows[None] - data.queries[:, None]) ** 2).sum(2), axis=1)[:, :5]
    assert truth.spot_check(data, right) == {"checked_queries": 20}
    with pytest.raises(ValueError, match="ground truth must have the distances"):
        truth.spot_check(data, np.roll(right, 1, axis=0))


def test_what_changed_beyond_noise():
    before = {"points": [point(1, 0.9, 100.0), point(2, 0.9, 100.0), point(3, 0.9, 100.0)]}
    before["points"] += [point(4, 0.9, 100.0), point(5, 0.9, 100.0)]
    after = {"points": [point(1, 0.9, 200.0), point(2, 0.9, 50.0), point(3, 0.9, 105.0)]}
    after["points"] += [point(4, 0.8, 300.0, noisy=True), point(6, 0.9, 100.0)]
    found = compare.changes(before, after)
    assert {k: len(v) for k, v in found.items()} == {
        "faster": 1, "slower": 1, "noisy": 1, "recall": 1, "gone": 1, "new": 1,
    }  # fmt: skip
    assert "2.00x" in found["faster"][0]


def test_stages_of_a_gpu_check(tmp_path, capsys):
    python = sys.executable
    fake = [
        gpu_check.Stage("good", [python, "-c", "print('done')"]),
        gpu_check.Stage("bad", [python, "-c", "raise SystemExit(3)"]),
        gpu_check.Stage(
            "slow", [python, "-c", "import time; print(1, flush=True); time.sleep(60)"]
        ),
        gpu_check.Stage("none", ["no-such-program"], "no-such-program"),
    ]
    assert not gpu_check.check(fake, tmp_path, limit=3)
    found = json.loads((tmp_path / "stages.json").read_text())
    verdicts = {name: stage["verdict"] for name, stage in found.items()}
    assert verdicts == {"good": "passed", "bad": "failed", "slow": "stopped", "none": "missing"}
    assert (tmp_path / "slow.log").read_text() == "1\n", "what came before the stop is kept"
    assert gpu_check.check(fake[:1], tmp_path)
    assert "good: passed before" in capsys.readouterr().out
    gpu_check.main(["--out", str(tmp_path), "--dry-run"])
    printed = capsys.readouterr().out
    assert [line.partition(":")[0] for line in printed.splitlines()] == [
        "tests", "golden", "ops", "frontier", "sanitizer",
    ]  # fmt: skip


def test_a_gpu_check_without_a_gpu_says_why(tmp_path, monkeypatch):
    from gpuann.cuda import devices

    monkeypatch.setattr(devices, "why_not", lambda: "no driver")
    with pytest.raises(SystemExit, match="a GPU must be there, but: no driver"):
        gpu_check.main(["--out", str(tmp_path)])


def test_a_peer_that_is_not_there_is_named():
    assert "CUDA device" in peers.missing("cuvs", has_gpu=False)
    assert peers.missing("gpuann", has_gpu=False) is None
    with pytest.raises(ValueError, match="--peers must be of gpuann"):
        run.main(["--data", "words", "--peers", "nobody", "-o", "x"])


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """gpuann and faiss on 3,000 rows, each in its process, with cuVS left out."""
    folder = tmp_path_factory.mktemp("frontier")
    out = folder / "found.json"
    names = ["gpuann", "cuvs", *(["faiss"] if importlib.util.find_spec("faiss") else [])]
    line = f"--data clustered:3000x16 --batch 1,1000 --turns 1 --grid small --threads 1 -o {out}"
    line += " --kinds Flat,IVF-Flat,IVF-SQ,IVF-SQ8,HNSW"
    run.main([*line.split(), "--peers", ",".join(names), "--cache", str(folder)])
    return json.loads(out.read_text())


def test_a_small_frontier_has_the_recall_that_it_must_have(small, capfd):
    """Never fails on a time; the figures are in the log."""
    with capfd.disabled():
        print("\n" + frontiers.table(small))
    assert "errors" not in small
    assert "CUDA device" in small["peers"]["cuvs"]["missing"]
    best = {(p["peer"], p["kind"]): 0.0 for p in small["points"]}
    for p in small["points"]:
        best[p["peer"], p["kind"]] = max(best[p["peer"], p["kind"]], p["recall"])
        assert p["recall_by_distance"] >= p["recall"] - 0.02
    # measured less 0.02: a quarter of the lists is what the grid ends with
    least = {"Flat": 1.0, "IVF-Flat": 0.943, "IVF-SQ": 0.932, "IVF-SQ+refine": 0.943}
    least |= {"IVF-SQ8": 0.936, "IVF-SQ8+refine": 0.944, "HNSW": 0.978}
    for (_, kind), recall in best.items():
        assert recall >= least[kind], best
    ours = [b for b in small["builds"] if b["peer"] == "gpuann"]
    assert all(b["bytes"] > 0 for b in ours)
    for b in small["builds"]:
        if b["kind"].startswith("IVF"):
            assert 0 < b["stages"]["training"] < b["seconds"]


def test_rates_say_how_many_times_as_fast_ours_is():
    points = [
        point(1, 0.96, 600.0) | {"peer": "gpuann", "kind": "x"},
        point(1, 0.96, 900.0) | {"peer": "gpuann", "kind": "y"},
        point(1, 0.96, 300.0),
        point(2, 0.99, 100.0),
    ]
    assert frontiers.rates({"points": points})[2:5] == [
        "| gpuann x | 600 | 600 | not attained | 1 |",
        "| gpuann y | 900 | 900 | not attained | 1 |",
        "| a x | 300 (3.0x) | 300 (3.0x) | 100 | 2 |",
    ]


def test_reports_of_a_frontier(small, tmp_path):
    text = frontiers.table(small)
    assert "gpuann IVF-Flat" in text
    assert "the same parameters" in text
    assert "cuvs (needs a CUDA device" in text
    html = frontiers.page([small])
    assert "/*DATA*/" not in html
    assert "http://www.w3.org/2000/svg" in html
    assert "src=" not in html, "nothing is loaded from elsewhere"
    shown = html.split('type="application/json">')[1].split("</script>")[0]
    assert len(json.loads(shown)["points"]) == len(small["points"])
    frontiers.draw(small, tmp_path / "f.svg")
    assert (tmp_path / "f.svg").stat().st_size > 1000


def test_the_page_of_the_bench_has_the_committed_figures():
    folder = Path(run.__file__).parent
    text = (folder / "README.md").read_text()
    files = sorted((folder / "results").glob("frontier_*.json"))
    assert files
    readme = (folder.parent / "README.md").read_text()
    for found in frontiers.read(files):
        assert frontiers.table(found) in text
        for lines in ([frontiers.about(found)], frontiers.rates(found, largest=True)):
            assert "\n".join(lines) in readme
