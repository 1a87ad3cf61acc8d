"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from typing import Any

from dynarl.optim.optimizer import Optimizer, Params, check_not_negative, check_torch_switches
from dynarl.optim.update_plan import Span

__all__ = ["SGD"]


class SGD(Optimizer):
    """Gradient descent, with momentum as in PyTorch: b <- momentum b + (1 - dampening) g, p <- p - lr b.

    The first b is g itself. `nesterov` steps along g + momentum b (it needs momentum and no dampening).
    """

    state_names = ("momentum_buffer",)
    counts_steps = False

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_torch_switches("SGD", differentiable=differentiable)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _check_options(self, group: dict[str, Any]) -> None:
        check_not_negative("SGD", group, "lr", "momentum", "weight_decay")
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(
                "SGD: Nesterov momentum requires a momentum and zero dampening, got "
                f"momentum={group['momentum']}, dampening={group['dampening']}"
            )

    def _names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return self.state_names if group["momentum"] else ()

    def _update(self, group: dict[str, Any], span: Span) -> None:
        xp, (scratch, total) = span.xp, span.scratch
        momentum = float(group["momentum"])
        direction = span.gradient(float(group["weight_decay"]), group["maximize"])
        if momentum:
            (buffer,) = span.arrays
            if span.fresh:
                xp.copyto(buffer, direction)
            else:
                xp.multiply(buffer, momentum, out=buffer)
                xp.multiply(direction, 1 - group["dampening"], out=scratch)
                xp.add(buffer, scratch, out=buffer)
            if group["nesterov"]:
                xp.multiply(buffer, momentum, out=scratch)
                direction = xp.add(direction, scratch, out=total)
            else:
                direction = buffer
        xp.multiply(direction, float(group["lr"]), out=scratch)
        xp.subtract(span.data, scratch, out=span.data)
