"""The cluster as a library sees it: which client, and whether its workers can do the work."""

from pathlib import Path
from typing import Any

import distributed
from distributed import Client

from gpuann import backends
from gpuann._version import __version__
from gpuann.distributed.manifest import exists
from gpuann.errors import BackendError, bad_type, bad_value, message


def given_client(where: str, client: Any) -> Client:
    """The client to use; None: the one that is there. None is ever started or closed here."""
    if client is None:
        try:
            return distributed.default_client()
        except ValueError:
            way_out = "make one, as distributed.Client(), or use gpuann.shards in one process"
            rule = "be a distributed.Client, or there must be one"
            raise BackendError(message(where, "client", rule, None, way_out)) from None
    if not isinstance(client, Client):
        got = type(client).__name__
        raise bad_type(where, "client", "be a distributed.Client", got)
    return client


def outside_the_loop(where: str, client: Client) -> None:
    """Raise in the thread of an asynchronous client's loop, which would wait for itself."""
    if client.asynchronous:
        way_out = f"await asyncio.to_thread(gpuann.{where}, ..., client=client)"
        rule = "be called outside of the client's event loop"
        raise BackendError(message(where, "this", rule, "a call inside of it", way_out))


def sound_workers(where: str, told: dict[str, Any], folder: Path) -> list[str]:
    """Addresses of workers by what `about_worker` said of each."""
    if not told:
        way_out = "start workers, or wait for them with client.wait_for_workers(1)"
        raise BackendError(message(where, "the cluster", "have a worker", "none", way_out))
    for worker, said in sorted(told.items()):
        if isinstance(said, BaseException):
            got = f"{type(said).__name__}: {said}"
            raise BackendError(message(where, worker, "have gpuann and the device", got)) from said
        if said["version"] != __version__:
            way_out = "install one version everywhere"
            rule = f"have gpuann {__version__}, as this process"
            raise BackendError(message(where, worker, rule, said["version"], way_out))
        if not said["folder"]:
            way_out = "give a folder that all machines share"
            raise BackendError(message(where, worker, f"see {folder}", "no such folder", way_out))
    return sorted(told)


def among(where: str, workers: Any, there: list[str]) -> list[str]:
    """The workers that a caller names, which must be there; all if none are named."""
    if workers is None:
        return there
    for worker in workers:
        if worker not in there:
            raise bad_value(where, "workers", f"be among {', '.join(there)}", repr(worker))
    return list(workers)


def about_worker(device: str | None, folder: Path) -> dict[str, Any]:
    """Where a worker is: its version of gpuann, and whether it sees the index; raises if it has not
    got the device.
    """
    backends.choose("dask.load", device)
    return {"version": __version__, "folder": exists(folder)}
