"""Views of per-sample tensors: which tensors of a program share memory in plain Python.

Underneath nothing is shared: a change in place gives a SampleTensor another Tensor, and its views are taken again when
they are used. `SampleTensor._base` is unset for a tensor that is no view and has none; it is `LINKS_OF_ARGUMENT` for
the caller's memory and views of it; else it is `[origin, views]`. The origin is None for a tensor with memory of its
own, `(base, operation, static)` for a view, and a `Shared` where it is not known which memory the samples share.
`views` are weak references. All this is noted only in programs that change tensors in place: the first change raises
`TrackViews`, and the program runs again with `run.tracks_views`.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from dynarl.batching.groups.execution import state
from dynarl.batching.groups.group import SampleGroup
from dynarl.batching.values.sample_tensor import SampleTensor

__all__ = [
    "ARGUMENT", "LINKS_OF_ARGUMENT", "Shared", "TrackViews", "argument", "note_joined", "note_view",
    "origin_of", "tracks_views", "views_of",
]  # fmt: skip

ARGUMENT = "an argument of the program"
LINKS_OF_ARGUMENT = (ARGUMENT, ())
_ref = weakref.ref


class Shared:
    """The origin of a tensor that may share memory with others, it is not known how: they are weakly referenced."""

    __slots__ = ("others",)

    def __init__(self, others: list[Any]) -> None:
        self.others = others

    def alive(self) -> bool:
        """Return whether one of the others still exists."""
        return any(other is ARGUMENT or other() is not None for other in self.others)


class TrackViews(BaseException):
    """Raised at a program's first change in place: it runs again, and notes which tensors share memory."""


def tracks_views() -> bool:
    """Return whether the running program changes tensors in place, so that views must be noted."""
    execution = state.execution
    return execution is not None and execution.run.tracks_views


def argument(tensor: Any, group: SampleGroup) -> SampleTensor:
    """Return a SampleTensor of rows that are the caller's."""
    x = SampleTensor(tensor, group)
    x._base = LINKS_OF_ARGUMENT
    return x


def note_view(x: Any, view: Any, op: Any, static: dict[str, Any] | None) -> None:
    """Note that `view` is `op(x, **static)` and shares its memory; with static None it is not known whether it does."""
    try:
        links = x._base
    except AttributeError:
        links = x._base = [None, []]
    if links is LINKS_OF_ARGUMENT:
        view._base = links
        return
    links[1].append(_ref(view))
    view._base = [(x, op, static) if static is not None else Shared([_ref(x)]), []]


def note_joined(joined: Any, parts: Sequence[Any]) -> None:
    """Note that `joined` is one of the parts for each sample: it shares memory with them while they exist."""
    others: list[Any] = []
    for part in parts:
        if part.__class__ is SampleTensor and part is not joined:
            _share(joined, part, others)
    if others:
        joined._base = [Shared(others), []]


def _share(joined: Any, x: Any, others: list[Any]) -> None:
    """Note that `joined` shares memory with x and with what x is a view of."""
    try:
        links = x._base
    except AttributeError:
        links = x._base = [None, []]
    if links is LINKS_OF_ARGUMENT:
        others.append(ARGUMENT)
        return
    origin = links[0]
    links[1].append(_ref(joined))
    others.append(_ref(x))
    if origin.__class__ is tuple:
        _share(joined, origin[0], others)
    elif origin.__class__ is Shared:
        for other in origin.others:
            if other is ARGUMENT:
                others.append(other)
            elif (alive := other()) is not None and alive is not x:
                _share(joined, alive, others)


def origin_of(x: Any) -> Any:
    """Return the origin of a tensor: see the module's docstring."""
    links = getattr(x, "_base", None)
    return None if links is None else links[0]


def views_of(x: Any) -> list[SampleTensor]:
    """Return the views of a tensor that still exist, and forget the others."""
    links = getattr(x, "_base", None)
    if links is None or links is LINKS_OF_ARGUMENT:
        return []
    found = [(reference, view) for reference in links[1] if (view := reference()) is not None]
    links[1][:] = [reference for reference, _ in found]
    return [view for _, view in found]
