"""Arguments of registered policies that had another name in earlier versions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

__all__ = ["RENAMED_ARGUMENTS", "migrated_arguments", "refuse_old_arguments", "renames_arguments"]

T = TypeVar("T")

# {name of the policy: {name of earlier versions: name of today}}
RENAMED_ARGUMENTS = {
    "forgetful_gru": {"told": "reset_field", "heed": "reset_mode"},
    "tree_planner": {"anew": "reset_field"},
}


def migrated_arguments(policy: Any, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the `policy_kwargs` of a registered policy under today's names, and one line for each that changed."""
    names = RENAMED_ARGUMENTS.get(policy, {}) if isinstance(policy, str) else {}
    changes = [f"policy_kwargs: {name} of {policy} is now called {names[name]}" for name in arguments if name in names]
    return {names.get(name, name): value for name, value in arguments.items()}, changes


def renames_arguments(policy: str) -> Callable[[type[T]], type[T]]:
    """Make the constructor of a registered policy refuse arguments of earlier versions, naming those of today."""

    def decorate(cls: type[T]) -> type[T]:
        made: Any = cls
        made.renamed_arguments = RENAMED_ARGUMENTS[policy]
        initialize = made.__init__

        @functools.wraps(initialize)
        def checked(self: Any, *spaces: Any, **arguments: Any) -> None:
            refuse_old_arguments(cls, arguments)
            initialize(self, *spaces, **arguments)

        made.__init__ = checked
        return cls

    return decorate


def refuse_old_arguments(factory: Any, names: Iterable[str]) -> None:
    """Raise TypeError for an argument of earlier versions in a call of a policy's class; others have none."""
    renamed = getattr(factory, "renamed_arguments", {})
    for name in names:
        if name in renamed:
            raise TypeError(f"{factory.__name__}: {name} is now called {renamed[name]}")
