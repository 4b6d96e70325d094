"""Measured comparisons; every figure in the README comes from a result that one of these wrote."""
