"""Function: an operation whose gradient the user writes by hand (torch.autograd.Function)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dynarl.autograd.device import xp
from dynarl.autograd.grad_mode import mode, no_grad
from dynarl.autograd.graph import Node, Output
from dynarl.autograd.tensor import Tensor, wrap

__all__ = ["Function", "once_differentiable"]


class FunctionCtx:
    """The `ctx` of a Function: carries values from forward to backward (`save_for_backward`, any attribute)."""

    def __init__(self) -> None:
        self._saved: tuple[Any, ...] = ()
        self._constant: tuple[Any, ...] = ()
        self.needs_input_grad: tuple[bool, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep tensors for backward, which finds them in `saved_tensors`."""
        self._saved = tensors

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """The tensors kept by `save_for_backward`."""
        return self._saved

    def mark_non_differentiable(self, *outputs: Any) -> None:
        """Declare outputs that have no gradient."""
        self._constant = outputs

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"ctx has no attribute {name!r}; set it in forward")


class _Applied:
    """The operation of one call of a Function, in the form that the engine expects of a primitive."""

    promotes = False
    linear = True  # its backward uses saved values and never the arguments

    def __init__(self, function: type[Function], ctx: FunctionCtx, args: Any, outputs: list[Any]) -> None:
        self.__name__ = function.__name__
        self.function, self.ctx = function, ctx
        self.shapes = [tuple(a.shape) if isinstance(a, Tensor) else () for a in args]
        self.templates = [(tuple(o.shape), o.dtype, xp(o.array)) for o in outputs]

    def lifted(self, *args: Any, **static: Any) -> Callable[[Any, Any], Any]:
        return self.pull

    def pull(self, g: Any, needs: Any) -> list[Any]:
        """Call the user's backward with Tensors; return arrays if `g` holds arrays, Tensors if it holds Tensors."""
        grads = g if isinstance(g, list) else [g]
        raw = not any(isinstance(x, Tensor) for x in grads)
        tensors = [
            wrap(np_.zeros(shape, dtype=dtype)) if x is None else wrap(x) if raw else x
            for x, (shape, dtype, np_) in zip(grads, self.templates)
        ]
        found = self.function.backward(self.ctx, *tensors)
        found = found if isinstance(found, tuple) else (found,)
        if len(found) != len(needs):
            raise RuntimeError(
                f"{self.__name__}.backward: must return one gradient per argument of forward "
                f"({len(needs)}), got {len(found)}"
            )
        checked: list[Any] = []
        for i, (value, need) in enumerate(zip(found, needs)):
            if isinstance(value, Tensor) and need is not False and tuple(value.shape) != self.shapes[i]:
                raise RuntimeError(
                    f"{self.__name__}.backward: gradient {i} has shape {tuple(value.shape)}, "
                    f"its argument {self.shapes[i]}"
                )
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(
                    f"{self.__name__}.backward: gradients must be Tensors or None, got {type(value).__name__}"
                )
            checked.append(None if need is False or value is None else value.array if raw else value)
        return checked


class Function:
    """Subclass with static `forward(ctx, *args)` and `backward(ctx, *grad_outputs)`; call it by `apply`."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        """Compute the outputs from the arguments; Tensors inside carry no history."""
        raise RuntimeError("Function: forward(ctx, *args) must be defined as a staticmethod")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """Return the gradient of each argument of forward, None where there is none."""
        raise RuntimeError("Function: backward(ctx, *grad_outputs) must be defined as a staticmethod")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run forward and record backward."""
        ctx = FunctionCtx()
        edges = [a._node if isinstance(a, Tensor) else None for a in args]
        ctx.needs_input_grad = tuple(e is not None for e in edges)
        with no_grad():
            result = cls.forward(ctx, *args)
        outputs = list(result) if isinstance(result, tuple) else [result]
        if not mode.recording or not any(ctx.needs_input_grad):
            return result
        outputs = [wrap(o.array) if any(o is a for a in args) else o for o in outputs]
        applied = _Applied(cls, ctx, args, [o for o in outputs if isinstance(o, Tensor)])
        node = Node(applied, args, {}, edges, applied.pull)
        for i, output in enumerate(outputs):
            if isinstance(output, Tensor) and not any(output is c for c in ctx._constant):
                output._node = node if len(outputs) == 1 else Output(node, i, len(outputs))
        return tuple(outputs) if isinstance(result, tuple) else outputs[0]


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a backward that is computed without history and so cannot be differentiated again."""

    def wrapped(ctx: Any, *grads: Any) -> Any:
        with no_grad():
            found = backward(ctx, *grads)
        if not mode.recording:
            return found
        parts = found if isinstance(found, tuple) else (found,)
        parts = tuple(_Once.apply(p, *grads) if isinstance(p, Tensor) else p for p in parts)
        return parts if isinstance(found, tuple) else parts[0]

    return wrapped


class _Once(Function):
    """Identity whose backward raises: the gradient of once_differentiable has none itself."""

    @staticmethod
    def forward(ctx: Any, grad: Any, *sources: Any) -> Any:
        return grad

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        raise RuntimeError("backward: a gradient computed under once_differentiable cannot be differentiated again")
