"""RMSprop (Hinton's lecture 6e), centred as in arXiv:1308.0850."""

from __future__ import annotations

from typing import Any

from dynarl.optim.optimizer import Optimizer, Params, check_not_negative, check_torch_switches
from dynarl.optim.update_plan import Span

__all__ = ["RMSprop"]


class RMSprop(Optimizer):
    """Divide the gradient by a running root mean square: p <- p - lr g / (sqrt(v) + eps).

    As in PyTorch eps is added after the root (TensorFlow adds it before), and `centered` subtracts the squared
    running mean of the gradient from v (arXiv:1308.0850 eq. 38-45).
    """

    state_names = ("square_avg", "grad_avg", "momentum_buffer")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_torch_switches("RMSprop", capturable=capturable, differentiable=differentiable)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _check_options(self, group: dict[str, Any]) -> None:
        check_not_negative("RMSprop", group, "lr", "eps", "momentum", "weight_decay", "alpha")

    def _names(self, group: dict[str, Any]) -> tuple[str, ...]:
        centered = ("grad_avg",) if group["centered"] else ()
        momentum = ("momentum_buffer",) if group["momentum"] else ()
        return ("square_avg", *centered, *momentum)

    def _update(self, group: dict[str, Any], span: Span) -> None:
        xp, param, scratch, alpha = span.xp, span.data, span.scratch[0], group["alpha"]
        multiply, add, subtract = xp.multiply, xp.add, xp.subtract
        grad = span.gradient(float(group["weight_decay"]), group["maximize"])
        square_avg = span.arrays[0]
        multiply(grad, grad, out=scratch)
        multiply(scratch, 1 - alpha, out=scratch)
        multiply(square_avg, alpha, out=square_avg)
        add(square_avg, scratch, out=square_avg)
        if group["centered"]:
            grad_avg = span.arrays[1]
            subtract(grad, grad_avg, out=scratch)
            multiply(scratch, 1 - alpha, out=scratch)
            add(grad_avg, scratch, out=grad_avg)
            multiply(grad_avg, grad_avg, out=scratch)
            subtract(square_avg, scratch, out=scratch)
            xp.maximum(scratch, 0.0, out=scratch)  # rounding can take a variance below zero
            xp.sqrt(scratch, out=scratch)
        else:
            xp.sqrt(square_avg, out=scratch)
        add(scratch, group["eps"], out=scratch)
        xp.divide(grad, scratch, out=scratch)
        if group["momentum"]:
            buffer = span.arrays[-1]
            multiply(buffer, group["momentum"], out=buffer)
            add(buffer, scratch, out=buffer)
            multiply(buffer, float(group["lr"]), out=scratch)
        else:
            multiply(scratch, float(group["lr"]), out=scratch)
        subtract(param, scratch, out=param)
