"""The self-check finds programs that differ from plain Python, and leaves everything else as it was."""

import numpy as np
import pytest

import dynarl
from dynarl import nn
from dynarl.batching import PerSampleError, batched
from dynarl.batching.values import heap
from tests.helpers.plain_reference import X

DIFFERENT = "self-check: output"


def with_a_list(x):
    found = []
    if x[0] > 0:
        found.append(2.0)
    else:
        found.append(3.0)
    return {"sum": x * sum(found), "n": len(found)}


def test_a_protection_that_is_off_is_found(monkeypatch):
    monkeypatch.setattr(heap.Heap, "restore", lambda self: None)
    with pytest.raises(PerSampleError, match=DIFFERENT) as caught:
        batched(with_a_list, mode="eager")(X)
    text = str(caught.value)
    assert "is 2 in the batched run, 1 in plain Python" in text
    assert "test_self_check.py" in text
    assert "check=0 turns this self-check off" in text
    batched(with_a_list, mode="eager", check=0)(X)


def test_gradients_are_compared(monkeypatch):
    class Doubled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(dynarl.tensor(np.array([1.0, 2.0])))

        def forward(self, x):
            return x * self.scale if x.ndim == 1 and type(x) is dynarl.Tensor else (x.detach() * self.scale + x * 0)

    x = dynarl.tensor(X, requires_grad=True)
    with pytest.raises(PerSampleError, match="the gradient of an output with respect to an argument"):
        batched(Doubled())(x)
    with dynarl.no_grad():  # the values are equal
        run = batched(Doubled())
        run(x)
    with pytest.raises(PerSampleError, match="gradient"):  # the first call with gradients is checked again
        run(x)


def test_errors_of_one_side_only_are_differences():
    def program(x):
        if type(x) is dynarl.Tensor:
            raise KeyError("alone")
        return x

    with pytest.raises(PerSampleError, match="plain Python raises KeyError") as caught:
        batched(program)(X)
    assert isinstance(caught.value.__cause__, KeyError)


def test_the_number_of_draws_is_compared():
    def program(x):
        if type(x) is dynarl.Tensor:
            dynarl.rand(2)
        return x + 0

    with pytest.raises(PerSampleError, match=r"number of random draws of sample \d+ is 0 .*, 1 in plain"):
        batched(program)(X)


def test_rounding_may_decide_a_branch():
    def program(x):
        alone = type(x) is dynarl.Tensor  # stands for the rounding of a batch
        y = x[0] * 3.0 / 3.0 + (1e-16 if alone else 0.0)
        return x * 2 if y > 0.5 else x

    batched(program)(dynarl.tensor([[0.5, 1.0], [0.5, 2.0]], dtype=dynarl.float64))
