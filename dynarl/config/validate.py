"""Checks of configuration fields. A message names the field, the condition and the value."""

from __future__ import annotations

import math
import numbers
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

__all__ = ["fraction", "least_one", "one_of", "positive", "typed"]

_EXPECTED = {int: "a whole number", float: "a number", bool: "True or False", str: "a string", types.NoneType: "None"}


def typed(name: str, value: Any, kind: Any) -> Any:
    """Return the value of a field in Python's types: a whole float for an int as int, NumPy's scalars as numbers.

    Raises TypeError for a value of another type, ValueError for a number that no setting can be: nan, infinity where
    the field gives it no meaning, and what neither a float64 nor an int64 holds.
    """
    if isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_):
        _check_number(name, value)
    if not _fits(value, kind):
        raise TypeError(f"{name}: must be {_description(kind)}, got {value!r}")
    return int(value) if kind is int else _python(value)


_MAY_BE_INFINITE = ("max_grad_norm", "rho_bar", "c_bar")
"""Limits, for which infinity means none."""


def _check_number(name: str, value: Any) -> None:
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{name}: must be below 1.8e308, got a whole number of {len(str(value))} digits") from None
    if math.isnan(number):
        raise ValueError(f"{name}: must be a number, got nan")
    if math.isinf(number) and not (number > 0 and name in _MAY_BE_INFINITE):
        raise ValueError(f"{name}: must be finite, got {number}")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{name}: must fit 64 bits, got {value}")


def _python(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (tuple, list):
        return type(value)(map(_python, value))
    return {key: _python(item) for key, item in value.items()} if type(value) is dict else value


def _fits(value: Any, kind: Any) -> bool:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin in (tuple, list):
        return isinstance(value, tuple | list) and all(_fits(item, inner[0]) for item in value)
    if origin is dict:
        return isinstance(value, Mapping)
    if kind is int:
        return _fits(value, float) and float(value).is_integer() and abs(value) < 2**63
    if kind is float:
        return isinstance(value, numbers.Real) and not isinstance(value, bool)
    if kind is bool:
        return isinstance(value, bool | np.bool_)
    return kind not in _EXPECTED or isinstance(value, kind)  # a Literal has its own check


def _description(kind: Any) -> str:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_description, inner))
    if origin in (tuple, list):
        return f"a sequence, each {_description(inner[0])}"
    return "a mapping" if origin is dict else _EXPECTED.get(kind, str(kind))


def least_one(*names: str, config: Any) -> None:
    """Raise ValueError for a count below 1."""
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name}: must be at least 1, got {getattr(config, name)}")


def positive(*names: str, config: Any) -> None:
    """Raise ValueError for a number that is not above 0; None is accepted."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise ValueError(f"{name}: must be above 0, got {value}")


def fraction(*names: str, config: Any) -> None:
    """Raise ValueError for a number outside [0, 1]."""
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            raise ValueError(f"{name}: must lie in [0, 1], got {getattr(config, name)}")


def one_of(name: str, choices: Iterable[Any], *, config: Any) -> None:
    """Raise ValueError for a value that is none of the choices."""
    choices = tuple(choices)
    if getattr(config, name) not in choices:
        raise ValueError(f"{name}: must be one of {', '.join(map(repr, choices))}, got {getattr(config, name)!r}")
