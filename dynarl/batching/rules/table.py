"""The table of rules: how an operation that knows nothing of the hidden batch axis is applied to rows of samples.

A rule is one of

- None: the operation has one operand and acts on each element, so it needs no change;
- a function `rule(operands, batched, n, static)`: `batched[i]` says whether operand i has the batch axis [n, ...];
  the others are shared by all samples;
- an `ElementwiseRule` or a `LeadingAxesRule`, for which the eager execution has shortcuts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dynarl.autograd.grad_mode import no_grad
from dynarl.autograd.ops import shape
from dynarl.batching.groups.group import PerSampleError

__all__ = [
    "RULES",
    "SHAREABLE",
    "ElementwiseRule",
    "LeadingAxesRule",
    "ViewRule",
    "apply_rule",
    "by_row",
    "of_one_sample",
    "rule_of",
]

Operation = Callable[..., Any]
Flags = Sequence[bool]
Rule = Callable[[Sequence[Any], Flags, int, dict[str, Any]], Any]


class ElementwiseRule:
    """The rule of an operation of two operands that broadcast.

    `general` covers different ranks and dtypes; `by_rank` is an operation on the rows of two per-sample tensors that
    differ in rank only.
    """

    __slots__ = ("by_rank", "general")

    def __init__(self, general: Rule, by_rank: Operation | None = None) -> None:
        self.general, self.by_rank = general, by_rank


class LeadingAxesRule:
    """The rule of an operation on [..., in] with parameters that all samples share; `check` refuses anything else."""

    __slots__ = ("check",)

    def __init__(self, check: Callable[[Any, Flags], None]) -> None:
        self.check = check


class ViewRule:
    """The rule of an operation with one operand whose result shares memory with it in plain Python.

    `shares(rows, static)` says whether it does, None if that is not known: reshape copies where memory needs it.
    """

    __slots__ = ("rule", "shares")

    def __init__(self, rule: Rule, shares: Callable[[Any, dict[str, Any]], bool | None]) -> None:
        self.rule, self.shares = rule, shares

    def __call__(self, operands: Sequence[Any], batched: Flags, n: int, static: dict[str, Any]) -> Any:
        return self.rule(operands, batched, n, static)


RULES: dict[Operation, Rule | ElementwiseRule | LeadingAxesRule | ViewRule | None] = {}

SHAREABLE: set[Operation] = set()
"""Operations that accept a row for each sample in place of a number or small tensor that all samples share.

In lock-step, calls with different numbers can then run as one.
"""


def by_row(op: Operation) -> Rule:
    """Return the rule of an operation that has no other: one sample after the other, always right and never fast."""

    def rule(operands: Sequence[Any], batched: Flags, n: int, static: dict[str, Any]) -> Any:
        rows = [op(*(x[i] if own else x for x, own in zip(operands, batched)), **static) for i in range(n)]
        if len({tuple(row.shape) for row in rows}) > 1:
            raise PerSampleError(f"{op.__name__}: gives samples different shapes, which cannot be batched")
        return shape.stack(rows)

    return rule


def of_one_sample(error: Exception, op: Any, operands: Sequence[Any], static: dict[str, Any]) -> Exception:
    """Return the error that an operation raises for one sample's plain Tensors: its shapes are those of the program.

    `error` is what it raised for the rows of all samples; it stays if one sample alone raises none.
    """
    if isinstance(error, PerSampleError):
        return error
    try:
        with no_grad():
            getattr(op, "alone", op)(*operands, **static)
    except Exception as alone:
        return alone.with_traceback(error.__traceback__)
    return error


def rule_of(op: Operation) -> Any:
    """Return the rule of an operation, `by_row` if it has none."""
    if op not in RULES:
        RULES[op] = by_row(op)
    return RULES[op]


def apply_rule(op: Operation, operands: Sequence[Any], batched: Flags, n: int, static: dict[str, Any]) -> Any:
    """Apply an operation to rows."""
    rule = rule_of(op)
    if rule is None:
        return op(operands[0], **static)
    if rule.__class__ is ElementwiseRule:
        return rule.general(operands, batched, n, static)
    if rule.__class__ is LeadingAxesRule:
        rule.check(operands[0], batched)
        return op(*operands, **static)
    return rule(operands, batched, n, static)
