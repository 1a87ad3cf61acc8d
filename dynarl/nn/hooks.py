"""Forward hooks, in an object of their own: a module without hooks costs one attribute test per call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Hooks:
    """The hooks of one module: functions run before and after its `forward`."""

    def __init__(self) -> None:
        self.pre: list[tuple[Callable[..., Any], bool]] = []
        self.post: list[tuple[Callable[..., Any], bool, bool]] = []

    def __bool__(self) -> bool:
        return bool(self.pre or self.post)

    def call(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run pre-hooks, `module.forward` and hooks; a value that a hook returns replaces what it was given."""
        try:
            for hook, with_kwargs in tuple(self.pre):
                args, kwargs = _run_pre_hook(hook, with_kwargs, module, args, kwargs)
            result = module.forward(*args, **kwargs)
        except BaseException:
            for hook, with_kwargs, always_call in tuple(self.post):
                if always_call:
                    _run_hook(hook, with_kwargs, module, args, kwargs, None)
            raise
        for hook, with_kwargs, _ in tuple(self.post):
            result = _run_hook(hook, with_kwargs, module, args, kwargs, result)
        return result


def _run_pre_hook(
    hook: Callable[..., Any], with_kwargs: bool, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if with_kwargs:
        changed = hook(module, args, kwargs)
        if changed is None:
            return args, kwargs
        if not (isinstance(changed, tuple) and len(changed) == 2):
            raise RuntimeError(
                f"forward pre-hook: must return None or a tuple of (new_args, new_kwargs), got {changed}"
            )
        return changed
    changed = hook(module, args)
    if changed is None:
        return args, kwargs
    return (changed if isinstance(changed, tuple) else (changed,)), kwargs


def _run_hook(
    hook: Callable[..., Any],
    with_kwargs: bool,
    module: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    result: Any,
) -> Any:
    changed = hook(module, args, kwargs, result) if with_kwargs else hook(module, args, result)
    return result if changed is None else changed
