"""Calls of Modules: each is a join scope. This is where Modules, scopes and the rewrite meet."""

from __future__ import annotations

import functools
from typing import Any

from dynarl.batching.groups.execution import Operands, Operation, Static, state
from dynarl.batching.scopes.rewritten import rewritten
from dynarl.nn import Module

__all__ = ["call_module", "forward_of", "function_of"]


def call_module(module: Any, args: Operands, kwargs: Static) -> Any:
    """Run `module(*args, **kwargs)` in a scope of its own. Every call of a Module comes here in a batched run."""
    execution = state.execution
    if execution is None:  # another thread uses a Module while this one runs a batch
        return function_of(module)(*args, **kwargs)
    return execution.call_module(module, args, kwargs)


def function_of(module: Any) -> Operation:
    """Return the function that a call of a Module runs: with its hooks, and with joins unless it never branches."""
    if module._hooks is not None:
        return functools.partial(_with_hooks, module)
    forward: Operation = module.forward if module._straight else forward_of(module)
    return forward


def forward_of(module: Module) -> Operation:
    """Return a Module's `forward` with its `if` statements and loops as join scopes."""
    if "forward" in module.__dict__:
        replaced: Operation = module.forward
        return replaced
    forward: Operation = rewritten(type(module).forward).__get__(module)
    return forward


def _with_hooks(module: Any, *args: Any, **kwargs: Any) -> Any:
    return module._hooks.call(module, args, kwargs)
