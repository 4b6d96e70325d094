"""Which worker holds which replica of which shard."""

from collections.abc import Sequence

from gpuann.errors import bad_value


def assign(
    where: str,
    n_rows: Sequence[int],
    workers: Sequence[str],
    n_replicas: int,
    held: Sequence[Sequence[str]] = (),
) -> list[list[str]]:
    """Workers for every shard's replicas, on n_replicas different ones, about equally many rows on
    each.

    Parameters
    ----------
    n_rows : rows of each shard
    workers : addresses
    held : of each shard, the workers that hold it now; a replica stays where it is unless its
        worker would have more than its share, so that few rows move

    Returns
    -------
    list of n_replicas addresses for each shard
    """
    workers = sorted(workers)
    if n_replicas > len(workers):
        rule = f"be at most the {len(workers)} workers: replicas of a shard are on different ones"
        raise bad_value(where, "n_replicas", rule, n_replicas, "start more workers")
    share = -(-sum(n_rows) * n_replicas // len(workers)) if workers else 0
    load = dict.fromkeys(workers, 0)
    chosen: list[list[str]] = [[] for _ in n_rows]
    largest_first = sorted(range(len(n_rows)), key=lambda s: (-n_rows[s], s))
    for s in largest_first if held else ():
        for worker in held[s]:
            fits = worker in load and load[worker] + n_rows[s] <= share
            if fits and worker not in chosen[s] and len(chosen[s]) < n_replicas:
                chosen[s].append(worker)
                load[worker] += n_rows[s]
    for s in largest_first:
        while len(chosen[s]) < n_replicas:
            left = [worker for worker in workers if worker not in chosen[s]]
            worker = min(left, key=lambda w: (load[w], w))
            chosen[s].append(worker)
            load[worker] += n_rows[s]
    return chosen
