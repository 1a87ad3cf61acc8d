"""Adam (arXiv:1412.6980) and AdamW (arXiv:1711.05101)."""

from __future__ import annotations

from typing import Any

from dynarl.optim.optimizer import Optimizer, Params, check_not_negative, check_torch_switches
from dynarl.optim.update_plan import Span

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Adam (arXiv:1412.6980, Algorithm 1), with L2 penalty and AMSGrad as in PyTorch.

    `decoupled_weight_decay` shrinks the parameters directly instead (AdamW). `foreach` and `fused` have no effect:
    every step is a few vector operations.
    """

    state_names = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        check_torch_switches(type(self).__name__, capturable=capturable, differentiable=differentiable)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)

    def _check_options(self, group: dict[str, Any]) -> None:
        name = type(self).__name__
        check_not_negative(name, group, "lr", "eps", "weight_decay")
        for i, beta in enumerate(group["betas"]):
            if not 0.0 <= beta < 1.0:
                raise ValueError(f"{name}: betas[{i}] must lie in [0, 1), got {beta}")

    def _names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return self.state_names if group["amsgrad"] else self.state_names[:2]

    def _update(self, group: dict[str, Any], span: Span) -> None:
        xp, param, scratch, step = span.xp, span.data, span.scratch[0], span.step
        multiply, add = xp.multiply, xp.add
        lr, (beta1, beta2) = float(group["lr"]), group["betas"]
        decay = float(group["weight_decay"])
        if decay and group["decoupled_weight_decay"]:
            multiply(param, 1 - lr * decay, out=param)
            decay = 0.0
        grad = span.gradient(decay, group["maximize"]) if decay or group["maximize"] else span.grad
        exp_avg, exp_avg_sq = span.arrays[:2]
        # m <- m + (1 - beta1) (g - m),  v <- beta2 v + (1 - beta2) g^2
        xp.subtract(grad, exp_avg, out=scratch)
        multiply(scratch, 1 - beta1, out=scratch)
        add(exp_avg, scratch, out=exp_avg)
        multiply(grad, grad, out=scratch)
        multiply(scratch, 1 - beta2, out=scratch)
        multiply(exp_avg_sq, beta2, out=exp_avg_sq)
        add(exp_avg_sq, scratch, out=exp_avg_sq)
        if group["amsgrad"]:
            exp_avg_sq = xp.maximum(span.arrays[2], exp_avg_sq, out=span.arrays[2])
        # lr (m / c1) / (sqrt(v) / c2 + eps) = (lr c2 / c1) m / (sqrt(v) + c2 eps) saves one vector operation
        correction1, correction2 = 1 - beta1**step, (1 - beta2**step) ** 0.5
        xp.sqrt(exp_avg_sq, out=scratch)
        add(scratch, correction2 * group["eps"], out=scratch)
        xp.divide(exp_avg, scratch, out=scratch)
        multiply(scratch, lr * correction2 / correction1, out=scratch)
        xp.subtract(param, scratch, out=param)


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameters directly (arXiv:1711.05101, Algorithm 2)."""

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            decoupled_weight_decay=True,
        )
