"""Indexes built in parts: plain functions over rows and partial results, for any engine.

    plan    = plan_sample(rows_per_part, needs, dim)             once
    sample  = sample_part(rows, plan.rows[i], part=i)            where part i is
    models  = train_local(params, samples)                       or train_distributed(...)

Nothing here starts a process, a thread or a task: Dask, Spark, Ray, a pool or a shell script calls
these functions where the rows are. See README.md beside this file.
"""

from gpuann.distributed.partial import Partial, combine, next_centers, partial_kmeans
from gpuann.distributed.sampling import (
    Needs,
    Sample,
    SamplePlan,
    merge_bounds,
    plan_sample,
    sample_needs,
    sample_part,
)
from gpuann.distributed.train import train_distributed, train_local
from gpuann.trained import TrainedModels

__all__ = [
    "Needs",
    "Partial",
    "Sample",
    "SamplePlan",
    "TrainedModels",
    "combine",
    "merge_bounds",
    "next_centers",
    "partial_kmeans",
    "plan_sample",
    "sample_needs",
    "sample_part",
    "train_distributed",
    "train_local",
]
