"""Indexes of other libraries, to and fro: the same rows in the same lists, by the same quantisers.

    index = gpuann.from_faiss(faiss.read_index("words.faiss"))
    faiss.write_index(gpuann.to_faiss(index), "words.faiss")

Distances are the same to rounding. The other library is imported when something is asked of it.

    IndexFlat                                  brute_force
    IndexIVFFlat                               ivf_flat
    IndexIVFScalarQuantizer                    ivf_sq
    IndexIVFPQ, a linear transform before it   ivf_pq
"""

from gpuann.exchange.read_cuvs import from_cuvs
from gpuann.exchange.read_faiss import from_faiss
from gpuann.exchange.write_faiss import to_faiss

__all__ = ["from_cuvs", "from_faiss", "to_faiss"]
