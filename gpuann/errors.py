"""What goes wrong, said in one form: place, argument, rule, value, way out.

    ivf_pq.search: queries must have shape (n, 96), got (10, 128)
    ivf_flat.build: n_lists must be at most the 100 rows given, got 1024; use n_lists=10

Value and shape are ValueError, dtype and kind are TypeError, the machine is BackendError.
"""

import sys
import warnings


class BackendError(RuntimeError):
    """The machine cannot do what was asked: no such device, driver or package."""


def message(where: str, name: str, rule: str, got: object, way_out: str | None = None) -> str:
    """`{where}: {name} must {rule}, got {got}[; {way_out}]`."""
    text = f"{where}: {name} must {rule}, got {got}"
    return f"{text}; {way_out}" if way_out else text


def bad_value(
    where: str, name: str, rule: str, got: object, way_out: str | None = None
) -> ValueError:
    """A ValueError in the house form, to be raised by the caller."""
    return ValueError(message(where, name, rule, got, way_out))


def bad_type(
    where: str, name: str, rule: str, got: object, way_out: str | None = None
) -> TypeError:
    """A TypeError in the house form, to be raised by the caller."""
    return TypeError(message(where, name, rule, got, way_out))


def warn(text: str) -> None:
    """A UserWarning at the line outside of this package that led to it."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("gpuann."):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, UserWarning, stacklevel=level)
