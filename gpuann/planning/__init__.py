"""An index on paper: `plan` says what rows that do not fit here would take, and take long."""

from gpuann.planning.plan import plan
from gpuann.planning.report import Plan

__all__ = ["Plan", "plan"]
