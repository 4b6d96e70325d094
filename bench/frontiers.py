"""Results as a table, a picture and a page.

    python -m bench report bench/results/frontier_*.json [--out FOLDER]

Prints the Markdown table; with --out also frontier.svg and .png (of the first set and largest
batch, needs matplotlib) and frontier.html, which is one file that loads nothing from elsewhere.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from bench import measures


def read(files: list[Path]) -> list[dict[str, Any]]:
    """Results as `bench run` wrote them; FAISS' list by list script is a kind of its own."""
    results = [json.loads(file.read_text()) for file in files]
    for point in (p for found in results for p in found["points"]):
        if "by" in point["search"]:
            point["kind"] += f", {point['search']['by']} by {point['search']['by']}"
    return results


def groups(found: dict[str, Any]) -> dict[tuple[str, int, int], list[dict[str, Any]]]:
    """Points of one result by data set, k and batch."""
    made: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
    for p in found["points"]:
        made.setdefault((p["data"], p["k"], p["batch"]), []).append(p)
    return made


def best(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Of each library's kinds the fastest curve at each recall; qps None where not attained."""
    rows = []
    for (data, k, batch), points in groups(found).items():
        for peer, kind in dict.fromkeys((p["peer"], p["kind"]) for p in points):
            own = [p for p in points if (p["peer"], p["kind"]) == (peer, kind)]
            for wanted in measures.RECALLS:
                fastest = measures.best(own, wanted)
                rate = fastest[0] if fastest else None
                row = {"data": data, "k": k, "batch": batch, "peer": peer, "kind": kind}
                rows.append(row | {"recall": wanted, "qps": rate})
    return rows


def table(found: dict[str, Any]) -> str:
    """Queries/s at the recalls, then at the same parameters; then the builds."""
    lines = [about(found), "", *rates(found)]
    lines += alike(found)
    heads = ("build", "parameters", "seconds", "of them training", "index MB", "peak MB")
    lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for b in found["builds"]:
        said = ", ".join(f"{k} {v}" for k, v in b["build"].items()) or "none"
        if "error" in b:
            cells = f"failed: {b['error']} | | | "
        else:
            training = f"{b['stages']['training']:.1f}" if b.get("stages") else ""
            megabytes = f"{b['bytes'] / 1e6:,.0f} | {b['peak_bytes'] / 1e6:,.0f}"
            cells = f"{b['seconds']:.1f} | {training} | {megabytes}"
        lines.append(f"| {b['data']}: {b['peer']} {b['kind']} | {said} | {cells} |")
    noisy = sum(p["noisy"] for p in found["points"])
    alone = sum(len(p["turns"]) == 1 for p in found["points"])
    said = f"{noisy} of {len(found['points'])} points are marked as noisy; {alone} are of one turn"
    lines += ["", f"{said}, in which spread cannot be seen.", missing(found)]
    return "\n".join([*lines, "", f"Made by `{found['command']}`."])


def rates(found: dict[str, Any], largest: bool = False) -> list[str]:
    """Lines of tables of queries/s at the recalls, of every batch or of the largest: one row for
    each library's kind of index, in brackets how many times as fast the fastest of ours is; and how
    many settings were timed (few: the run was stopped).
    """
    lines = []
    rows = best(found)
    most = max(p["batch"] for p in found["points"])
    for (data, k, batch), points in groups(found).items():
        if largest and batch < most:
            continue
        here = [r for r in rows if (r["data"], r["k"], r["batch"]) == (data, k, batch)]
        heads = " | ".join(f"{r:.2f}" for r in measures.RECALLS)
        lines += [f"| {data}, batch {batch:,}: queries/s at recall@{k} | {heads} | timed |"]
        lines += ["|---|" + "---|" * (len(measures.RECALLS) + 1)]
        ours = {
            wanted: max(
                (r["qps"] or 0 for r in here if r["recall"] == wanted and _is_ours(r)), default=0
            )
            for wanted in measures.RECALLS
        }
        for peer, kind in dict.fromkeys((r["peer"], r["kind"]) for r in here):
            own = [r for r in here if (r["peer"], r["kind"]) == (peer, kind)]
            cells = " | ".join(_cell(r, ours[r["recall"]]) for r in own)
            timed = sum((p["peer"], p["kind"]) == (peer, kind) for p in points)
            lines.append(f"| {peer} {kind} | {cells} | {timed} |")
        lines.append("")
    return lines


def _is_ours(row: dict[str, Any]) -> bool:
    return bool(row["peer"] == "gpuann")


def _cell(row: dict[str, Any], ours: float) -> str:
    if row["qps"] is None:
        return "not attained"
    said = f"{row['qps']:,.0f}"
    return said if _is_ours(row) or not ours else f"{said} ({ours / row['qps']:.1f}x)"


def alike(found: dict[str, Any]) -> list[str]:
    """Lines of a table of libraries with the same lists, probes and candidates: of each kind the
    setting at which the lowest recall of them is nearest to 0.95.
    """
    lines = []
    for (data, k, batch), points in groups(found).items():
        some: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
        for p in points:
            if (setting := measures.setting_of(p)) is not None:
                own = some.setdefault(setting, {})  # of two ways of one library the faster
                own[p["peer"]] = max(own.get(p["peer"], p), p, key=lambda q: q["qps"])
        chosen: dict[str, tuple[float, tuple[Any, ...]]] = {}
        for setting, own in some.items():
            if len(own) > 1:
                off = abs(min(p["recall"] for p in own.values()) - 0.95)
                chosen[setting[0]] = min(chosen.get(setting[0], (off, setting)), (off, setting))
        if not chosen:
            continue
        title = f"{data}, batch {batch:,}: the same parameters"
        lines += [f"| {title} | library | recall@{k} | queries/s |", "|---|---|---|---|"]
        for _, setting in chosen.values():
            kind, n_lists, n_probes, factor = setting
            said = f"{kind}, {n_lists} lists, {n_probes} probes"
            said += f", {factor} k candidates" * (factor > 1)
            lines += [
                f"| {said} | {peer} | {p['recall']:.3f} | {p['qps']:,.0f} |"
                for peer, p in some[setting].items()
            ]
        lines.append("")
    return lines


def about(found: dict[str, Any]) -> str:
    """Date, machine, threads, versions."""
    m = found["machine"]
    versions = ", ".join(
        f"{name} {p['version']} ({blas(p)})" for name, p in found["peers"].items() if "version" in p
    )
    said = f"{m['date']}, {m['cores']} cores of {m['cpu']}, {found['threads']} threads each"
    return f"{said}, commit {m['commit']}. {versions}."


def blas(peer: dict[str, Any]) -> str:
    """The BLAS of a library's process with the kernels that it runs."""
    used = [b for b in peer["blas"] if b["user_api"] == "blas"]
    said = [f"{b['internal_api']} {b['version']} {b.get('architecture', '')}" for b in used]
    return ", ".join(x.strip() for x in dict.fromkeys(said)) or "no BLAS"


def missing(found: dict[str, Any]) -> str:
    """The peers that were left out, with the reason."""
    left = [f"{n} ({p['missing']})" for n, p in found["peers"].items() if "missing" in p]
    return f"Left out: {'; '.join(left)}." if left else "No peer was left out."


def page(results: list[dict[str, Any]]) -> str:
    """One HTML file with the data in it."""
    shown: dict[str, Any] = {
        "points": [p for r in results for p in r["points"]],
        "builds": [b for r in results for b in r["builds"] if "error" not in b],
        "best": [b for r in results for b in best(r)],
        "recalls": measures.RECALLS,
        "about": " / ".join(dict.fromkeys(about(r) for r in results)),
        "missing": " / ".join(dict.fromkeys(missing(r) for r in results)),
    }
    # a script ends at "</", wherever that stands
    text = json.dumps(shown).replace("</", "<\\/")
    return (Path(__file__).parent / "page.html").read_text().replace("/*DATA*/", text)


def draw(found: dict[str, Any], place: Path) -> None:
    """Frontier of the first data set at its largest batch, to a file by its suffix."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    made = groups(found)
    data, k, batch = max(made, key=lambda g: (g[0] == next(iter(made))[0], g[2]))
    figure, axes = plt.subplots(figsize=(8, 5))
    for peer, kind in dict.fromkeys((p["peer"], p["kind"]) for p in made[data, k, batch]):
        own = [p for p in made[data, k, batch] if (p["peer"], p["kind"]) == (peer, kind)]
        front, line = 0.0, []
        for p in sorted(own, key=lambda p: -p["recall"]):
            if p["qps"] > front:
                front = p["qps"]
                line.append((p["recall"], p["qps"]))
        style = "-o" if peer == "gpuann" else "--s"
        axes.plot(*zip(*line, strict=True), style, ms=4, label=f"{peer} {kind}")
    axes.set(yscale="log", xlabel=f"recall@{k}", ylabel="queries/s")
    axes.set_title(f"{data}, batch {batch:,}, {found['threads']} threads")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(place, dpi=120)
    plt.close(figure)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench report", description=__doc__)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, help="a folder for picture and page")
    asked = parser.parse_args(arguments)
    results = read(asked.files)
    print("\n\n".join(table(r) for r in results))
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / "frontier.html").write_text(page(results))
        for suffix in ("svg", "png"):
            draw(results[0], asked.out / f"frontier.{suffix}")
