"""Dispatch: how operations, functions and Modules hand a call to dynarl.batching when it has per-sample tensors.

A per-sample tensor (`dynarl.batching`'s SampleTensor) stands for one sample of a batch. The engine, nn and
distributions do not import batching, which is built on them; batching sets the variables below instead. They are the
only wiring of this kind in the lower packages. All of them are read as `dispatch.NAME`, because they change.

    variable          set by (all calls are in batching/wiring.py)   when
    ----------------  ---------------------------------------------  --------------------------------------------
    sample_type       register_sample_type                           once, when dynarl.batching is imported;
    apply_per_sample  register_sample_type                           before that no object has the sample type
    in_batched_call   register_sample_type
    batching_rules    update of this dict                            once, when dynarl.batching is imported
    refuse_attribute  register_refusals                              once, when dynarl.batching is imported;
    refuse_memory     register_refusals                              called only while batched calls run
    call_module       set_batched_call                               while batched calls run, None otherwise
    random_functions  set_batched_call
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

__all__ = [
    "batching_rules",
    "draw_per_sample",
    "overridable",
    "overridable_random",
    "register_refusals",
    "register_sample_type",
    "set_batched_call",
]

_F = TypeVar("_F", bound=Callable[..., Any])
_Apply = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]


class _Unregistered:
    """The sample type before dynarl.batching is imported: no object has this class."""


sample_type: Any = _Unregistered
"""The class of per-sample tensors. Tested by identity (`x.__class__ is dispatch.sample_type`).

It is a subclass of Tensor without an array of its own, so this test comes before `isinstance(x, Tensor)` where arrays
are read.
"""

apply_per_sample: _Apply | None = None
"""Apply an operation to operands of which at least one is a per-sample tensor: `(operation, operands, static)`."""

in_batched_call: Callable[[], bool] = bool
"""Return whether the running code is a program of one sample."""

batching_rules: dict[str, Callable[..., Any]] = {}
"""By function name: what replaces a function decorated with `overridable` when an operand is a per-sample tensor."""


def refuse_attribute(module: Any, name: str, value: Any) -> None:
    """Raise if a program sets an attribute of a Module that exists before its call."""


def refuse_memory(x: Any, name: str) -> None:
    """Raise if a program changes a Tensor in place, by the method `name`, that exists before its call."""


call_module: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any] | None = None
"""Run `module(*args, **kwargs)` so that samples that diverge in the module are joined behind it."""

random_functions: dict[str, Callable[..., Any]] | None = None
"""By function name: what draws separate random numbers for each sample."""


def register_sample_type(kind: type, apply: _Apply, active: Callable[[], bool]) -> None:
    """Set the class of per-sample tensors, the function that applies operations to them, and `in_batched_call`."""
    global sample_type, apply_per_sample, in_batched_call
    sample_type, apply_per_sample, in_batched_call = kind, apply, active


def register_refusals(attribute: Callable[[Any, str, Any], None], memory: Callable[[Any, str], None]) -> None:
    """Set the functions that keep programs from changing what exists before their call."""
    global refuse_attribute, refuse_memory
    refuse_attribute, refuse_memory = attribute, memory  # type: ignore[assignment]


def set_batched_call(
    call: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any] | None,
    random: dict[str, Callable[..., Any]] | None,
) -> None:
    """Set the functions that run Module calls and draw random numbers; (None, None) when the last batched call ends."""
    global call_module, random_functions
    call_module, random_functions = call, random


def draw_per_sample(name: str, *args: Any, **kwargs: Any) -> Any:
    """Draw separate random numbers for each sample with the random function `name`."""
    if random_functions is None:
        raise RuntimeError(f"{name}: a per-sample tensor was used after its batched call had ended")
    return random_functions[name](*args, **kwargs)


def overridable_random(function: _F) -> _F:
    """Decorate a function that draws from the default generator: in a batched call each sample draws separately."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if random_functions is not None and in_batched_call() and kwargs.get("generator") is None:
            return random_functions[function.__name__](*args, **kwargs)
        return function(*args, **kwargs)

    return call  # type: ignore[return-value]


def overridable(function: _F) -> _F:
    """Decorate a function that reads raw arrays: for a per-sample tensor its entry in `batching_rules` runs instead."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        for a in args:
            if a.__class__ is sample_type:
                return batching_rules[function.__name__](*args, **kwargs)
        return function(*args, **kwargs)

    return call  # type: ignore[return-value]
