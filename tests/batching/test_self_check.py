"""The self-check finds programs that differ from plain Python, and leaves everything else as it was."""

import copy
import random

import numpy as np
import pytest

import dynarl
from dynarl import nn
from dynarl.batching import DecisionRecorder, Draws, ObjectBatch, PerSampleError, batched
from dynarl.batching.values import heap
from tests.helpers.plain_reference import X

DIFFERENT = "another result than it has alone"


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
    assert "result['n'] is 2, alone 1" in text or "result['sum'] is" in text
    assert "test_self_check.py" in text
    assert "check=0 turns this check off" in text
    batched(with_a_list, mode="eager", check=0)(X)


@pytest.mark.parametrize("mode", ["eager", "lockstep", "auto", "loop"])
def test_programs_that_count_their_executions_are_found(mode):
    count = [0.0]

    def program(x):
        count[0] += 1
        return x * count[0]

    with pytest.raises(PerSampleError, match=rf"sample 0 .*{DIFFERENT}"):
        batched(program, mode=mode)(X)


def test_gradients_are_compared(monkeypatch):
    class Doubled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(dynarl.tensor(np.array([1.0, 2.0])))

        def forward(self, x):
            return x * self.scale if x.ndim == 1 and type(x) is dynarl.Tensor else (x.detach() * self.scale + x * 0)

    x = dynarl.tensor(X, requires_grad=True)
    with pytest.raises(PerSampleError, match="gradient of argument 0"):
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

    with pytest.raises(PerSampleError, match="alone raises KeyError") as caught:
        batched(program)(X)
    assert isinstance(caught.value.__cause__, KeyError)


def test_the_number_of_draws_is_compared():
    def program(x):
        if type(x) is dynarl.Tensor:
            dynarl.rand(2)
        return x + 0

    with pytest.raises(PerSampleError, match="number of random draws is 0, alone 1"):
        batched(program)(X)


def test_rounding_may_decide_a_branch():
    def program(x):
        alone = type(x) is dynarl.Tensor  # stands for the rounding of a batch
        y = x[0] * 3.0 / 3.0 + (1e-16 if alone else 0.0)
        return x * 2 if y > 0.5 else x

    batched(program)(dynarl.tensor([[0.5, 1.0], [0.5, 2.0]], dtype=dynarl.float64))


def test_everything_is_as_without_it():
    def made():
        record = {"calls": 0}
        net = nn.Linear(2, 2, dtype=np.float64)

        def program(x, given):
            record["last"] = 3
            print("seen")
            if x[0] > 0:
                given["path"].append(1)
                x = net(x) + dynarl.randn(2)
            return dynarl.categorical(logits=x), x * len(given["path"])

        return program, record, net

    found = []
    for check in (0, 4):
        dynarl.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        program, record, net = made()
        objects = [{"path": [0]} for _ in X]
        recorder = DecisionRecorder(len(X))
        draws = Draws(5, np.arange(len(X)), 2)
        run = batched(program, check=check)
        x = dynarl.tensor(X, requires_grad=True)
        choice, out = run(x, ObjectBatch(objects), draws=draws, recorder=recorder)
        out.sum().backward()
        found.append([
            choice.tolist(), out.tolist(), x.grad.tolist(), net.weight.grad.tolist(), record, objects,
            recorder.paths().values.tolist(), recorder.steps.tolist(), draws.count.tolist(), run.last.operations,
            run.last.replayed, run.explain(), random.random(), float(np.random.rand()), dynarl.rand(1).tolist(),
        ])  # fmt: skip
    assert found[0] == found[1]


def test_it_ends_and_can_be_switched_off(capsys):
    def program(x):
        print("seen")
        return x * 2 if x[0] > 0 else x

    run = batched(program, mode="eager")
    run(X[:1])
    assert run._check.left == 7
    run(X[:1])
    assert run._check.left == 7  # nothing new
    run(X)
    assert run._check.left == 6  # a line that splits for the first time
    assert capsys.readouterr().out.count("seen") == 3  # what the check prints is not shown
    assert copy.deepcopy(run)._check.left == 6
    assert batched(program, check=0)._check.left == 0
    with pytest.raises(ValueError, match="check must be at least 0"):
        batched(program, check=-1)


def test_programs_that_cannot_be_put_back_are_not_checked():
    turns = iter(range(1000))

    def program(x):
        return x * (next(turns) + 1.0)

    batched(program)(X)  # no error: an iterator cannot be put back
    assert next(turns) == 1
