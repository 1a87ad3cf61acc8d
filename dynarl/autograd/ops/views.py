"""Views: tensors that share memory with another one, and how a recorded change in place reaches both histories."""

from __future__ import annotations

from typing import Any

from dynarl.autograd.grad_mode import mode
from dynarl.autograd.gradients import dense
from dynarl.autograd.graph import Leaf
from dynarl.autograd.tape import primitive, record
from dynarl.autograd.tensor import wrap


def viewed(x: Any) -> Any:
    """Return (base tensor, operation, static arguments) of a view, or None for a tensor that is no view."""
    return getattr(x, "_base", None)


def check_inplace(x: Any, name: str) -> None:
    """Raise RuntimeError if a change in place would be recorded on a leaf, directly or through a view of it."""
    if not mode.recording:
        return
    shape = tuple(x.shape)
    while True:
        if x._node.__class__ is Leaf:
            raise RuntimeError(
                f"{name}: a leaf tensor of shape {tuple(x.shape)} that requires grad was changed in place"
                + ("" if tuple(x.shape) == shape else f" through a view of shape {shape}")
                + "; do it under no_grad(), or change a clone()"
            )
        base = viewed(x)
        if base is None:
            return
        x = base[0]


def _paste_lifted(whole: Any, part: Any, *, view: Any, static: dict[str, Any]) -> Any:
    return _paste.body(whole, part, view=view, static=static)[1]


@primitive(lifted=_paste_lifted, linear=True)
def _paste(whole: Any, part: Any, *, view: Any, static: dict[str, Any]) -> Any:
    """Return `whole` after its region `view` was overwritten by `part`. Memory already holds the result."""

    def vjp_whole(g: Any) -> Any:
        region, (spread,) = view.body(g, **static)
        return g - dense(spread(region))

    return whole, (vjp_whole, lambda g: view.body(g, **static)[0])


def follow(x: Any, node: Any) -> None:
    """Set the history of x after a change in place, and that of the tensors that x is a view of.

    Example: v = x[0]; v.mul_(2). Afterwards v is the product, x is "x with row 0 replaced by the product" (`_paste`),
    and v is recorded again as row 0 of this x, so that gradients through either of them are complete.
    """
    base = viewed(x)
    if base is not None:
        whole, view, static = base
        args = (wrap(whole.array, whole._node), wrap(x.array, node))
        _, vjps = _paste.body(whole.array, x.array, view=view, static=static)
        edges = [whole._node, node]
        paste = {"view": view, "static": static}
        follow(whole, record(_paste, args, paste, whole.array, vjps, edges))
        node = record(view, (whole,), static, x.array, view.body(whole.array, **static)[1], [whole._node])
    x._node, x._leaf = node, None
