"""The same parameters in dynarl and in PyTorch, fed the same gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

import dynarl

SHAPES = ((4, 3), (4,), (2, 4), (2,), ())


class Pair:
    """Parameters of both libraries with equal values, and a stream of gradients for both."""

    def __init__(self, torch: Any, dtype: Any = np.float32, shapes: Any = SHAPES, seed: int = 0) -> None:
        self.torch, self.dtype, self.rng = torch, dtype, np.random.default_rng(seed)
        values = [self.rng.normal(size=s).astype(dtype) for s in shapes]
        self.ours = [dynarl.tensor(v, requires_grad=True) for v in values]
        self.theirs = [torch.tensor(v, requires_grad=True) for v in values]

    def backward(self, skip: Any = ()) -> None:
        """Give new gradients to all parameters but those of the indices in `skip`, whose gradient becomes None."""
        for p in (*self.ours, *self.theirs):
            p.grad = None
        gradients = [self.rng.normal(size=tuple(p.shape)).astype(self.dtype) for p in self.ours]
        ours = [(p * dynarl.tensor(g)).sum() for i, (p, g) in enumerate(zip(self.ours, gradients)) if i not in skip]
        theirs = [
            (p * self.torch.tensor(g)).sum() for i, (p, g) in enumerate(zip(self.theirs, gradients)) if i not in skip
        ]
        sum(ours).backward()
        sum(theirs).backward()

    def check(self, rtol: float | None = None) -> None:
        """Compare the parameters of both sides."""
        rtol = rtol or (3e-5 if self.dtype == np.float32 else 1e-11)
        for p, q in zip(self.ours, self.theirs):
            assert p.dtype == self.dtype
            np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=rtol, atol=rtol / 10)


def to_torch(torch: Any, state_dict: dict[str, Any]) -> dict[str, Any]:
    """Return a dynarl state dict with PyTorch's tensors in it."""
    state = {
        i: {k: torch.tensor(v.numpy()) if isinstance(v, dynarl.Tensor) else v for k, v in entry.items()}
        for i, entry in state_dict["state"].items()
    }
    return {"state": state, "param_groups": state_dict["param_groups"]}
