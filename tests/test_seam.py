"""Every backend has the ten operations of the Protocol, to the last default; imports point down."""

import ast
import inspect
import types
from pathlib import Path

import pytest

import gpuann
from gpuann.backends import cuda_ops, numpy_ops, seam

BACKENDS = [numpy_ops, cuda_ops]
PACKAGE = Path(gpuann.__file__).parent
OPERATIONS = [name for name in vars(seam.Ops) if not name.startswith("_")]

LEVELS = [
    {"errors", "metric", "atomic", "checksums", "foreign", "_nvtx", "_progress", "_version"},
    {"hints", "validate"},
    {"params"},
    {"cuda"},
    {"arrays"},
    {"storage", "io"},
    {"backends"},
    {"starts", "filters"},
    {"kmeans"},
    {"trained"},
    {"codecs"},
    {"engine"},
    {"training"},
    {"index"},
    {"indexes", "quantize", "rerank"},
    {"kinds"},
    {"distributed"},
    {"partitioned", "updates", "lookups"},
    {"files", "exchange", "pipelines", "streamed", "shards"},
    {"brute_force", "ivf_flat", "ivf_pq", "ivf_sq", "refined"},
    {"factory"},
    {"dask", "planning"},
    {"commands", "demo"},
    {"cli_plan"},
    {"cli"},
]
# within a level these may import one another, in this order
WITHIN = [
    ("errors", "metric"),
    ("rerank", "indexes"),
    ("lookups", "partitioned"),
    ("demo", "commands"),
]


def test_there_are_ten_operations():
    assert len(OPERATIONS) == 10


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda b: b.__name__)
def test_a_backend_defines_these_and_nothing_else(backend):
    assert sorted(backend.__all__) == sorted(OPERATIONS)
    public = {n for n, v in vars(backend).items() if not n.startswith("_")}
    assert {n for n in public if isinstance(vars(backend)[n], types.FunctionType)} == set(
        OPERATIONS
    )


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda b: b.__name__)
@pytest.mark.parametrize("name", OPERATIONS)
def test_names_defaults_and_annotations_agree(backend, name):
    want = inspect.signature(getattr(seam.Ops, name))
    got = inspect.signature(getattr(backend, name))
    parameters = [p for p in want.parameters.values() if p.name != "self"]
    assert list(got.parameters.values()) == parameters
    assert got.return_annotation == want.return_annotation


def level_of(module):
    return next((i for i, names in enumerate(LEVELS) if module in names), None)


def imports(path):
    """Top-level parts of gpuann that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gpuann":
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("gpuann."):
                    yield alias.name.split(".")[1]


def test_every_module_has_a_level():
    names = {
        p.stem if p.parent == PACKAGE else p.relative_to(PACKAGE).parts[0]
        for p in PACKAGE.rglob("*.py")
    } - {"__init__"}
    assert names == set().union(*LEVELS)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.name))
def test_imports_point_down(path):
    own = path.stem if path.parent == PACKAGE else path.relative_to(PACKAGE).parts[0]
    if own == "__init__":
        return
    for other in imports(path):
        if other in (own, "__version__"):
            continue
        down = level_of(other) < level_of(own) or (other, own) in WITHIN
        assert down, f"{own} imports {other}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.name))
def test_a_file_is_short(path):
    assert len(path.read_text().splitlines()) <= 300


def imported_names(path):
    """Every name that a file imports from somewhere, and the modules it imports whole."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom | ast.Import):
            yield from (alias.name for alias in node.names)
            yield from (getattr(node, "module", None) or "").split(".")


def test_only_one_place_knows_the_backends():
    for path in PACKAGE.rglob("*.py"):
        own = path.parts[-2] if path.parts[-2] in ("numpy_ops", "cuda_ops") else ""
        if path not in (PACKAGE / "backends" / "__init__.py", PACKAGE / "__init__.py"):
            others = {"numpy_ops", "cuda_ops"} - {own}
            assert not others & set(imported_names(path)), path


def test_only_one_file_drives_cupy():
    knows = {p.name for p in PACKAGE.rglob("*.py") if "cupy" in set(imported_names(p))}
    assert knows == {"device.py"}
