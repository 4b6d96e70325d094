"""Indexes built in parts: plain functions over rows and partial results, for any engine.

    plan    = plan_sample(rows_per_part, needs, dim)             once
    sample  = sample_part(rows, plan.rows[i], part=i)            where part i is
    models  = train_local(params, samples)                       or train_distributed(...)
    shard   = build_part(models, rows, ids)                      where part i is
    entry   = write_shard(folder, shard)                         where part i is
    commit(folder, entries)                                      once

Nothing here starts a process, a thread or a task: Dask, Spark, Ray, a pool or a shell script calls
these functions where the rows are. See README.md beside this file.
"""

from gpuann.distributed.compact import compact_folder
from gpuann.distributed.folder import clean_folder, commit, rebalance_folder, write_shard
from gpuann.distributed.manifest import Manifest, ShardEntry
from gpuann.distributed.partial import Partial, combine, next_centers, partial_kmeans
from gpuann.distributed.reshard import merge, rebalance, split
from gpuann.distributed.sampling import (
    Needs,
    Sample,
    SamplePlan,
    merge_bounds,
    plan_sample,
    sample_needs,
    sample_part,
)
from gpuann.distributed.shard import Shard, build_part
from gpuann.distributed.train import train_distributed, train_local
from gpuann.trained import TrainedModels

__all__ = [
    "Manifest",
    "Needs",
    "Partial",
    "Sample",
    "SamplePlan",
    "Shard",
    "ShardEntry",
    "TrainedModels",
    "build_part",
    "clean_folder",
    "combine",
    "commit",
    "compact_folder",
    "merge",
    "merge_bounds",
    "next_centers",
    "partial_kmeans",
    "plan_sample",
    "rebalance",
    "rebalance_folder",
    "sample_needs",
    "sample_part",
    "split",
    "train_distributed",
    "train_local",
    "write_shard",
]
