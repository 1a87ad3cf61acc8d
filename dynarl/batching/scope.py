"""Join scopes: calls inside which samples may part, and at whose return they are together again."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from dynarl.autograd.tape import set_lane_draws
from dynarl.batching.random import FUNCTIONS
from dynarl.batching.run import run_scope, state
from dynarl.batching.trees import join
from dynarl.nn import structure

__all__ = ["call_scope", "module_scopes", "per_sample"]


def call_scope(key: Any, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Call a function in a scope of its own; outside a batched call, just call it."""
    context = state.context
    if context is None or context.cohort.size == 1:
        return function(*args, **kwargs)
    if context.replaying():
        return context.recall(key)
    results = run_scope(function, args, kwargs, context.cohort, context.run)
    if len(results) == 1:
        result = results[0][1]
        context.remember(key, result)
        return result
    joined = join(results, context.cohort, numbers=False)
    if len(joined) == 1:
        result = joined[0][0]
        context.remember(key, result)
        return result
    return context.narrow(joined, key)


_open = 0


@contextlib.contextmanager
def module_scopes() -> Iterator[None]:
    """Let calls of Modules be join scopes inside."""
    global _open
    _open += 1
    structure.scope = _call_module
    set_lane_draws(FUNCTIONS)
    try:
        yield
    finally:
        _open -= 1
        if not _open:
            structure.scope = None
            set_lane_draws(None)


def _call_module(module: Any, args: Any, kwargs: Any) -> Any:
    function = forward_of(module) if module._hooks is None else functools.partial(_with_hooks, module)
    return call_scope(module, function, args, kwargs)


def forward_of(module: Any) -> Callable[..., Any]:
    """Return a module's forward with its plain `if` statements as join scopes."""
    from dynarl.batching.rewrite import rewritten

    if "forward" in module.__dict__:
        return module.forward
    return rewritten(type(module).forward).__get__(module)


def _with_hooks(module: Any, *args: Any, **kwargs: Any) -> Any:
    return module._hooks.call(module, args, kwargs)


def per_sample(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a function of per-sample tensors so that samples that part inside it are joined at its return.

    Without it (and outside Modules, whose calls are scopes already) a branch keeps its samples apart until the
    program ends, and the rest of the program runs once per path.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return call_scope(function.__code__, function, args, kwargs)

    return call
