"""Python's built-in functions as rewritten programs call them: they know the values of per-sample programs."""

from __future__ import annotations

from typing import Any

from dynarl.batching.values.sample_number import SampleNumber

__all__ = ["builtin"]


def _isinstance(x: Any, kinds: Any) -> bool:
    """Return whether a number that differs between samples is a number, as the plain program would see it."""
    return issubclass(x.kind, kinds) if x.__class__ is SampleNumber else isinstance(x, kinds)


def _type(x: Any, *more: Any) -> Any:
    return type(x, *more) if more or x.__class__ is not SampleNumber else x.kind


_BUILTINS: dict[Any, Any] = {isinstance: _isinstance, type: _type}
"""By built-in function: what runs in its place."""


def builtin(function: Any) -> Any:
    """Return what a rewritten program calls in place of `isinstance`, `type` or another function of that name."""
    try:
        return _BUILTINS.get(function, function)
    except TypeError:  # the user's own, which has no hash
        return function
