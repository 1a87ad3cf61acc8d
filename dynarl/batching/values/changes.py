"""Changes in place at the borders of scopes: each path of a scope begins with the tensors as they were, then they join.

`run.undo` lists what tensors held before each change (see rules/change_in_place.py). A scope remembers its length at
the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dynarl.autograd import enable_grad
from dynarl.batching.groups.group import SampleGroup
from dynarl.batching.groups.run import BatchedRun, Change
from dynarl.batching.values.join import join
from dynarl.batching.values.pytree import map_leaves
from dynarl.batching.values.sample_tensor import STALE, SampleTensor
from dynarl.batching.values.shared_memory import origin_of

__all__ = ["Changed", "frozen", "held_by", "join_changes", "keep_others", "roll_back", "set_state", "states_since"]


class Changed:
    """The result of a scope, and what the tensors hold that it changed in place."""

    __slots__ = ("result", "run", "states")

    def __init__(self, run: BatchedRun, result: Any, states: list[Change]) -> None:
        self.run, self.result, self.states = run, result, states

    def again(self) -> Any:
        """Change the tensors as the scope did, and return its result."""
        for x, held, group in self.states:
            self.run.undo.append(held_by(x))
            set_state(x, held, group)
        return self.result


def held_by(x: Any) -> Change:
    """Return (x, its Tensor, its group), for `set_state`."""
    return x, x.tensor, x.group


def set_state(x: Any, held: Any, group: SampleGroup) -> None:
    """Let x hold a Tensor [n, ...] of a group."""
    x.tensor, x.group, x._parts = held, group, None


def roll_back(run: BatchedRun, length: int) -> None:
    """Undo the changes in place since `run.undo` had a length."""
    undo = run.undo
    while len(undo) > length:
        set_state(*undo.pop())


def states_since(run: BatchedRun, length: int) -> list[Change]:
    """Return what the tensors hold that were changed in place since `run.undo` had a length."""
    return [held_by(x) for x in {id(x): x for x, _, _ in run.undo[length:]}.values()]


def frozen(result: Any) -> Any:
    """Return a program's result with its tensors as they are now: the next path finds them as they were before."""
    return map_leaves(_copied, result)


def _copied(x: Any) -> Any:
    if x.__class__ is not SampleTensor:
        return x
    if x.group is STALE:
        x._refresh()
    return SampleTensor(x.tensor, x.group)


def join_changes(
    run: BatchedRun, length: int, parts: Sequence[SampleGroup], finals: Sequence[list[Change]], group: SampleGroup
) -> None:
    """Let every tensor that some paths of a scope changed hold what it held at the end of each path.

    `finals` are the states at the end of the paths, `parts` their groups. A result of a path may be such a tensor: its
    rows of that path are the right ones.
    """
    roll_back(run, length)
    finals = [*finals, *[[] for _ in range(len(parts) - len(finals))]]
    ends = [{id(x): (held, own) for x, held, own in final} for final in finals]
    for x in {id(x): x for final in finals for x, _, _ in final}.values():
        before = held_by(x)[1:]
        run.undo.append(held_by(x))
        if origin_of(x).__class__ is tuple:  # a view: taken again from its base, which is joined like any other
            x.group = STALE
        else:
            # A tensor that one path made has no rows of the others.
            having = [(p, end.get(id(x), before)) for p, end in zip(parts, ends) if id(x) in end or p.within(before[1])]
            _set_joined(x, [(part, SampleTensor(*held)) for part, held in having], group)


def keep_others(run: BatchedRun, length: int) -> None:
    """After changes by a part of a loop's samples, let the tensors hold the rows of the others as well."""
    for x, held, own in states_since(run, length):
        _, before, old = next(change for change in run.undo[length:] if change[0] is x)
        if own is STALE or old is STALE or own is old or not own.within(old):
            continue
        rest = old.part(np.setdiff1d(np.arange(old.size), own.rows_in(old)))
        if rest.size:
            _set_joined(x, [(own, SampleTensor(held, own)), (rest, SampleTensor(before, old))], old)


def _set_joined(x: Any, values: list[tuple[SampleGroup, Any]], group: SampleGroup) -> None:
    with enable_grad():  # under no_grad a change in place leaves the history as it is
        ((joined, target),) = join(values, group)
        set_state(x, joined.at(target), target)
