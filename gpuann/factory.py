"""Indexes from a line of text, as FAISS writes them.

index_factory(96, "IVF1024,PQ48x8,RFlat").build(rows)

[OPQ16,] [IVF1024,] Flat | SQ8 | PQ16 | PQ16x6 [,RFlat]
OPQ16, RR       a rotation before PQ, learnt or drawn; the number is that of PQ
IVF1024         inverted lists; without it there is one list, which holds all rows
RFlat           the rows are kept, and the best results compared with them: `gpuann.refined`
"""

import difflib
import re
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from gpuann import arrays, brute_force, ivf_flat, ivf_pq, ivf_sq, metric, refined, validate
from gpuann._nvtx import annotate
from gpuann.errors import bad_type, bad_value
from gpuann.params import IvfIndexParams

_PIECES = {
    "rotation": re.compile(r"OPQ(\d+)|RR"),
    "lists": re.compile(r"IVF(\d+)"),
    "codec": re.compile(r"Flat|SQ8|PQ(\d+)(?:x(\d+))?"),
    "refine": re.compile(r"RFlat|Refine\(Flat\)"),
}
# what faiss.index_factory has and this has not, and what to do instead
_ELSEWHERE = (
    (r"IDMap2?", "every index has ids of its own: extend(index, rows, ids)"),
    (r"L2[Nn]orm", 'build with metric="cosine", and rows need not be normalised'),
    (r"HNSW.*|NSG.*|NNDescent.*|.*_HNSW.*|.*_NSG.*", "there are no graphs: use IVF and a number"),
    (r"PCA.*|ITQ.*|Pad.*", "rows keep their components: OPQ and a number turns them before PQ"),
    (r"RR\d+|OPQ\d+_\d+", "a rotation keeps all components: RR, or OPQ and the number of PQ"),
    (r"Residual.*|RCQ.*|R?RQ.*|LSQ.*|PRQ.*|PLSQ.*", "one quantiser of residuals: PQ and a number"),
    (r"RaBitQ.*|LSH.*|ZnLattice.*|Lattice.*|Zn.*", "use PQ and a number, 4 to 8 bits a code"),
    (r"SQ(4|6|fp16|bf16|8_.*)|SQ8bit.*", "use SQ8, or Flat with rows of float16"),
    (r"PQ\d+x?\d*fsr?.*", "use PQ and a number, x4 for the same codes: there is no fast-scan"),
    (r"PQ.*\+.*|PQ\d+np", "use PQ and a number, with RFlat at the end for exact distances"),
    (r"IMI.*|IVF.*\(.*\)", "use IVF and a number: centres are compared exactly"),
    (r"Refine\(.*\)", "use RFlat: rows are kept as they are"),
)
_EXAMPLES = {
    "rotation": ["OPQ#", "RR"],
    "lists": ["IVF#"],
    "codec": ["Flat", "SQ8", "PQ#", "PQ#x#"],
    "refine": ["RFlat", "Refine(Flat)"],
}


@dataclass(frozen=True)
class Factory:
    """What a line of text asks for: `str` gives the line back."""

    dim: int
    text: str
    kind: str
    """The public module: "brute_force", "ivf_flat", "ivf_pq" or "ivf_sq"."""
    metric: str
    index_params: IvfIndexParams | None
    """None for brute force."""
    refined: bool
    """Whether the rows are kept, to compare the best results with."""

    def __str__(self) -> str:
        return self.text

    def build(self, dataset: Any, *, device: str | None = None, progress: bool = False) -> Any:
        """The index of rows (n, dim), as the module's own build takes them: its Index, or a
        `refined.Index`, which refers to the rows.
        """
        where = "index_factory.build"
        if arrays.is_one_shot(dataset):
            dataset = list(dataset)  # it is read more than once
        rows = arrays.Rows(where, "dataset", dataset)
        if rows.dim != self.dim:
            rule = f"have shape (n, {self.dim})"
            raise bad_value(where, "dataset", rule, (rows.n_rows, rows.dim))
        if self.index_params is None:
            index: Any = brute_force.build(dataset, self.metric, device=device)
        else:
            more = {"device": device, "progress": progress}
            index = self.module.build(self.index_params, dataset, **more)
        return refined.build(index, dataset) if self.refined else index

    @property
    def module(self) -> ModuleType:
        """The public module."""
        modules = {"ivf_flat": ivf_flat, "ivf_pq": ivf_pq, "ivf_sq": ivf_sq}
        return modules.get(self.kind, brute_force)


@annotate("index_factory")
def index_factory(dim: int, description: str, metric: str = "sqeuclidean", **more: Any) -> Factory:
    """Read a line such as "OPQ16,IVF4096,PQ16x8,RFlat", "IVF256,Flat", "IVF1024,SQ8" or "PQ32".

    Parameters
    ----------
    dim : int
    description : str
    metric : {"sqeuclidean", "euclidean", "inner_product", "cosine"}, default "sqeuclidean"
    more : other fields of the kind's IndexParams, as kmeans_n_iters or seed

    Returns
    -------
    Factory : its `index_params`, and `build(dataset)`
    """
    where = "index_factory"
    dim = validate.integer(where, "dim", dim, 1)
    if not isinstance(description, str):
        raise bad_type(where, "description", "be text", type(description).__name__)
    found = _parse(where, description)
    kind, fields = _fields(where, dim, found)
    if kind == "brute_force":
        if more:
            rule = "be none, for Flat has no parameters"
            raise bad_type(where, "other parameters", rule, ", ".join(more))
        _check_metric(where, metric)
        params = None
    else:
        module = {"ivf_flat": ivf_flat, "ivf_pq": ivf_pq, "ivf_sq": ivf_sq}[kind]
        names = set(module.IndexParams.__dataclass_fields__) - fields.keys() - {"metric"}
        for name in more:
            if name not in names:
                near = difflib.get_close_matches(name, names, 1)
                way_out = f"nearest is {near[0]}" if near else None
                rule = f"be among {', '.join(sorted(names))}"
                raise bad_type(where, "other parameters", rule, name, way_out)
        params = module.IndexParams(metric=metric, **fields, **more)
    return Factory(dim, description, kind, metric, params, "refine" in found)


def _check_metric(where: str, name: object) -> None:
    metric.check(where, name)


def _parse(where: str, text: str) -> dict[str, re.Match[str]]:
    """The pieces of a line by what they are, each at most once and in their order."""
    found: dict[str, re.Match[str]] = {}
    left = list(_PIECES)
    for piece in text.split(","):
        at = next((name for name in left if _PIECES[name].fullmatch(piece)), None)
        match = _PIECES[at].fullmatch(piece) if at else None
        if at is None or match is None:
            raise _unknown(where, text, piece, left)
        found[at] = match
        left = left[left.index(at) + 1 :]
    if "codec" not in found:
        rule, way_out = "say how rows are stored", f'"{text},Flat", or SQ8, or PQ and a number'
        raise bad_value(where, "description", rule, repr(text), way_out)
    return found


def _unknown(where: str, text: str, piece: str, left: list[str]) -> ValueError:
    """The error for a piece that means nothing here: a piece of faiss with what there is instead,
    else with the nearest that would mean something.
    """
    examples = [example for name in left for example in _EXAMPLES[name]]
    digits = re.findall(r"\d+", piece)
    shape = re.sub(r"\d+", "#", piece)
    ranked = difflib.get_close_matches(shape, examples, 1, 0.0)
    way_out = None
    if ranked:
        nearest = ranked[0]
        for number in [*digits, "16", "8"]:
            nearest = nearest.replace("#", number, 1)
        way_out = f"nearest is {nearest}"
    for pattern, instead in _ELSEWHERE:
        if re.fullmatch(pattern, piece):
            way_out = f"{piece} of faiss is not there; {instead}"
    known = ", ".join(example.replace("#", "n") for example in examples) or "nothing more"
    rule = f"have {known} where it says {piece!r}"
    return bad_value(where, "description", rule, repr(text), way_out)


def _fields(where: str, dim: int, found: dict[str, re.Match[str]]) -> tuple[str, dict[str, Any]]:
    """The module, and the fields of its parameters that the line sets."""
    codec, rotation = found["codec"], found.get("rotation")
    n_lists = int(found["lists"][1]) if "lists" in found else 1
    if rotation is not None and not codec[0].startswith("PQ"):
        rule = f"have {rotation[0]} before PQ only"
        raise bad_value(where, "description", rule, codec[0])
    if codec[0] == "Flat":
        return ("ivf_flat", {"n_lists": n_lists}) if "lists" in found else ("brute_force", {})
    if codec[0] == "SQ8":
        return "ivf_sq", {"n_lists": n_lists}
    pq_dim, bits = int(codec[1]), int(codec[2] or 8)
    if not 1 <= pq_dim <= dim:
        raise bad_value(where, "description", f"have PQ of 1 to {dim} codes", codec[0])
    if not 4 <= bits <= 8:
        raise bad_value(where, "description", "have codes of 4 to 8 bits", codec[0])
    fields: dict[str, Any] = {"n_lists": n_lists, "pq_dim": pq_dim, "pq_bits": bits}
    if rotation is not None:
        if rotation[1] is not None and int(rotation[1]) != pq_dim:
            rule, way_out = f"turn for the {pq_dim} codes of {codec[0]}", f"OPQ{pq_dim}"
            raise bad_value(where, "description", rule, rotation[0], way_out)
        fields["rotation"] = "opq" if rotation[0].startswith("OPQ") else "random"
    return "ivf_pq", fields
