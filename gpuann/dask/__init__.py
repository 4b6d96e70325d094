"""An index built and searched by the workers of a Dask cluster; replicas for slow and lost ones.

    from gpuann import dask as gdask
    gdask.build(index_params, dataset, "folder")
    index = gdask.load("folder", n_replicas=2, serve=gdask.ServeParams(hedge_after="p95"))
    distances, ids = gdask.search(search_params, index, queries, k=10)

The folder is one that every worker sees; `shards.save` and `streamed.build` write such, too. A
client is used, never started or closed. Every worker holds its shards in an actor and searches
them on a thread of its own; answers are merged here: those of the single index, bit for bit.
Needs `pip install 'gpuann[dask]'`.
"""

try:
    import distributed as _distributed  # noqa: F401
except ImportError as _error:
    from gpuann.errors import BackendError, message

    raise BackendError(
        message("gpuann.dask", "dask", "be installed", "no package", "pip install 'gpuann[dask]'")
    ) from _error

from gpuann.dask.building import build
from gpuann.dask.index import DaskIndex, Found, load
from gpuann.dask.params import ServeParams
from gpuann.dask.searching import search

__all__ = ["DaskIndex", "Found", "ServeParams", "build", "load", "search"]
