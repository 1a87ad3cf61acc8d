"""Checks before a gradient function runs: memory that it saved must not have been changed in place since.

PyTorch keeps a version counter per tensor and compares it at each `saved_tensors`. Here every change in place is
stamped with the clock that numbers operations (versions.py), and the arrays that a gradient function holds are found in
its closure; the search runs only if some memory changed after the oldest operation of the graph was recorded.
"""

from __future__ import annotations

from types import FunctionType, MethodType
from typing import Any

from dynarl.autograd.call_site import line_of
from dynarl.autograd.device import is_array
from dynarl.autograd.graph import Node
from dynarl.autograd.versions import modified_since

__all__ = ["check_unmodified"]


def check_unmodified(node: Node, create_graph: bool) -> None:
    """Raise RuntimeError if memory that this node saved was changed in place after it was recorded."""
    _check_views(node)
    if create_graph and node.op.linear:
        return
    saved = [a.array for a in node.args if hasattr(a, "_node")] if create_graph else _captured_arrays(node.vjps)
    for array in saved:
        line = modified_since(array, node.sequence)
        if line is not None:
            raise RuntimeError(
                f"backward: a tensor of shape {tuple(array.shape)} that {node.name()} (recorded at "
                f"{line_of(node.line)}) needs for its gradient was changed in place at {line_of(line)}; "
                "use the out-of-place operation or clone() the tensor first"
            )


def _check_views(node: Node) -> None:
    """Raise RuntimeError if a view was taken before, and used after, its memory was changed by a recorded operation."""
    for a, edge in zip(node.args, node.edges):
        base = getattr(a, "_base", None)
        if base is None or edge.__class__ is not Node or not edge.edges or edge.args[0] is not base[0]:
            continue
        now = base[0]._node
        if now is not edge.edges[0] and now.__class__ is Node and edge.sequence < now.sequence < node.sequence:
            raise RuntimeError(
                f"backward: {node.name()} (recorded at {line_of(node.line)}) uses a view of shape {tuple(a.shape)} "
                f"taken at {line_of(edge.line)}, but the memory was changed in place at "
                f"{line_of(now.line)} in between; take the view after the change"
            )


def _captured_arrays(vjps: Any) -> list[Any]:
    """Return the arrays that gradient functions hold in their closures: the values that they saved."""
    found: list[Any] = []
    stack: list[Any] = list(vjps) if vjps.__class__ is tuple else [vjps]
    while stack:
        item: Any = stack.pop()
        if isinstance(item, FunctionType) and not hasattr(item, "body"):  # an operation holds no values
            for cell in item.__closure__ or ():
                try:
                    stack.append(cell.cell_contents)
                except ValueError:  # an empty cell
                    continue
        elif item.__class__ in (tuple, list):
            stack.extend(item)
        elif item.__class__ is MethodType:  # a Function's backward
            applied: Any = item.__self__
            stack.extend(t.array for t in applied.ctx.saved_tensors if t is not None)
        elif is_array(item):
            found.append(item)
    return found
