"""Lock-step execution: paths side by side give the results of the loop in few operations; trees; fallbacks."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import dynarl
from dynarl import nn
from dynarl.batching import DecisionRecorder, Draws, ObjectBatch, batched, per_sample

N, D = 48, 6


def line_with(text):
    with Path(__file__).open() as source:
        return next(i for i, line in enumerate(source, 1) if text in line and "line_with" not in line)


def some(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def compare(program, *args, parameters=(), modes=("lockstep", "eager"), make=dynarl.tensor):
    """Values and gradients of every mode are the loop's; return the lock-step run."""
    found = {}
    for mode in (*modes, "loop"):
        inputs = [make(a, requires_grad=True) if isinstance(a, np.ndarray) else a for a in args]
        for p in parameters:
            p.grad = None
        run = batched(program, mode=mode)
        out = run(*inputs, draws=Draws(3, np.arange(len(args[0])), 0))
        parts = out if isinstance(out, tuple) else (out,)
        sum((p.double() ** 2).sum() for p in parts if p.requires_grad).backward()
        leaves = [*parameters, *(i for i in inputs if isinstance(i, dynarl.Tensor))]
        found[mode] = [*parts, *(p.grad for p in leaves if p.grad is not None)], run
    for mode in modes:
        for a, b in zip(found[mode][0], found["loop"][0], strict=True):
            np.testing.assert_allclose(a.detach().array, b.detach().array, rtol=1e-7, atol=1e-9, err_msg=mode)
    run = found["lockstep"][1]
    return run.run.last if isinstance(run, nn.Module) else run.last


class Ponder(nn.Module):
    """Halting by numbers that the program needs as text: no two samples share a path."""

    def __init__(self):
        super().__init__()
        self.cell, self.halt = nn.Linear(D, D, dtype=dynarl.float64), nn.Linear(D, 1, dtype=dynarl.float64)

    def forward(self, x):
        h, total, y, n = x, 0.0, 0.0, 0
        while total < 0.99 and n < 6:
            h, n = self.cell(h).tanh(), n + 1
            p = float(str(float(self.halt(h)[0].sigmoid())))
            y, total = y + h * p, total + p
        return y, n, total


def test_paths_of_their_own_run_as_few_operations():
    module = Ponder()
    last = compare(module, some(N, D), parameters=list(module.parameters()))
    assert last.groups == N - 1
    assert last.calls > 10 * last.kernels and last.reads < 20


def test_a_sample_takes_part_in_as_many_operations_in_every_mode():
    module, x = Ponder(), some(N, D)
    sub = nn.Sequential(nn.Linear(D, D, dtype=dynarl.float64), nn.Tanh())

    def program(x):
        y, n, _ = module(x)
        if x[0] > 0:
            y = sub(y) * n
        return y * dynarl.rand(()), dynarl.batching.bernoulli(x[1].sigmoid())

    counts = []
    for mode in ("eager", "eager", "lockstep", "lockstep"):
        run = batched(program, mode=mode)
        run(x, draws=Draws(3, np.arange(N), 0))
        counts.append(run.last.row_operations)
        assert run.last.operations <= run.last.row_operations
    assert counts == [counts[0]] * 4, counts


def test_the_choice_of_mode():
    run = batched(Ponder())
    run(some(8, D))
    assert not run.run.last.lockstep and "lockstep:" not in run.explain()
    run(some(N, D))
    assert run.run.last.lockstep and "calls of all paths ran as" in run.explain()
    run(some(8, D))
    assert run.run.last.lockstep  # remembered
    same = batched(lambda x: x * 2 if x[0] > 0 else x)
    same(some(N, D))
    assert not same.last.lockstep


# -- trees -------------------------------------------------------------------------------------------------------------


class ChildSum(nn.Module):
    """A child-sum TreeLSTM, arXiv:1503.00075 eq. 2-8, over nested tuples with vectors in the leaves."""

    def __init__(self, width=D):
        super().__init__()
        self.leaf = nn.Linear(width, 2 * width, dtype=dynarl.float64)
        self.iou = nn.Linear(width, 3 * width, dtype=dynarl.float64)
        self.forget = nn.Linear(width, width, dtype=dynarl.float64)

    def state(self, tree):
        if not isinstance(tree, tuple):
            return self.leaf(tree).chunk(2, -1)
        states = [self.state(child) for child in tree]
        i, o, u = self.iou(sum(h for h, _ in states)).chunk(3, -1)
        c = i.sigmoid() * u.tanh() + sum(self.forget(h).sigmoid() * c for h, c in states)
        return o.sigmoid() * c.tanh(), c

    def forward(self, tree):
        return self.state(tree)[0]


def random_tree(rng, size):
    if size == 1:
        return rng.standard_normal(D)
    cuts = np.sort(rng.choice(np.arange(1, size), min(size - 1, int(rng.integers(1, 4))), replace=False))
    return tuple(random_tree(rng, int(n)) for n in np.diff([0, *cuts, size]))


def test_trees():
    rng = np.random.default_rng(0)
    trees = [random_tree(rng, int(rng.integers(1, 15))) for _ in range(N)]
    module = ChildSum()
    last = compare(
        module, ObjectBatch(trees), parameters=list(module.parameters()), modes=("lockstep", "eager", "auto")
    )
    assert last.calls > 8 * last.kernels


def test_trees_beside_a_tensor_and_their_values_in_branches():
    rng = np.random.default_rng(1)
    trees = [random_tree(rng, int(rng.integers(1, 6))) for _ in range(N)]

    def program(x, tree):
        if not isinstance(tree, tuple):
            return tree * x
        out = x
        for child in tree:
            out = program(out.tanh(), child)
            if out[0] > 0.3:
                return out * 2
        return out

    compare(program, some(N, D), ObjectBatch(trees), modes=("lockstep", "eager", "auto"))


@dataclasses.dataclass
class Item:
    kind: str
    value: np.ndarray
    more: dict


def test_objects_of_one_structure_share_a_group():
    items = [Item("ab"[i % 2], some(D, seed=i), {"count": i % 3, "scale": np.float64(i)}) for i in range(12)]

    def program(item):
        out = item.value * item.more["scale"] if item.kind == "a" else item.value.sum() + item.value
        return out + item.more["count"], item.more["count"]

    values, counts = batched(program)(ObjectBatch(items))
    expected = [
        (i.value * i.more["scale"] if i.kind == "a" else i.value.sum() + i.value) + i.more["count"] for i in items
    ]
    np.testing.assert_allclose(values.array, expected)
    np.testing.assert_array_equal(counts.array, [i.more["count"] for i in items])
    call = batched(program, mode="eager")
    call(ObjectBatch(items))
    assert call.last.operations < 12 * 3


def test_gradients_reach_tensors_inside_objects():
    leaves = [dynarl.tensor(some(D, seed=i), requires_grad=True) for i in range(4)]
    trees = [(leaves[0], leaves[1]), leaves[2], (leaves[3], leaves[3])]
    for mode in ("eager", "lockstep", "loop"):
        for leaf in leaves:
            leaf.grad = None
        each = ObjectBatch(trees)
        for _ in range(2):  # the same objects in a second call
            out = batched(lambda t: t[0] * t[1] if isinstance(t, tuple) else t * 2, mode=mode)(each)
            out.sum().backward()
        np.testing.assert_allclose(leaves[0].grad.array, 2 * leaves[1].array)
        np.testing.assert_allclose(leaves[3].grad.array, 4 * leaves[3].array)


def test_each_needs_objects():
    with pytest.raises(ValueError, match="ObjectBatch: needs at least one object"):
        ObjectBatch([])
    with pytest.raises(ValueError, match="the same leading axis of N samples"):
        batched(lambda x, tree: x)(some(3, D), ObjectBatch([1, 2]))


# -- calls that do not behave as they did the first time ---------------------------------------------------------------


def test_a_scope_that_raises_for_some_samples():
    @per_sample
    def root(x):
        if x[0] < 0:
            raise ValueError("negative")
        return x**0.5

    def program(x):
        z = x * float(x[1])  # a path each
        try:
            return root(z.abs() + 0.1) + root(z)
        except ValueError:
            return x

    compare(program, np.abs(some(N, D)) * np.where(some(N, 1, seed=3) > -1, 1, -1) + 0.01)


def test_a_scope_that_returns_another_structure_on_another_path():
    @per_sample
    def split(x):
        if x[0] > 0.5:
            return x, x * 2
        if x[0] < -0.5:
            return 3
        return x

    def program(x):
        z = x * float(x[1].abs() + 1)
        out = split(z)
        return out[0] + out[1] if isinstance(out, tuple) else x * out if isinstance(out, int) else out

    compare(program, some(N, D))


def test_a_scope_that_draws_on_some_paths():
    class Noisy(nn.Module):
        def forward(self, x):
            return x + dynarl.randn(D, dtype=dynarl.float64) if x[0] > 0 else x

    noisy = Noisy()

    def program(x):
        z = noisy(x * float(x[1]))
        return z * dynarl.rand((), dtype=dynarl.float64) + noisy(z), int(dynarl.categorical(logits=x))

    compare(program, some(N, D))


def test_shapes_that_differ_by_path():
    @per_sample
    def head(x):
        return x[:2] if x[0] > 0 else x[:3]

    compare(lambda x: head(x * float(x[1])).sum(), some(N, D))


def test_an_error_of_values_stands_on_its_line():
    table = dynarl.tensor(some(3, D))

    def program(x, i):
        y = x * float(x[0])
        return y + table[i]  # out of range

    index = np.array([0, 1, 2] * (N // 3))
    compare(program, some(N, D), dynarl.tensor(index))
    index[17] = 7
    with pytest.raises(IndexError, match="out of bounds") as caught:
        batched(program, mode="lockstep")(some(N, D), index)
    frames = [entry.lineno + 1 for entry in caught.traceback if str(entry.path) == __file__]
    assert frames[-1] == line_with("# out of range")
    assert "for samples 17 of the batch" in caught.value.__notes__[0]


@pytest.mark.usefixtures("unguarded")
def test_what_unwinds_a_path_cannot_be_caught():
    ended = []

    def program(x):
        y = x * 2
        try:
            with dynarl.no_grad():
                scale = float(y[0])
        except:  # noqa: E722
            scale = 100.0
        finally:
            ended.append(dynarl.is_grad_enabled())
        try:
            again = float((y * scale)[1])
        except BaseException:
            return y
        return y * scale + again

    compare(program, some(N, D))
    assert all(ended)


def test_shared_tensors_made_on_each_path():
    def program(x):
        scale = float(x[0])
        state = dynarl.zeros(D, dtype=dynarl.float64)
        for i in range(3):
            state = dynarl.where(x > scale, state + x, state * 0.5 + dynarl.ones(D, dtype=dynarl.float64))
            state = dynarl.cat([state[:2], dynarl.zeros(D - 2, dtype=dynarl.float64) + i])
        return state + x

    assert compare(program, some(N, D)).kernels < 80


def test_closures_keep_their_own_values():
    def program(x):
        scale = float(x[0])

        @per_sample
        def grow(h):
            return h * scale

        @per_sample
        def shift(h, by=x):
            return h + by

        return grow(x.tanh()) + shift(x)

    compare(program, some(N, D))


def test_second_derivatives():
    def program(x):
        h = x * float(x[0])
        return (h.tanh() * x.sum()).sum() if h[1] > 0 else (h**3).sum()

    found = []
    for mode in ("lockstep", "loop"):
        x = dynarl.tensor(some(N, D), requires_grad=True)
        out = batched(program, mode=mode)(x)
        (g,) = dynarl.autograd.grad(out.sum(), x, create_graph=True)
        (h,) = dynarl.autograd.grad((g**2).sum(), x)
        found.append((g.detach().array, h.array))
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, rtol=1e-9)


def test_rows_that_are_used_more_than_once():
    @per_sample
    def both(a, b):
        return a * b

    compare(lambda x: both(x * float(x[0]), x) + both(x, x) + both(x, x * 2), some(N, D))


def test_anomalies_name_the_program_s_line():
    def program(x):
        y = x * float(x[0])
        return y.log()  # makes a NaN

    with (
        dynarl.detect_anomaly(),
        pytest.raises(RuntimeError, match=rf"_lockstep.py:{line_with('# makes a NaN')} in"),
    ):
        batched(program, mode="lockstep")(dynarl.tensor(some(N, D), requires_grad=True))


def deciding(x):
    @per_sample
    def late(h):
        return h * 2 if h[1] > 0.1 else h

    y, k = late(x) + x * float(x[0].round()), 0
    while float(dynarl.rand(())) < 0.5:
        y, k = late(y) * 0.9, k + 1
    return late(y.tanh()) * dynarl.bernoulli(x.sigmoid()), int(dynarl.categorical(logits=y)), k


@pytest.mark.parametrize(
    ("first", "then"), [("lockstep", "eager"), ("eager", "lockstep"), ("loop", "lockstep"), ("lockstep", "loop")]
)
def test_paths_recorded_in_one_mode_are_taken_in_another(first, then):
    x = some(N, D)
    recorder = DecisionRecorder(N)
    expected = batched(deciding, mode=first)(x, recorder=recorder, draws=Draws(1, np.arange(N), 0))
    run = batched(deciding, mode=then)
    run(x)  # kinds of calls are learned without a record
    again = DecisionRecorder(N)
    found = run(x, paths=recorder.paths(), recorder=again, draws=Draws(1, np.arange(N), 0))
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a.array, b.array, rtol=1e-9)
    np.testing.assert_array_equal(recorder.steps, again.steps)
    np.testing.assert_array_equal(recorder.paths().values, again.paths().values)
