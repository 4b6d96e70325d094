"""gpuann under cuVS's names: what its users call, and what of it means nothing here.

`from cuvs_shim import ivf_pq` stands for `from cuvs.neighbors import ivf_pq`. Arguments that only
tune cuVS are taken and dropped; those that would change the answer are refused unless they are at
cuVS's default.
"""

import functools
import types

import numpy as np

import gpuann

# changes no answer here: tables and distances are exact whatever they are stored in
TUNING = {
    "resources",
    "lut_dtype",
    "internal_distance_dtype",
    "coarse_search_dtype",
    "max_internal_batch_size",
    "conservative_memory_allocation",
    "codes_layout",
    "include_dataset",
}
DEFAULTS = {
    "metric_arg": 2.0,
    "codebook_kind": "subspace",
    "add_data_on_build": True,
    "adaptive_centers": False,
    "oversampling_factor": 2.0,
    "n_init": 1,
    "hierarchical": False,
}


def _ours(function, **renamed):
    """function with cuVS's arguments."""

    @functools.wraps(function)
    def called(*positional, **named):
        for name in TUNING & named.keys():
            del named[name]
        for name in DEFAULTS.keys() & named.keys():
            value = named.pop(name)
            if value != DEFAULTS[name]:
                raise NotImplementedError(f"{name}={value!r} is not there")
        named = {renamed.get(name, name): value for name, value in named.items()}
        return function(*positional, **named)

    return called


def _module(name, **more):
    ours = getattr(gpuann, name)
    found = {}
    for what in ours.__all__:
        value = getattr(ours, what)
        is_index = what == "Index"
        found[what] = value if is_index else _ours(value)
    return types.SimpleNamespace(**found | more)


brute_force = _module("brute_force")
ivf_flat = _module("ivf_flat")
ivf_sq = _module("ivf_sq")
ivf_pq = _module("ivf_pq")
kmeans = _module("kmeans")
filters = gpuann.filters
refine = _ours(gpuann.refine)
DTYPES = [np.float32, np.float16, np.int8, np.uint8]
