"""Python's built-in functions as rewritten programs call them: they know the values of per-sample programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dynarl.batching.groups.execution import state
from dynarl.batching.groups.group import SampleGroup
from dynarl.batching.values.sample_number import SampleNumber, kind_of_number, numbers_of
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.batching.values.show import show

__all__ = ["builtin", "item", "library"]


def builtin(function: Any) -> Any:
    """Return what a rewritten program calls in place of `int` or another built-in function, or the function itself."""
    try:
        return _BUILTINS.get(function, function)
    except TypeError:  # the user's own function of that name, which has no hash
        return function


def item(x: Any) -> Any:
    """Return `x.item()`; a number that differs between samples does not part them."""
    if x.__class__ is SampleTensor and state.execution is not None:
        return state.execution.number(x, None)
    return x.item()


def library(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of a library as programs call it: numbers that differ between samples part them first."""

    def call(*args: Any, **kwargs: Any) -> Any:
        args = tuple([x.read() if type(x) is SampleNumber else x for x in args])
        return function(*args, **{k: x.read() if type(x) is SampleNumber else x for k, x in kwargs.items()})

    return call if state.execution is not None else function


def _converting(kind: type) -> Callable[..., Any]:
    """Return `int`, `float` or `bool` that gives each sample its own number, without parting them."""

    def convert(*args: Any, **options: Any) -> Any:
        if len(args) == 1 and not options and state.execution is not None:
            (x,) = args
            if type(x) is SampleTensor:
                return state.execution.number(x, kind)
            if type(x) is SampleNumber:
                return x.apply(kind)
        return kind(*args, **options)

    return convert


def _choosing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `max` or `min` that chooses for each sample among numbers, without parting them."""

    def choose(*values: Any, **options: Any) -> Any:
        if len(values) == 1 and state.execution is not None and options.keys() <= {"key"}:
            items = list(values[0])
            return _best_of(items, options.get("key"), function) if items else function(items)
        if len(values) > 1 and not options:
            own = next((x for x in values if type(x) is SampleNumber), None)
            if own is not None and all([kind_of_number(x) is own.kind for x in values]):
                return own.apply(lambda *numbers: function(numbers), *values)
        return function(*values, **options)

    return choose


def _best_of(items: list[Any], key: Callable[[Any], Any] | None, function: Callable[..., Any]) -> Any:
    """Return `max` or `min` of items; where their keys are numbers that differ between samples, each sample's own."""
    keys = items if key is None else [key(x) for x in items]
    kinds = {kind_of_number(x) for x in (*items, *keys)}
    if not any([type(x) is SampleNumber for x in keys]) or None in kinds or bool in kinds or len(items) < 2:
        return _first_best(items, keys, function)
    better = np.greater if function is max else np.less
    group = min([x.group for x in (*items, *keys) if type(x) is SampleNumber], key=lambda own: own.size)
    rows = [_rows(x, group) for x in keys]
    best, place = rows[0], np.zeros(group.size, np.int64)
    for i, row in enumerate(rows[1:], 1):
        found = better(row, best)  # as Python's: the first of equal ones, and NaN is never better
        best, place = np.where(found, row, best), np.where(found, i, place)
    if len({kind_of_number(x) for x in items}) > 1:
        return items[int(SampleNumber(place, int, group)) if place.any() else 0]
    return numbers_of(np.array([_rows(x, group) for x in items])[place, np.arange(group.size)], group)


def _first_best(items: list[Any], keys: list[Any], function: Callable[..., Any]) -> Any:
    """Return the item with the best key as `max` and `min` do, whose keys are computed already."""
    return items[function(range(len(items)), key=keys.__getitem__)]


def _rows(x: Any, group: SampleGroup) -> Any:
    return x.at(group) if type(x) is SampleNumber else np.full(group.size, x)


def _type(x: Any, *more: Any) -> Any:
    return type(x, *more) if more or x.__class__ is not SampleNumber else x.kind


_BUILTINS: dict[Any, Callable[..., Any]] = {
    print: show,
    type: _type,
    int: _converting(int),
    float: _converting(float),
    bool: _converting(bool),
    max: _choosing(max),
    min: _choosing(min),
}
