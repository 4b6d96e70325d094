"""Data sets by name: rows, queries and where they come from.

clustered:1000000x128        seeded, as bench.data makes them (also gaussians, manifold)
manifold:1000000x96x100000   a bent manifold around centres of skewed weight, made in chunks; the
                             last number is that of the queries, 10,000 if it is not there
fashion-mnist                four idx-ubyte.gz files: FASHION_MNIST, or Debian's package
words                        the embeddings that the package ships
sift-128-euclidean           an ann-benchmarks set: its .hdf5, downloaded where there is a network
path/to/x.hdf5               such a file; path/to/folder: base.fbin, query.fbin of cuvs-bench;
path/to/base.fvecs           with query.fvecs beside it, as texmex names them
"""

import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench import data
from bench.download import download
from gpuann.errors import bad_value
from gpuann.io import open_vectors

CHUNK = 1 << 16  # rows that are made from one seed, whatever is asked for at once
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
ANN_BENCHMARKS = "https://ann-benchmarks.com"
ANN_SETS = ("fashion-mnist-784", "gist-960", "mnist-784", "sift-128")  # -euclidean: sqeuclidean


class Data(NamedTuple):
    """float32, compared by squared Euclidean distance."""

    name: str
    rows: np.ndarray
    """(n, dim)"""
    queries: np.ndarray
    """(n_queries, dim)"""


def get(name: str, cache: Path, n_queries: int = 10_000) -> Data:
    """A data set by name, as above; downloads go to `cache`."""
    kind, _, size = name.partition(":")
    makers: dict[str, Any] = {
        "clustered": data.clustered,
        "gaussians": data.gaussians,
        "manifold": manifold,
    }
    if kind in makers and size:
        shape = size.split("x")
        if len(shape) not in (2, 3) or not all(part.isdigit() for part in shape):
            raise bad_value("bench", "--data", f"be {kind}:ROWSxDIM[xQUERIES]", repr(name))
        n, dim, *asked = map(int, shape)
        return Data(name, *makers[kind](n, dim, asked[0] if asked else n_queries))
    if name == "fashion-mnist":
        return fashion_mnist(Path(os.environ.get("FASHION_MNIST", DEBIAN)))
    if name == "words":
        return words(n_queries)
    if name.removesuffix("-euclidean") in ANN_SETS:
        base = name.removesuffix("-euclidean")
        return hdf5(download(f"{ANN_BENCHMARKS}/{base}-euclidean.hdf5", cache))
    path = Path(name)
    if not path.exists():
        known = ", ".join((*(f"{m}:ROWSxDIM" for m in makers), "fashion-mnist", "words", *ANN_SETS))
        raise bad_value("bench", "--data", f"be a file, a folder or one of {known}", repr(name))
    if path.is_dir():
        return folder(path)
    return hdf5(path) if path.suffix in (".hdf5", ".h5") else texmex(path)


def fashion_mnist(place: Path) -> Data:
    """60,000 x 784 and 10,000 queries; pixels 0 to 255."""
    files = [place / f"{part}-images-idx3-ubyte.gz" for part in ("train", "t10k")]
    for file in files:
        if not file.exists():
            way_out = "apt-get install dataset-fashion-mnist, or FASHION_MNIST=folder"
            raise bad_value("bench", "fashion-mnist", f"be in {place}", f"no {file.name}", way_out)
    return Data("fashion-mnist", *(idx(file).reshape(-1, 784) for file in files))


def idx(file: Path) -> np.ndarray:
    """The bytes of an idx file as float32: a magic number with the number of axes, their sizes."""
    with gzip.open(file) as opened:
        content = opened.read()
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, 4)
    if content[2] != 8 or len(content) != 4 + 4 * axes + int(np.prod(shape, dtype=np.int64)):
        raise bad_value("bench", str(file), "be bytes in idx format", f"{len(content)} bytes")
    array = np.frombuffer(content, np.uint8, offset=4 + 4 * axes)
    return array.reshape([int(x) for x in shape]).astype(np.float32)


def words(n_queries: int) -> Data:
    """The word embeddings of the demo, turned to unit length: their cosine is Euclidean then. Every
    tenth is a query and not in the rows.
    """
    import gpuann

    with np.load(Path(gpuann.__file__).parent / "data" / "words.npz") as file:
        x = file["vectors"].astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    asked = np.arange(len(x)) % 10 == 0
    return Data("words", x[~asked], x[asked][:n_queries])


def hdf5(path: Path) -> Data:
    """train and test of an ann-benchmarks file; of its metrics only the Euclidean one."""
    import h5py

    with h5py.File(path) as file:
        metric = str(file.attrs.get("distance", "euclidean"))
        if metric != "euclidean":
            raise bad_value("bench", str(path), "be of Euclidean distance", repr(metric))
        parts = [np.asarray(file[name], np.float32) for name in ("train", "test")]
    return Data(path.stem, *parts)


def folder(path: Path) -> Data:
    """base.* and query.* of one of the suffixes that cuvs-bench writes."""
    for suffix in (".fbin", ".f16bin", ".u8bin", ".i8bin"):
        if (path / f"base{suffix}").exists():
            parts = [_whole(path / f"{part}{suffix}") for part in ("base", "query")]
            return Data(path.name, *parts)
    raise bad_value("bench", str(path), "have base.fbin (or .f16bin, .u8bin, .i8bin)", "none")


def texmex(path: Path) -> Data:
    """x_base.fvecs with x_query.fvecs beside it."""
    other = path.with_name(path.name.replace("base", "query"))
    if other == path or not other.exists():
        raise bad_value("bench", str(path), "be named base, with query beside it", other.name)
    return Data(path.stem, _whole(path), _whole(other))


def _whole(path: Path) -> np.ndarray:
    rows = open_vectors(path)
    if not isinstance(rows, np.ndarray):
        raise bad_value("bench", str(path), "be a format that is rows side by side", path.suffix)
    return np.ascontiguousarray(rows, np.float32)


def manifold(n: int, dim: int, n_queries: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """-> rows (n, dim), queries (n_queries, dim): all chunks of `manifold_chunks` in one array."""
    made = []
    for size, queries in ((n, False), (n_queries, True)):
        out = np.empty((size, dim), np.float32)
        at = 0
        for part in manifold_chunks(size, dim, seed, queries=queries):
            out[at : at + len(part)] = part
            at += len(part)
        made.append(out)
    return made[0], made[1]


def manifold_chunks(
    n: int, dim: int, seed: int = 0, *, queries: bool = False, latent: int = 12, centers: int = 300
) -> Iterator[np.ndarray]:
    """n rows in pieces (at most CHUNK, dim) float32: `latent` dimensions bent by sines, around
    centres of which a few hold most rows (weights 1/rank), so that lists are skewed.

    A piece depends on seed and number alone, so any machine can make any piece of 10^8 rows.
    """
    r = np.random.default_rng(seed)
    flat = r.standard_normal((latent, dim), np.float32)
    wave = r.standard_normal((latent, dim), np.float32)
    phase = r.uniform(0, 2 * np.pi, dim).astype(np.float32)
    middle = 2 * r.standard_normal((centers, dim), np.float32)
    weights = 1 / np.arange(1, centers + 1)
    weights /= weights.sum()
    for number, at in enumerate(range(0, n, CHUNK)):
        r = np.random.default_rng([seed, int(queries), number])
        # a whole piece is drawn even if less is wanted: the last rows do not depend on n
        z = r.standard_normal((CHUNK, latent), np.float32)
        of = r.choice(centers, CHUNK, p=weights)
        noise = r.standard_normal((CHUNK, dim), np.float32)
        x = z @ flat + 2 * np.sin(z @ wave + phase) + middle[of] + np.float32(0.1) * noise
        yield x[: n - at]
