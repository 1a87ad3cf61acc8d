"""Join scopes: calls inside which samples may part, and at whose return they are together again."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from dynarl.autograd import Tensor
from dynarl.autograd.dispatch import set_batched_call
from dynarl.batching.eager.execution import Raised, run_scope, state
from dynarl.batching.groups.group import PerSampleError
from dynarl.batching.random import FUNCTIONS
from dynarl.batching.values.pytree import join, node_of
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.nn import Linear, Sequential
from dynarl.nn.containers import _is_plain

__all__ = ["PLAIN", "call_scope", "given", "joined", "module_scopes", "per_sample"]


def call_scope(key: Any, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Call a function in a scope of its own; outside a batched call, just call it."""
    context = state.context
    if context is None:
        return function(*args, **kwargs)
    if context.scheduler is not None:
        return context.scheduler.call_scope(context, key, function, args, kwargs)
    if context.position < len(context.log):
        logged = context.recall(key)
        return function(*args, **kwargs) if logged is PLAIN else given(logged)
    group, run = context.group, context.run
    if group.size == 1:
        return function(*args, **kwargs)
    context.step()
    for a in args:
        if a.__class__ in _CHANGEABLE:
            results = None if key in run.plain else _unless_changed(key, function, args, kwargs, context)
            break
    else:
        results = run_scope(function, args, kwargs, group, run, keep_errors=True)
    if results is None:
        context.remember(key, PLAIN)
        return function(*args, **kwargs)
    return joined(key, results, context)


def joined(key: Any, results: list[tuple[Any, Any]], context: Any) -> Any:
    """Join the results of a scope's parts, log that as the scope's own result, and return it."""
    group = context.group
    if len(results) == 1:
        result = results[0][1]
        context.remember(key, result)
        return given(result)
    returned = [entry for entry in results if entry[1].__class__ is not Raised]
    groups: list[tuple[Any, Any]] = []
    if returned:
        groups = join(returned, group, numbers=False, apart=context.run.keeps_paths())
    if len(returned) < len(results):
        groups += [(error, part) for part, error in results if error.__class__ is Raised]
        groups.sort(key=lambda entry: -entry[1].size)
    if len(groups) == 1:
        result = groups[0][0]
        context.remember(key, result)
        return given(result)
    return given(context.narrow(groups, key))


_CHANGEABLE = (list, dict, set)
PLAIN = object()  # in a log: this call was no scope


def given(result: Any) -> Any:
    """Return a logged result for the program to keep: containers of its own, for it may change them."""
    kind = result.__class__
    if kind is SampleTensor:
        return result
    if kind is Raised:
        raise result.again()
    return fresh(result)


def fresh(tree: Any) -> Any:
    """Return a tree with new lists, dicts and distributions (which keep what they computed) and the same leaves."""
    kind = tree.__class__
    if kind is tuple:
        return tuple([part if part.__class__ is SampleTensor else fresh(part) for part in tree])
    if kind is list:
        return [fresh(part) for part in tree]
    if kind is dict:
        return {key: fresh(part) for key, part in tree.items()}
    if kind in _KEPT:
        return tree
    node = node_of(kind)
    return tree if node is None else node[1](*[fresh(part) for part in node[0](tree)])


_KEPT = (Tensor, int, float, bool, str, type(None))


def _unless_changed(key: Any, function: Any, args: Any, kwargs: Any, context: Any) -> Any:
    """Run a scope that is given lists, dicts or sets; if it changed one, undo that and return None.

    Such a function must run as a plain part of its caller, where each path has its own containers by replay.
    """
    held = [(a, a.copy()) for a in args if a.__class__ in _CHANGEABLE]
    mark = context.run.mark()
    try:
        results = run_scope(function, args, kwargs, context.group, context.run, keep_errors=True)
    except PerSampleError:
        if not any(_differs(a, before) for a, before in held):
            raise
        results = None
    if any(_differs(a, before) for a, before in held):
        results = context.run.error = None
        context.run.rewind(mark)
        context.run.plain.add(key)
        for a, before in held:
            a.clear()
            if isinstance(a, list):
                a.extend(before)
            else:
                a.update(before)
    return results


def _differs(a: Any, before: Any) -> bool:
    if len(a) != len(before):
        return True
    if a.__class__ is set:
        return bool(a != before)
    pairs = zip(a, before) if a.__class__ is list else zip([*a, *a.values()], [*before, *before.values()])
    return any(x is not y and not (x.__class__ is str and x == y) for x, y in pairs)


class module_scopes:
    """Let calls of Modules be join scopes inside a `with` block."""

    _open = 0

    def __enter__(self) -> None:
        module_scopes._open += 1
        set_batched_call(_call_module, FUNCTIONS)

    def __exit__(self, *error: object) -> None:
        module_scopes._open -= 1
        if not module_scopes._open:
            set_batched_call(None, None)


def _call_module(module: Any, args: Any, kwargs: Any) -> Any:
    context = state.context
    if context is not None and context.scheduler is not None:
        return context.scheduler.call_scope(context, module, None, args, kwargs)
    if module._straight:
        return _call_straight(module, args, kwargs)
    return call_scope(module, function_of(module), args, kwargs)


def _call_straight(module: Any, args: Any, kwargs: Any) -> Any:
    """Call a module of this package, which does not branch: one entry of the log stands for all it does."""
    context = state.context
    if (
        len(args) == 1
        and args[0].__class__ is SampleTensor
        and context is not None
        and context.position == len(context.log)
    ):
        x, kind, group = args[0], module.__class__, context.group
        if _is_plain(module, kind) and (kind is Linear or (kind is Sequential and module.is_affine())):
            rows = x.tensor if x.group is group else x.at(group)
            if rows.array.ndim > 1:
                return context.result(module, module.forward(rows))
    function = module.forward if module._hooks is None else functools.partial(_with_hooks, module)
    if context is None or (context.group.size == 1 and context.position == len(context.log)):
        return function(*args, **kwargs)
    log, position, group = context.log, context.position, context.group
    if position < len(log):
        return given(context.recall(module)) if log[position][0] is module else function(*args, **kwargs)
    result = function(*args, **kwargs)
    if context.group is group:  # also where only shared tensors went in: the next call may be the same module's
        del log[position:]
        log.append((module, result))
        context.position = position + 1
        return given(result)
    return result


def function_of(module: Any) -> Callable[..., Any]:
    """Return what a call of a module runs."""
    if module._hooks is not None:
        return functools.partial(_with_hooks, module)
    forward: Callable[..., Any] = module.forward if module._straight else forward_of(module)
    return forward


def forward_of(module: Any) -> Callable[..., Any]:
    """Return a module's forward with its plain `if` statements as join scopes."""
    from dynarl.batching.scopes.rewrite import rewritten

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
