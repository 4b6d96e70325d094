"""The kernel files: their contracts, what they compile to, and that nothing is left unproven."""

import re

import numpy as np
import pytest
from engines import needs_nvrtc

from bench import kernel_resources as gate
from gpuann.backends import seam
from gpuann.backends.cuda_ops import _halves, _sizes
from gpuann.cuda import device as cuda_device
from gpuann.cuda import source, variants
from gpuann.cuda.launch import Limits

OPERATIONS = source.operations()
CONTRACT = ["in", "out", "defines", "grid", "shared", "budget", "cost", "source"]


@pytest.fixture(scope="module")
def rows():
    """Every entry of every variant on every architecture, compiled."""
    return gate.measure()


def header(op):
    """The comment that a kernel file opens with."""
    lines = (source.kernel_dir() / f"{op}.cu").read_text().splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("//"))
    return lines[:end]


def test_the_files_are_the_operations():
    names = {name for name in vars(seam.Ops) if not name.startswith("_")}
    # the merge is a selection whose rows lie in pieces: it shares select_k.cu
    assert set(OPERATIONS) == names - {"merge_topk"}


@pytest.mark.parametrize("op", OPERATIONS)
def test_contract(op):
    lines = header(op)
    assert re.fullmatch(rf"// {op}: .+[.:;,\w]", lines[0]), "it begins with a sentence"
    formula = [line for line in lines[:6] if line.startswith("//   ")]
    assert any("=" in line or "ascends" in line for line in formula), "a formula follows"
    found = [m[1] for line in lines if (m := re.match(r"// (\w+) {1,6}\S", line))]
    keys = [k for i, k in enumerate(found) if k in CONTRACT and k not in found[:i]]
    assert keys == CONTRACT, "all parts of the contract, in their order"


@pytest.mark.parametrize("variant", variants.table(), ids=lambda s: f"{s.op} {s.variant}")
def test_contract_agrees_with_the_code(variant):
    text = "\n".join(header(variant.op))
    defines = re.search(r"// defines (.*?)\n// grid", text, re.DOTALL)[1]
    front = variant.text.split("#line")[0]
    for name in re.findall(r"^#define (\w+)", front, re.MULTILINE):
        listed = re.search(rf"\b{name}\b", defines)
        assert listed, f"kernels/{variant.op}.cu: `defines` does not list {name}"
    for entry in variant.entries:
        assert entry in re.search(r"// grid(.*?)\n// shared", text, re.DOTALL)[1] or (
            len(variant.entries) == 1
        ), f"no grid for {entry}"
    assert "shared  none" in text or "__shared__" in variant.text
    body = (source.kernel_dir() / f"{variant.op}.cu").read_text()
    assert ("dynamic:" in text) == ("EXTERN_SHARED(" in body)
    assert f"BLOCK {variant.block}" in defines
    for field in variant.fields:
        if field.pointer:
            assert field.comment.startswith("("), f"no shape beside {field.name}"


def test_files_are_short_and_say_what_they_are():
    for path in source.kernel_dir().glob("*.cu*"):
        lines = path.read_text().splitlines()
        assert len(lines) <= 250, path
        assert lines[0].startswith("// "), path


def test_only_one_file_has_assembly():
    for path in source.kernel_dir().glob("*.cu*"):
        assert ("asm volatile" in path.read_text()) == (path.name == "ptx.cuh"), path


def constants(text):
    """constexpr integers of a kernel text, by name."""
    known = {n: int(v) for n, v in re.findall(r"^#define (\w+) (\d+)$", text, re.MULTILINE)}
    found = re.findall(r"^constexpr \w+ (\w+) =\s+([^;]+);", text, re.MULTILINE)
    for name, value in found:
        if re.fullmatch(r"[\w\s*/+()-]+", value) and "x" not in value:
            known[name] = eval(value.replace("/", "//").replace("\n", " "), {}, known)
    return known


def test_sizes_agree_between_launchers_and_kernels():
    scan = constants(variants.scan_lists(variants.Codec.WHOLE, np.float32).text)
    assert scan["GROUP"] == _sizes.GROUP
    assert scan["CHUNK"] == _sizes.CHUNK
    assert scan["SCALE_BYTES"] == _sizes.SCALE_BYTES
    for name in ("ROWS", "STEP", "DEPTH"):
        assert scan[name] == getattr(_sizes, name), name
    for tile in variants.TILES:
        scan = constants(variants.scan_lists(variants.Codec.WHOLE, np.float32, tile=tile).text)
        assert (scan["TILE"], scan["FILTER_BYTES"]) == (tile, _sizes.filter_bytes(tile))
    assert (scan["LONGEST"], scan["MOST_SCALED"]) == (_halves.LONGEST, _halves.MOST_SCALED)
    assign = constants(variants.assign(split=False).text)
    assert assign["TILE_BYTES"] == _sizes.TILE_BYTES
    assert 3 * variants.SPLIT_DIM <= assign["STEP"] < 3 * variants.SPLIT_DIM + 3
    assert scan["LEAF"] // 2 << scan["MAX_HALVINGS"] == _sizes.MAX_DIM
    assert assign["TILE"] == constants(variants.pairwise("sqeuclidean").text)["TILE"] == _sizes.TILE
    assert constants(variants.build_lut(np.float32).text)["QUERIES"] == _sizes.QUERIES
    assert constants(variants.plain("group").text)["DIGITS"] == 1 << _sizes.DIGIT_BITS
    entry = np.dtype(np.int64).itemsize + np.dtype(np.uint32).itemsize
    assert 2 * entry == _sizes.BYTES_PER_PLACE
    for shared in (0, 1):  # what a device says it can select, by the same measure
        limits = Limits(90, 1, 64 * _sizes.BYTES_PER_PLACE - shared)
        assert limits.most_results() == 64 >> shared
    assert all(variant.block == _sizes.BLOCK for variant in variants.table())


def test_atomics_are_on_integers():
    for variant in variants.table():
        for call in re.findall(r"atomic\w+\(&?([\w.\->]+)", variant.text):
            name = call.split(".")[-1].split("->")[-1]
            integer = rf"(int|u32|u64|i64)\*? {name}\b|__shared__ (int|u32|u64) {name}"
            assert re.search(integer, variant.text), f"{variant.op}: atomic on {call}"


@needs_nvrtc
def test_budgets_hold(rows):
    for row in rows:
        where = f"{row.symbol} on sm_{row.arch}"
        registers, most = row.took.registers, row.budget.registers
        assert registers <= most, f"{where}: {registers} registers, the header promises {most}"
        assert row.took.spills <= row.budget.spills, where
        assert bool(row.took.stack) == bool(row.took.spills), f"{where}: arrays in local memory"
        # of the filter shared memory decides, which follows the codebooks: see the report
        shared = row.took.shared + (row.dynamic if row.entry != "scan_filter" else 0)
        blocks = gate.blocks_per_sm(row.arch, row.took.registers, shared, row.threads)
        assert blocks >= row.budget.blocks, where


@needs_nvrtc
def test_launch_limits_hold(rows):
    for row in rows:
        where = f"{row.symbol} on sm_{row.arch}"
        sm = gate.MULTIPROCESSORS[row.arch]
        assert row.threads <= 1024 and row.threads % 32 == 0, where
        assert row.took.registers * row.threads <= sm.registers, where
        assert row.took.shared <= 48 * 1024, where
        assert row.took.shared + row.dynamic <= sm.shared_block, where
        assert not row.dynamic or row.took.shared <= cuda_device.STATIC_SHARED, where


@needs_nvrtc
def test_every_variant_compiles_everywhere(rows):
    wanted = {
        (s.symbol(entry), arch)
        for s in variants.table()
        for entry in s.entries
        for arch in gate.ARCHS
    }
    assert {(row.symbol, row.arch) for row in rows} == wanted


@needs_nvrtc
def test_the_committed_report_is_of_these_kernels(rows):
    """python -m bench.kernel_resources --write; of the NVRTC that the test extra pins."""
    changed = set(gate.table(rows).splitlines()) ^ set(gate.RESULT.read_text().splitlines())
    hint = "run: python -m bench.kernel_resources --write, and look at what changed"
    assert not changed, f"{hint}: {sorted(changed)[:6]}"


def test_occupancy_formula():
    assert gate.blocks_per_sm("90", 32, 0, 256) == 8  # all 2048 threads
    assert gate.blocks_per_sm("90", 64, 0, 256) == 4  # registers
    assert gate.blocks_per_sm("90", 65, 0, 256) == 3  # given in eights
    assert gate.blocks_per_sm("90", 32, 100_000, 256) == 2  # shared memory
    assert gate.blocks_per_sm("120", 32, 0, 256) == 6  # 1536 threads
    assert gate.blocks_per_sm("120", 32, 102_000, 256) == 0
    assert gate.blocks_per_sm("80", 16, 0, 32) == 32  # blocks
