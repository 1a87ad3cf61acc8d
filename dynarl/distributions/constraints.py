"""Constraints on parameters and values: one cheap reduction to test, the elementwise mask only for the error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from dynarl.autograd import dispatch, xp


class Constraint(NamedTuple):
    """A condition on all elements: `holds` tests them quickly, `mask` returns which elements satisfy it."""

    text: str
    holds: Callable[[Any], bool]
    mask: Callable[[Any], Any]


def _has_no_nan(a: Any) -> bool:
    square = xp(a).vdot(a, a)  # NaN exactly where an element is; half the cost of isnan().any(), no warnings
    return bool(square == square)


def _between(low: float, high: float) -> Callable[[Any], bool]:
    return lambda a: not a.size or (bool(a.min() >= low) and bool(a.max() <= high))


REAL = Constraint("Real()", _has_no_nan, lambda a: a == a)
POSITIVE = Constraint("GreaterThan(lower_bound=0.0)", lambda a: not a.size or bool(a.min() > 0), lambda a: a > 0)
UNIT_INTERVAL = Constraint(
    "Interval(lower_bound=0.0, upper_bound=1.0)", _between(0.0, 1.0), lambda a: (a >= 0) & (a <= 1)
)
BOOLEAN = Constraint("Boolean()", lambda a: bool(((a == 0) | (a == 1)).all()), lambda a: (a == 0) | (a == 1))
OPEN_UNIT = Constraint(
    "Interval(lower_bound=-1.0, upper_bound=1.0)", _between(-1.0, 1.0), lambda a: (a >= -1) & (a <= 1)
)


NON_NEGATIVE_ROWS = Constraint(
    "Simplex() up to a factor: not negative, not all zero",
    lambda a: not a.size or (bool(a.min() >= 0) and bool(a.sum(axis=-1).min() > 0)),
    lambda a: (a >= 0) & (a.sum(axis=-1, keepdims=True) > 0),
)


def integer_interval(count: int) -> Constraint:
    """Return the constraint of class indices 0 ... count - 1."""
    return Constraint(
        f"IntegerInterval(lower_bound=0, upper_bound={count - 1})",
        _between(0, count - 1),
        lambda a: (a >= 0) & (a < count) & (a % 1 == 0),
    )


def check_parameter(distribution: Any, name: str, value: Any, constraint: Constraint) -> None:
    """Raise ValueError naming the parameter and its invalid values; all rows of a per-sample tensor are checked."""
    array = value.at(value.group).array if value.__class__ is dispatch.sample_type else value.array
    if not constraint.holds(array):
        raise ValueError(
            f"Expected parameter {name} (Tensor of shape {tuple(array.shape)}) of distribution {distribution!r} to "
            f"satisfy the constraint {constraint.text}, but found invalid values:\n{_invalid(array, constraint)}"
        )


def check_value(distribution: Any, array: Any, constraint: Constraint) -> None:
    """Raise ValueError when a value lies outside the distribution's support."""
    if not constraint.holds(array):
        raise ValueError(
            f"Expected value argument (Tensor of shape {tuple(array.shape)}) to be within the support "
            f"({constraint.text}) of the distribution {distribution!r}, but found invalid values:\n"
            f"{_invalid(array, constraint)}"
        )


def _invalid(array: Any, constraint: Constraint) -> Any:
    mask = xp(array).asarray(constraint.mask(array))
    return array[xp(array).broadcast_to(~mask, array.shape)]
