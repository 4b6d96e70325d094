"""Checks of what users hand in; every failure reads as `errors` says."""

import operator
from typing import Any

import numpy as np

from gpuann.errors import bad_type, bad_value, message

DTYPES = ("float32", "float16", "int8", "uint8")

# Squares of 4,096 such components still fit float32 with room to spare.
LARGEST = float(2**50)


def integer(where: str, name: str, value: Any, least: int, most: int | None = None) -> int:
    """`value` as an int in [least, most]; bool and float are refused."""
    if isinstance(value, bool | np.bool_):
        raise bad_type(where, name, "be an integer", repr(value))
    try:
        number = operator.index(value)
    except TypeError:
        raise bad_type(where, name, "be an integer", repr(value)) from None
    if most is None and number < least:
        raise bad_value(where, name, f"be at least {least}", number)
    if most is not None and not least <= number <= most:
        raise bad_value(where, name, f"be between {least} and {most}", number)
    return number


def n_results(where: str, k: Any) -> int:
    """`k` as an int, at least 1."""
    k = integer(where, "k", k, 1)
    if k >= 1 << 31:
        raise bad_value(where, "k", f"be at most {(1 << 31) - 1}", k)
    return k


def share(where: str, name: str, value: object, *, zero: bool) -> float:
    """`value` as a float in [0, 1], or in (0, 1] unless `zero` is allowed."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise bad_type(where, name, "be a number", repr(value))
    if not 0 <= float(value) <= 1 or (value == 0 and not zero):
        low = "at least 0" if zero else "above 0"
        raise bad_value(where, name, f"be {low} and at most 1", value)
    return float(value)


def instance(where: str, name: str, value: object, kind: type) -> None:
    """Raise unless `value` is one of `kind`."""
    if not isinstance(value, kind):
        of = f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}"
        got = f"{type(value).__module__.rpartition('.')[2]}.{type(value).__name__}"
        raise bad_type(where, name, f"be {of}", got)


def one_of(where: str, name: str, value: object, allowed: tuple[str, ...]) -> str:
    """`value` if it is among `allowed`."""
    if not isinstance(value, str) or value not in allowed:
        raise bad_value(where, name, f"be one of {', '.join(allowed)}", repr(value))
    return value


def only(where: str, name: str, value: object, allowed: object, way_out: str) -> None:
    """Raise unless `value`, which cuVS has a choice for, is the one that there is here."""
    plain = value.item() if isinstance(value, np.generic) else value
    if type(plain) not in (type(allowed), int) or plain != allowed:
        raise bad_value(where, name, f"be {allowed!r}", repr(value), way_out)


def dtype_among(where: str, name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise unless `value` is one of these dtypes, as NumPy takes them."""
    try:
        found = np.dtype(value).name
    except TypeError:
        found = repr(value)
    if value is None or found not in allowed:
        raise bad_value(where, name, f"be one of {', '.join(allowed)}", found)


def no_resources(where: str, resources: object, sample_weights: object = None) -> None:
    """Raise unless cuVS's `resources` is left at None, and its `sample_weights` of k-means."""
    if resources is not None:
        got, way_out = type(resources).__name__, "leave it out: work goes to CuPy's current stream"
        raise bad_type(where, "resources", "be None", got, way_out)
    if sample_weights is not None:
        got, way_out = type(sample_weights).__name__, "every row weighs the same"
        raise bad_type(where, "sample_weights", "be None", got, way_out)


def matrix(where: str, name: str, array: Any, dim: int | None = None) -> None:
    """Raise unless `array` has two axes, a dtype of DTYPES, and `dim` columns if that is given."""
    columns = "dim" if dim is None else str(dim)
    if array.ndim != 2 or (dim is not None and array.shape[1] != dim) or array.shape[1] == 0:
        hint = None
        if array.ndim == 1 and dim is not None and array.shape[0] == dim:
            hint = f"pass {name}[None, :] for a single row"
        raise bad_value(where, name, f"have shape (n, {columns})", tuple(array.shape), hint)
    if str(array.dtype) not in DTYPES:
        raise bad_type(
            where,
            name,
            f"be {', '.join(DTYPES[:-1])} or {DTYPES[-1]}",
            array.dtype,
            f"convert it with {f'{name}.' * name.isidentifier()}astype(numpy.float32)",
        )


def finite(where: str, name: str, rows: Any, first_row: int = 0, numbers: Any = None) -> None:
    """Raise at the first row (n, dim) of host data that has NaN, inf or a huge value.

    The error counts rows from `first_row`, or names them by `numbers` (n,).
    """
    if rows.dtype.kind != "f" or rows.size == 0:
        return
    low, high = float(rows.min()), float(rows.max())  # NaN spreads to both
    if low >= -LARGEST and high <= LARGEST:
        return
    bad = ~(np.abs(rows.astype(np.float32)) <= LARGEST)
    row, column = (int(i) for i in np.argwhere(bad)[0])
    place = first_row + row if numbers is None else int(numbers[row])
    raise ValueError(
        message(
            where,
            name,
            f"be finite and at most {LARGEST:.3g} in magnitude",
            f"{rows[row, column]} in row {place}, column {column}",
        )
    )
