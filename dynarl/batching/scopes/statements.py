"""Functions that rewritten statements call at run time: see `dynarl.batching.scopes.rewrite`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dynarl.batching.groups.execution import Operands, Step, state
from dynarl.batching.scopes.loops import changeable, run_loop
from dynarl.batching.scopes.scope import call_scope

__all__ = ["UNDEFINED", "get_name", "join_branch", "join_loop"]


class _Undefined:
    """The value of a name that is not assigned yet."""

    def __repr__(self) -> str:
        return "<undefined>"


UNDEFINED = _Undefined()


def get_name(names: dict[str, Any], name: str) -> Any:
    """Return the value of a local name, UNDEFINED if it has none."""
    return names.get(name, UNDEFINED)


def join_branch(branch: Callable[[], Any], names: dict[str, Any], touched: tuple[str, ...]) -> Any:
    """Run an `if` statement in a scope, or in place where a scope would be unsound or useless."""
    if state.execution is None or _any_changeable(names, touched):
        return branch()
    return call_scope(branch.__code__, branch, (), {})


def join_loop(
    step: Step, items: Any, names: dict[str, Any], touched: tuple[str, ...], outs: tuple[str, ...]
) -> tuple[int, Operands]:
    """Run a loop in a scope, or in place; return the exit it took and the values of the names it assigns."""
    plain = state.execution is None or _any_changeable(names, touched)
    return run_loop(step, items, tuple([names.get(name, UNDEFINED) for name in outs]), plain)


def _any_changeable(names: dict[str, Any], touched: tuple[str, ...]) -> bool:
    for name in touched:  # noqa: SIM110  (any() takes twice as long)
        if changeable(names.get(name)):
            return True
    return False
