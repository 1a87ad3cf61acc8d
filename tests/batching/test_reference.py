"""The reference: one sample alone, on ordinary Tensors."""

import numpy as np
import pytest

import dynarl
from dynarl.batching import Draws, ObjectBatch, Ragged, RaggedGraph, batched
from dynarl.batching.groups.run import BatchedRun
from dynarl.batching.inputs import Inputs
from dynarl.batching.reference import PlainSequence, run_plain, sample_arguments
from tests.helpers.plain_reference import X


def alone(program, *args, sample, draws=None, **kwargs):
    inputs = Inputs(args, kwargs)
    run = BatchedRun(inputs.size, 1, 1000, inputs.tensors())
    run.draws = draws
    return run_plain(program, inputs, sample, run)[1]


def test_rows_keep_their_history_and_are_the_samples_own():
    x = dynarl.tensor(X, requires_grad=True)
    plain = dynarl.tensor(X)
    (row, other), _ = sample_arguments(Inputs((x, plain), {}), 2)
    assert row.shape == (2,)
    (row * row).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.where(np.arange(6)[:, None] == 2, 2 * X, 0))
    other += 1
    np.testing.assert_array_equal(plain.numpy(), X)


def test_objects_are_copies_with_tensors_in_place_of_arrays():
    given = [{"v": np.array([1.0, 2.0]), "path": [i]} for i in range(3)]

    def program(x):
        assert type(x["v"]) is dynarl.Tensor
        x["path"].append(5)
        x["v"] += 1
        return x["v"] * sum(x["path"])

    np.testing.assert_array_equal(alone(program, ObjectBatch(given), sample=1).tensor.numpy(), [[12.0, 18.0]])
    assert [x["path"] for x in given] == [[0], [1], [2]]
    np.testing.assert_array_equal(given[1]["v"], [1.0, 2.0])


def test_sequences_and_graphs():
    sequences = Ragged([np.arange(n * 2.0).reshape(n, 2) for n in (1, 3, 0)])
    links = Ragged([np.zeros((n, 2), np.int64) for n in (0, 2, 0)])
    (x, graph), _ = sample_arguments(Inputs((sequences, RaggedGraph(sequences, None, links)), {}), 1)
    assert len(x) == 3
    assert [float(v.sum()) for v in x] == [1.0, 5.0, 9.0]
    assert x[-1].tolist() == [4.0, 5.0]
    assert isinstance(graph.nodes, PlainSequence)
    assert len(graph.edge_links) == 2
    with pytest.raises(IndexError, match="beyond the end"):
        x[3]


def test_draws_are_those_of_the_batch():
    def program(x):
        logits = dynarl.stack([x[0], x[1], x[0] * 0.0])
        if x[0] > 0:
            x = x + dynarl.rand(2)
        choice = dynarl.categorical(logits=logits)
        return x + dynarl.randn(2) + dynarl.rand_like(x) + dynarl.normal(x, 0.5) + choice, dynarl.bernoulli(x.sigmoid())

    batch = batched(program, check=0)(X, draws=Draws(3, np.arange(6), 0))
    for i in range(6):
        found = alone(program, X, sample=i, draws=Draws(3, np.arange(6), 0))
        for got, want in zip(batch, found):
            np.testing.assert_allclose(got.numpy()[i], want.tensor.numpy()[0], rtol=1e-6)


def test_modules_and_helpers_run_as_they_are_written():
    seen = []

    class Net(dynarl.nn.Module):
        def forward(self, x):
            seen.append(type(x))
            return x * 2 if x[0] > 0 else -x

    net = Net()
    found = alone(lambda x: net(x), X, sample=1)
    np.testing.assert_array_equal(found.tensor.numpy(), -X[1:2])
    assert seen == [dynarl.Tensor]
