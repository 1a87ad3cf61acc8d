"""What a batched call did, as text: groups, the lines that split samples, and where samples cannot join again."""

from __future__ import annotations

import warnings
from types import CodeType
from typing import Any

from dynarl.autograd.call_site import is_user_code, line_of
from dynarl.batching.groups.run import BatchedRun, name_of
from dynarl.batching.scopes.rewritten import why_unchanged
from dynarl.nn import Module

__all__ = ["explanation", "warn_of_repeated_work"]

_MOST_REPEATED = 3
"""Operations of a call, in multiples of those of the longest path, beyond which a program is worth a warning."""
_FEW = 64  # operations or samples: calls of fewer are not worth a warning


def explanation(program: Any, run: BatchedRun | None) -> str:
    """Describe the last call of a program: see `Batched.explain`."""
    if run is None:
        return "nothing was run yet"
    if run.plain:
        return f"{run.root.size} sample{'s' if run.root.size > 1 else ''}: one after the other, in plain Python"
    lines = [
        f"{run.root.size} samples: {run.groups + 1} groups, {run.operations} batched operations, "
        f"{run.replayed} replayed, {run.reads} values read"
    ]
    if run.lockstep:
        lines.append(f"  lockstep: {run.calls} calls of all paths ran as {run.kernels}")
    for line, splits in sorted(run.splits.items(), key=lambda entry: -len(entry[1])):
        shown = ", ".join("+".join(map(str, sizes)) for sizes in splits[:4]) + (", ..." if len(splits) > 4 else "")
        lines.append(f"  {line_of(line)}: split {len(splits)} times, rows {shown}")
    return "\n".join([*lines, *_edges(program, run)])


def _edges(program: Any, run: BatchedRun) -> list[str]:
    """Return a line for each statement and function whose samples stay apart behind it, with the reason."""
    found = [f"  {_place(key)}: samples that part here stay apart: {reason}" for key, reason in run.unscoped.items()]
    for function in _functions(program):
        reason = why_unchanged(function)
        if reason:
            found.append(
                f"  {_place(function.__code__)}: runs as it is written, samples that part stay apart: {reason}"
            )
    return found


def _place(key: object) -> str:
    if isinstance(key, CodeType):
        return f"{key.co_filename}:{key.co_firstlineno} in {key.co_name}"
    return f"calls of {name_of(type(key))}"


def _functions(program: Any) -> list[Any]:
    """Return the functions of the user that a program consists of, as far as that is known without running it."""
    if isinstance(program, Module):
        return [f for f in {type(m).forward for m in program.modules()} if is_user_code(f.__code__)]
    function = getattr(program, "__func__", getattr(program, "func", program))
    return [function] if hasattr(function, "__code__") else []


def warn_of_repeated_work(program: Any, run: BatchedRun) -> bool:
    """Warn if a call ran far more operations than its longest path has; return whether it did."""
    paths = run.path_operations
    if paths is None or run.lockstep or min(run.operations, run.root.size) < _FEW:
        return False
    longest = int(paths.max())
    if run.operations <= _MOST_REPEATED * longest:
        return False
    worst = max(run.splits, key=lambda line: len(run.splits[line]), default=None)
    edges = "".join(f"\n{edge}" for edge in _edges(program, run))
    warnings.warn(
        f"batched: {run.operations} operations ran for {run.root.size} samples whose longest path has {longest}: "
        f"samples part, most often at {line_of(worst)}, and do not join again; explain() lists where{edges}",
        RuntimeWarning,
        stacklevel=4,
    )
    return True
