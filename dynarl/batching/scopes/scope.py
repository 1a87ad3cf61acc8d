"""Join scopes around functions: samples that diverge inside are joined at the return."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from dynarl.batching.groups.execution import Operands, Operation, Static, state

__all__ = ["call_scope", "per_sample"]


def call_scope(key: object, function: Operation, args: Operands, kwargs: Static) -> Any:
    """Call a function in a scope of its own; outside a batched run, just call it. `key` identifies it in logs."""
    execution = state.execution
    if execution is None:
        return function(*args, **kwargs)
    return execution.call_scope(key, function, args, kwargs)


def per_sample(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a function of per-sample tensors so that samples that diverge inside it are joined at its return.

    Without it (and outside Modules, whose calls are scopes already) a branch that the rewrite cannot handle keeps its
    samples apart until the program ends, and the rest of the program runs once for each path.
    """
    # The key is the code object: a nested function is a new object in every execution, its code is the same.
    key = function.__code__

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return call_scope(key, function, args, kwargs)

    return call
