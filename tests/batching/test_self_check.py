"""The self-check finds programs that differ from plain Python, and leaves everything else as it was."""

import contextlib
import io
import sys

import numpy as np
import pytest

import dynarl
from dynarl import nn
from dynarl.agents import PPO
from dynarl.batching import DecisionRecorder, PerSampleError, batched
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


def test_policies_are_checked_when_an_agent_is_made():
    class Policy(nn.Module):
        def __init__(self):
            super().__init__()
            self.logits, self.value = nn.Linear(4, 2), nn.Linear(4, 1)

        def forward(self, obs):
            alone = 1.0 if type(obs) is dynarl.Tensor else 0.0
            return dynarl.distributions.Categorical(logits=self.logits(obs) + alone * obs[:2]), self.value(obs)[0]

    class Unchecked(Policy):
        self_check = 0

    with pytest.raises(PerSampleError, match="self-check: output 0 of sample"):
        PPO("CartPole-v1", policy=Policy, num_steps=8, batch_size=32).learn(8)
    PPO("CartPole-v1", policy=Unchecked, num_steps=8, batch_size=32).learn(8)


def test_a_check_changes_nothing():
    """Random streams, the default generator, statistics, gradients and prints are as without it."""

    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2).double()

        def forward(self, x):
            h = self.layer(x) + dynarl.rand(2, dtype=x.dtype)
            print("seen", dynarl.bernoulli(h.sigmoid())[0] > 0)
            while h.sum() < 2:
                h = h + 1 + h.exp() * 0.1
            return h

    seen = []
    for check in (0, 4):
        dynarl.manual_seed(1)
        run, x = batched(Program(), check=check), dynarl.tensor(X, requires_grad=True)
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            out = run(x)
            out.sum().backward()
        last = run.run.last
        numbers = (last.groups, last.operations, last.replayed, last.reads, last.drawn, run.explain())
        gradients = [p.grad.numpy().tolist() for p in run.parameters()]
        seen.append((out.detach().numpy().tolist(), x.grad.numpy().tolist(), gradients, numbers, output.getvalue()))
        seen[-1] += (dynarl.rand(1).item(), last.draws.count.tolist(), sys.stdout.__class__)
    assert seen[0] == seen[1]


def test_checks_are_few_and_end():
    looked = []

    class Program(nn.Module):
        def forward(self, x):
            return x * 2 if x[0] > 0 else x

    run = batched(Program())
    check = run.run._self_check.check
    run.run._self_check.check = lambda *args: (looked.append(1), check(*args))
    for _ in range(3):
        run(X)
    assert len(looked) == 1
    with dynarl.no_grad():
        run(X)
        run(X)
    assert len(looked) == 2
    run.run.uses_lockstep = True
    run(X)
    assert len(looked) == 3
    run.run._self_check.left = 0
    run.run._self_check.modes.clear()
    run(X)
    assert len(looked) == 3


def test_recorded_paths_are_checked_without_them():
    """Plain Python cannot repeat decisions: an update that does is compared in a run of its own."""

    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(dynarl.ones(2, dtype=dynarl.float64))

        def forward(self, x):
            y = x * self.scale
            return y * 3 if y[0] > 0 else (y.detach() if type(x) is dynarl.Tensor else y)

    run, recorder = batched(Program(), check=4), DecisionRecorder(len(X))
    with dynarl.no_grad():
        run(X, recorder=recorder)
    with pytest.raises(PerSampleError, match=r"gradient of an output with respect to `self\.scale`"):
        run(X, paths=recorder.paths())


def test_what_check_may_be():
    for wrong in (-1, True, 2.0, None):
        with pytest.raises(ValueError, match="check must be a number of samples"):
            batched(lambda x: x, check=wrong)


def test_rounding_may_decide_a_branch():
    def program(x):
        alone = type(x) is dynarl.Tensor  # stands for the rounding of a batch
        y = x[0] * 3.0 / 3.0 + (1e-16 if alone else 0.0)
        return x * 2 if y > 0.5 else x

    batched(program)(dynarl.tensor([[0.5, 1.0], [0.5, 2.0]], dtype=dynarl.float64))


def test_samples_without_a_history_beside_others_that_have_one():
    def program(x, y):
        return y * 0.5 if x[0] > 0 else x * 2.0

    values = np.abs(X)
    values[len(X) // 2] *= -1  # the only sample with a history
    x, y = dynarl.tensor(values, requires_grad=True), dynarl.tensor(X)
    for mode in ("eager", "lockstep", "loop"):
        for check in (1, 2, 3, len(X)):
            x.grad = None
            batched(program, mode=mode, check=check)(x, y).sum().backward()
            np.testing.assert_array_equal(x.grad.numpy(), np.where(values[:, :1] > 0, 0.0, 2.0) * np.ones_like(X))
