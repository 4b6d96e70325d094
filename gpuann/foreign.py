"""Files that are no index of ours, told by how they begin: what they are, and what reads them."""

import re
from pathlib import Path

_BUILD = "gpuann.io.open_vectors reads it, and a build makes an index of it"
_FAISS = "gpuann.from_faiss(faiss.read_index(name)) takes it"
_PICKLE = "gpuann opens none, for it may run any code: load it and build an index of its rows"
_BEGINNINGS = (
    (re.compile(rb"I[A-Za-z][A-Za-z0-9]{2}"), "an index of FAISS", _FAISS),
    (
        # a scalar comes first in what cuVS writes
        re.compile(rb"\x93NUMPY.{,80}'shape': \(\)", re.DOTALL),
        "arrays of NumPy one behind the other, as cuVS writes an index",
        "load it with cuVS, gpuann.from_cuvs takes an index of IVF-PQ",
    ),
    (re.compile(rb"\x93NUMPY"), "an array of NumPy", _BUILD),
    (re.compile(rb"\x89HDF\r\n\x1a\n"), "an HDF5 file", _BUILD),
    (re.compile(rb"PAR1"), "a Parquet file", _BUILD),
    (re.compile(rb"ARROW1"), "an Arrow file", _BUILD),
    (re.compile(rb"\x80[\x02-\x05][\x80-\xff}\](c]"), "a pickle", _PICKLE),
    (re.compile(rb"PK\x03\x04"), "a zip archive, as .npz and torch.save are", _PICKLE),
)


def kind_of(path: Path, vectors: tuple[str, ...]) -> tuple[str, str] | None:
    """What a file or folder is that could not be read as an index, and the way out; None where
    that is not known. vectors: ends of names that mean files of vectors.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        return ("a Lance data set", _BUILD) if suffix == ".lance" else None
    with path.open("rb") as handle:
        start = handle.read(128)
    for pattern, what, way_out in _BEGINNINGS:
        if pattern.match(start):
            return what, way_out
    return (f"vectors, by its name {suffix}", _BUILD) if suffix in vectors else None
