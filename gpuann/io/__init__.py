"""Vectors in files, read and written in chunks: no file is ever held whole.

io.open_vectors("base.fbin")                 a memory-map, or chunks: any build or search takes it
io.write_vectors("base.fvecs", rows)         rows: an array, a memory-map, or chunks

.npy                                         NumPy
.fvecs .bvecs .ivecs                         texmex (SIFT1M): every row begins with its length
.fbin .f16bin .u8bin .i8bin .ibin            big-ann-benchmarks, cuVS: a header, then the rows
.hdf5 .h5                                    ann-benchmarks, by data set: train, test, neighbors
.parquet .arrow .feather                     a column of lists (pyarrow)
a folder .lance                              a Lance data set (pylance)

io.pieces("base.fbin")                       the file in parts that workers can read by themselves
"""

from gpuann.io.chunks import Chunks
from gpuann.io.formats import SUFFIXES, open_vectors, write_vectors
from gpuann.io.pieces import Piece, pieces

__all__ = ["SUFFIXES", "Chunks", "Piece", "open_vectors", "pieces", "write_vectors"]
