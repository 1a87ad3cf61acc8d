"""`mode="loop"`: each sample alone in plain Python, on ordinary Tensors, through the program as it is written."""

import functools

import numpy as np
import pytest

import dynarl
from dynarl import nn
from dynarl.batching import DecisionRecorder, Draws, ObjectBatch, PerSampleError, Ragged, RaggedGraph, batched
from tests.helpers.plain_reference import MODES, X


def loop(program, **options):
    return batched(program, mode="loop", **options)


def test_a_sample_s_tensors_are_ordinary_ones():
    def program(x, labels):
        assert type(x) is dynarl.Tensor
        assert x.shape == (2,)
        assert labels.dtype == np.int64
        y = x.clone()
        y[0] = 5.0  # its own memory
        y.numpy()[1] += 1.0  # NumPy works
        return y, int(labels)

    values, labels = loop(program)(X, np.arange(6))
    np.testing.assert_array_equal(values.numpy(), np.stack([np.full(6, 5.0), X[:, 1] + 1], 1))
    assert labels.tolist() == list(range(6))


def test_rows_have_the_history_of_the_batch():
    x = dynarl.tensor(X, requires_grad=True)
    scale = nn.Parameter(dynarl.tensor([2.0, 3.0], dtype=dynarl.float64))
    loop(lambda row: (row * scale).sum() if row[0] > 0 else row.sum() * 0 + 1)(x).sum().backward()
    positive = (X[:, :1] > 0).astype(float)
    np.testing.assert_allclose(x.grad.numpy(), positive * [2.0, 3.0])
    np.testing.assert_allclose(scale.grad.numpy(), (positive * X).sum(0))


def test_the_program_runs_as_it_is_written():
    def traced(function):
        @functools.wraps(function)
        def call(*args):
            return function(*args) + 1

        return call

    @traced
    def program(x):
        return x * 2 if x[0] > 0 else x

    np.testing.assert_allclose(loop(program)(X).numpy(), np.where(X[:, :1] > 0, X * 2, X) + 1)


@pytest.mark.parametrize("mode", MODES)
def test_sequences(mode):
    sequences = [np.arange(2.0 * n).reshape(n, 2) for n in (3, 0, 1, 5)]

    def program(sequence):
        total, n = dynarl.zeros(2, dtype=dynarl.float64), len(sequence)
        for element in sequence:
            total = total + element
        if n > 1:
            total = total + sequence[-1] * 10 + sequence[1]
        try:
            sequence[n]
        except IndexError:
            n = -n
        return total, n

    total, n = batched(program, mode=mode)(Ragged(sequences))
    want = [s.sum(0) + (s[-1] * 10 + s[1] if len(s) > 1 else 0) for s in sequences]
    np.testing.assert_allclose(total.numpy(), want)
    assert n.tolist() == [-3, 0, -1, -5]


@pytest.mark.parametrize("mode", MODES)
def test_graphs(mode):
    nodes = Ragged([np.array([[1.0], [2.0]]), np.array([[3.0], [4.0], [5.0]])])
    links = Ragged([np.array([[0, 1]]), np.array([[2, 0], [1, 2]])])

    def program(graph):
        total = 0.0
        for link in graph.edge_links:
            total = total + graph.nodes[int(link[0])][0] * graph.nodes[link[1]][0]
        return total

    got = batched(program, mode=mode)(RaggedGraph(nodes, None, links))
    assert got.tolist() == [2.0, 5.0 * 3.0 + 4.0 * 5.0]


def test_gradients_of_sequences_reach_their_values():
    ragged = Ragged([np.ones((2, 1)), np.ones((1, 1))])
    ragged.values = dynarl.tensor(np.array([[1.0], [2.0], [3.0]]), requires_grad=True)
    loop(lambda s: sum(x * x for x in s))(ragged).sum().backward()
    np.testing.assert_allclose(ragged.values.grad.numpy(), [[2.0], [4.0], [6.0]])


def test_objects_are_copies_with_plain_tensors():
    items = [{"v": np.array([1.0, i]), "left": None, "tags": ["a"]} for i in range(3)]
    items[2]["left"] = {"v": np.array([7.0, 7.0]), "left": None, "tags": []}

    def program(item):
        item["tags"].append("b")
        value = item["v"] * len(item["tags"])
        assert type(value) is dynarl.Tensor
        return value + program(item["left"]) if item["left"] is not None else value

    got = loop(program)(ObjectBatch(items)).numpy()
    np.testing.assert_allclose(got, [[2.0, 0.0], [2.0, 2.0], [9.0, 11.0]])
    assert items[0]["tags"] == ["a"]


def test_the_caller_s_arrays_stay_as_they_are():
    before = X.copy()
    with pytest.raises(
        PerSampleError, match=r"caller's data.*test_reference\.py:\d+ in \S+; make a new one: `h = h \+ x`"
    ):
        loop(lambda x: x.add_(1.0))(X)
    items = [{"v": row} for row in X]
    with pytest.raises(PerSampleError, match="caller's data"):
        loop(lambda item: item["v"].mul_(2.0))(ObjectBatch(items))
    np.testing.assert_array_equal(X, before)


def test_draws_are_keyed_by_sample_and_step():
    def program(x):
        first = dynarl.rand(3)
        return first if x[0] < 0 else first + dynarl.randn(3)

    draws = lambda: Draws(3, [4, 5, 6, 7, 8, 9], 2)  # noqa: E731
    whole = loop(program)(X, draws=draws()).numpy()
    np.testing.assert_array_equal(whole, batched(program, mode="eager")(X, draws=draws()).numpy())
    alone = loop(program)(X[3:4], draws=Draws(3, [7], 2)).numpy()
    np.testing.assert_array_equal(alone, whole[3:4])


def test_different_structures_are_refused_as_in_the_other_modes():
    for mode in MODES:
        with pytest.raises(PerSampleError, match="different structures on different paths"):
            batched(lambda x: (x, x) if x[0] > 0 else x, mode=mode)(X)
    with pytest.raises(TypeError, match="may return tensors, numbers"):
        loop(lambda x: object())(X)


def test_endless_programs_end():
    def program(x):
        while x[0] < 10:
            x = x * 1.0
        return x

    with pytest.raises(PerSampleError, match=r"more than max_steps=500 operations for samples 0 .* in program"):
        loop(program, max_steps=500)(X)


def test_errors_name_the_sample():
    def program(x):
        if x[0] > 2:
            raise ValueError("too large")
        return x

    with pytest.raises(ValueError, match="too large") as caught:
        loop(program)(X)
    assert caught.value.__notes__ == ["in a per-sample program, for samples 2 of the batch"]


def test_modules_run_with_their_hooks_and_without_batching():
    class Inner(nn.Module):
        def forward(self, x):
            return x * 2 if x[0] > 0 else x

    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Inner()
            self.inner.register_forward_hook(lambda module, args, out: out + 1)

        def forward(self, x):
            return self.inner(x)

    np.testing.assert_allclose(loop(Program())(X).numpy(), np.where(X[:, :1] > 0, X * 2, X) + 1)


def test_recorded_paths_are_those_of_the_other_modes():
    def program(x):
        n = 0
        while x[0] > 0.25:
            x, n = x * 0.5, n + 1
        return x, n

    recorder = DecisionRecorder(len(X))
    loop(program)(X, recorder=recorder)
    with dynarl.no_grad():
        again, n = batched(program, mode="eager")(X * 4, paths=recorder.paths())
    assert n.tolist() == loop(program)(X)[1].tolist()
    np.testing.assert_allclose(again.numpy(), X * 4 * 0.5 ** n.numpy()[:, None])


# -- a batch of one sample ------------------------------------------------------------------------------------------


def test_one_sample_runs_in_plain_python():
    class Policy(nn.Module):
        def forward(self, x):
            y = dynarl.batching.rand(2)
            while x.sum() < 10:
                x = x + 1
            return x + y

    policy = batched(Policy())
    draws = [Draws(7, np.arange(1), 0) for _ in range(2)]
    one = policy.run(X[:1], draws=draws[0])
    assert policy.explain() == "1 sample: one after the other, in plain Python"
    np.testing.assert_array_equal(one.numpy(), batched(Policy(), mode="eager")(X[:1], draws=draws[1]).numpy())
    assert draws[0].count.tolist() == draws[1].count.tolist() == [1]
    policy.run(X, draws=Draws(7, np.arange(6), 0))
    assert "groups" in policy.explain()


def test_one_sample_may_not_change_what_exists_before_the_call():
    class Policy(nn.Module):
        def __init__(self):
            super().__init__()
            self.seen = []

        def forward(self, x):
            self.seen.append(1)
            return x

    policy = Policy()
    with pytest.raises(PerSampleError, match=r"self\.seen"):
        batched(policy)(X[:1])
    assert policy.seen == []


def test_one_sample_that_never_ends_is_stopped():
    layer = nn.Linear(2, 2)

    def program(x):
        while x.sum() < 1e9:
            x = layer(x) * 0
        return x

    with pytest.raises(PerSampleError, match="max_steps=50"):
        batched(program, max_steps=50)(X[:1].astype(np.float32))


def test_one_sample_records_its_decisions():
    recorder = DecisionRecorder(1)
    program = batched(lambda x: x * 2 if x[0] > 0 else x)
    program(X[:1], recorder=recorder)
    assert recorder.paths().count.tolist() == [1]
