"""The README's table of calls, from the code: `python -m bench.api`."""

import inspect
from types import ModuleType

import gpuann

BEGIN, END = "<!-- made by: python -m bench.api -->", "<!-- end of the calls -->"
KINDS = ("brute_force", "ivf_flat", "ivf_pq", "ivf_sq")
OTHERS = (
    ("refined", gpuann.refined),
    ("filters", gpuann.filters),
    ("quantize.pq", gpuann.quantize.pq),
    ("quantize.scalar", gpuann.quantize.scalar),
    ("kmeans", gpuann.kmeans),
    ("io", gpuann.io),
    ("shards", gpuann.shards),
    ("streamed", gpuann.streamed),
    ("planning", gpuann.planning),
)
WHOLE = ("refine", "load", "save", "index_factory", "from_faiss", "to_faiss", "from_cuvs")


def functions(module: ModuleType) -> list[str]:
    """Public functions of a module, in the order of its own list or of its text."""
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__
    ]
    found = [name for name in names if not name.startswith("_")]
    return [name for name in found if inspect.isfunction(getattr(module, name))]


def signature(function: object) -> str:
    """Names and defaults, without types."""
    found = inspect.signature(function)  # type: ignore[arg-type]
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in found.parameters.values()]
    text = str(found.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    return text.replace("|", "\\|")


def first_line(function: object) -> str:
    """Of the docstring, up to its first full stop."""
    paragraph = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
    return paragraph.partition(". ")[0].rstrip(".").replace("|", "\\|")


def tables() -> str:
    """Of the four kinds of index together, then of the rest."""
    modules = [getattr(gpuann, kind) for kind in KINDS]
    every = sorted({name for module in modules for name in functions(module)})
    lines = ["| of an index | " + " | ".join(KINDS) + " | |", "|---" * 6 + "|"]
    for name in every:
        here = {module: getattr(module, name) for module in modules if hasattr(module, name)}
        for called in dict.fromkeys(signature(function) for function in here.values()):
            those = [module for module, function in here.items() if signature(function) == called]
            marks = " | ".join("x" if module in those else "" for module in modules)
            text = first_line(here[those[0]])
            lines.append(f"| `{name}{called}` | {marks} | {text} |")
    lines += ["", "| of the package | |", "|---|---|"]
    rest = [("gpuann", name, getattr(gpuann, name)) for name in WHOLE]
    rest += [(of, name, getattr(m, name)) for of, m in OTHERS for name in functions(m)]
    for of, name, function in rest:
        lines.append(f"| `{of}.{name}{signature(function)}` | {first_line(function)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(tables())
