"""What users of FAISS look for on an index, and where it is: an index here has no verbs."""

from typing import TYPE_CHECKING, NoReturn

from gpuann.errors import message

_VERBS = {  # a method there, a function of the index' module here
    "add": "extend",
    "add_with_ids": "extend",
    "merge_from": "merge",
    "range_search": "range_search",
    "reconstruct": "reconstruct",
    "reconstruct_batch": "reconstruct",
    "reconstruct_n": "reconstruct",
    "remove_ids": "delete",
    "search": "search",
    "search_preassigned": "search_preassigned",
    "train": "build",
}
_VALUES = {
    "d": "it is index.dim",
    "k_factor": "it is an argument of refined.search",
    "metric_type": "it is index.metric",
    "nlist": "it is index.n_lists",
    "nprobe": "every search has its own: SearchParams(n_probes=8)",
    "ntotal": "it is len(index)",
}


class Hints:
    """For an index class: a name that it has not is refused with what there is instead."""

    if not TYPE_CHECKING:  # a checker would take every name for one that is there

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(self._hint("be one of the index", name), name=name, obj=self)

        def __setattr__(self, name: str, value: object) -> NoReturn:
            raise AttributeError(self._hint("stay as it is", name), name=name, obj=self)

    def _hint(self, rule: str, name: str) -> str:
        module = type(self).__module__.rpartition(".")[2]
        way_out = _VALUES.get(name)
        if name in _VERBS:
            way_out = f"{module}.{_VERBS[name]} is a function that takes the index"
        return message(f"{module}.Index", "attribute", rule, name, way_out)
