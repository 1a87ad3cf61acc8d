"""Objects, arrays and sequences that programs are given, operands that change later, errors in one sample's words."""

import copy
import dataclasses
import pickle
import threading

import numpy as np
import pytest

import dynarl
from dynarl import nn
from dynarl.batching import ObjectBatch, PerSampleError, Ragged, batched
from tests.helpers.per_sample import MODES, compare

X = np.array([[1.0, 2.0], [-1.0, 2.0], [3.0, -1.0], [-2.0, -2.0]], np.float32)
EXECUTED = ("eager", "lockstep", "loop")


# -- operands that change after they were used ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 5000])
def test_arrays_and_tensors_that_change_later(size):
    def program(x):
        wide = x[0] * dynarl.ones(size)
        array, tensor = np.zeros(size, np.float32), dynarl.zeros(size)
        matrix = dynarl.ones(size, 2)
        a = wide + array
        b = wide * 2 - tensor
        c = matrix @ x
        array += 5
        tensor += 7
        matrix.mul_(3)
        if x[1] > 0:
            a = a + array
        return (a[:2] + b[:2] + c[:2]) * 1.0, (wide + tensor)[:2]

    compare(program, X, gradients=False)


def test_a_changed_operand_of_a_module():
    class Adds(nn.Module):
        def forward(self, x, offset):
            if x[0] > 0:
                return x + offset
            return x - offset

    adds = Adds()

    def program(x):
        offset = dynarl.ones(2)
        y = adds(x, offset)
        offset.add_(1)
        return y + adds(x * 2, offset)

    compare(program, X, gradients=False)


# -- objects ----------------------------------------------------------------------------------------------------------


def test_text_of_numpy_stays_text():
    objects = [np.str_("a"), np.str_("bb"), np.str_("c"), np.str_("bb")]
    for mode in EXECUTED:
        got = batched(lambda s: 1.0 * len(s) + s.startswith("b"), mode=mode)(ObjectBatch(objects))
        np.testing.assert_array_equal(got.array, [1, 3, 1, 3])
    days = [np.datetime64("2026-01-01"), np.datetime64("2026-01-02")]
    got = batched(lambda d: float(d == days[0]))(ObjectBatch(days))
    np.testing.assert_array_equal(got.array, [1, 0])


@dataclasses.dataclass
class Node:
    value: np.ndarray
    children: list
    parent: object = None


def family(i):
    root = Node(np.array([i, 1.0], np.float32), [])
    root.children = [Node(np.array([i, k], np.float32), [], root) for k in range(2)]
    return root


def test_pointers_to_a_parent():
    def program(node):
        total = node.value
        for child in node.children:
            assert child.parent is node
            total = total + child.value * child.parent.value
        node.children.append(node)
        return total + len(node.children[2].children)

    trees = [family(i) for i in range(3)]
    want = [[i + 3 + 2 * i * i, 1.0 + 3 + 1] for i in range(3)]
    for mode in EXECUTED:
        np.testing.assert_allclose(batched(program, mode=mode)(ObjectBatch(trees)).array, want)
    assert [len(tree.children) for tree in trees] == [2, 2, 2]


def test_two_names_for_one_object():
    def program(pair):
        a, b = pair
        a.append(1.0)
        return float(len(b)) + (a is b), pair[0][0] * 2

    shared = [np.ones(2, np.float32)]
    pairs = [(shared, shared), ([np.ones(2, np.float32)], [np.ones(2, np.float32)]), (shared, shared)]
    for mode in EXECUTED:
        lengths, _ = batched(program, mode=mode)(ObjectBatch(pairs))
        np.testing.assert_array_equal(lengths.array, [3, 1, 3])
    assert len(shared) == 1


class Simulator:
    def __init__(self, start):
        self.count, self.trace = start, []

    def step(self, by):
        self.count += by
        self.trace.append(self.count)
        return self.count


def test_objects_of_the_callers_are_never_stepped():
    def program(x, simulator):
        h, seen = x, []
        for _ in range(3):
            seen.append(simulator.step(2 if h[0] > 0 else 1))
            h = h * simulator.count if h.sum() > 0 else h - seen[-1]
        return h * len(simulator.trace)

    want = np.stack([program(dynarl.tensor(x), Simulator(i)).array for i, x in enumerate(X)])
    for mode in EXECUTED:
        simulators = [Simulator(i) for i in range(len(X))]
        got = batched(program, mode=mode)(X, ObjectBatch(simulators))
        np.testing.assert_allclose(got.array, want)
        assert [(s.count, s.trace) for s in simulators] == [(i, []) for i in range(len(X))]


def test_objects_that_cannot_be_copied():
    class Locked:
        def __init__(self):
            self.lock = threading.Lock()

    with pytest.raises(PerSampleError, match="ObjectBatch: an object of class Locked cannot be copied"):
        batched(lambda o: 1.0)(ObjectBatch([Locked(), Locked()]))


def test_modules_in_objects_are_shared():
    net = nn.Linear(2, 1)
    got = batched(lambda pair: pair[0](pair[1]))(ObjectBatch([(net, x) for x in X]))
    got.sum().backward()
    np.testing.assert_allclose(net.weight.grad.array, X.sum(0, keepdims=True))


def test_subclasses_of_batches():
    class Sentences(Ragged):
        pass

    class Trees(ObjectBatch):
        pass

    sequences = [np.ones(2, np.float32), np.ones(3, np.float32)]
    for mode in EXECUTED:
        got = batched(lambda s, t: sum(v for v in s) * t[0], mode=mode)(Sentences(sequences), Trees([(2,), (3,)]))
        np.testing.assert_array_equal(got.array, [4, 9])


# -- errors -----------------------------------------------------------------------------------------------------------


ERRORS = {
    "matmul": lambda x: x @ dynarl.ones(4, 8),
    "add": lambda x: x + dynarl.ones(5),
    "reshape": lambda x: x.reshape(3),
    "dim": lambda x: x.sum(3),
    "index": lambda x: x[5],
    "own index": lambda x: x[x.long() + 7],
    "cat": lambda x: dynarl.cat([x, x.unsqueeze(0)]),
    "gather": lambda x: x.gather(0, x.unsqueeze(0).long()),
    "assign": lambda x: (x * 1).__setitem__(4, 1.0),
    "expand": lambda x: x.expand(3),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_speak_of_one_sample(name):
    with pytest.raises((ValueError, TypeError, IndexError, RuntimeError)) as alone:
        ERRORS[name](dynarl.tensor(X[0]))
    for mode in MODES:
        with pytest.raises(type(alone.value)) as together:
            batched(ERRORS[name], mode=mode)(X)
        mine, theirs = str(together.value), str(alone.value)
        assert "(4," not in mine.replace("(4, 8)", "")
        assert mine == theirs
        assert "in a per-sample program, for samples 0" in together.value.__notes__[0]


def test_errors_of_layers_speak_of_one_sample():
    for mode in MODES:
        with pytest.raises(ValueError, match=r"linear: .* here 2 and \(4, 3\), got \(2,\) float32"):
            batched(nn.Linear(3, 4), mode=mode)(X)


# -- copies of batched programs ---------------------------------------------------------------------------------------


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x):
        if x[0] > 0:
            return self.layer(x)
        return x * 2


def double(x):
    return x * 2 if x[0] > 0 else x


@pytest.mark.parametrize("mode", MODES)
def test_batched_programs_pickle_after_use(mode):
    module = batched(Policy(), mode=mode)
    function = batched(double, mode=mode)
    for run in (module, function):
        want = run(X).array
        for again in (pickle.loads(pickle.dumps(run)), copy.deepcopy(run)):
            np.testing.assert_array_equal(again(X).array, want)
            assert again.explain() == run.explain()
    twin = copy.deepcopy(module)
    twin.program.layer.weight.data.array[...] = 0
    assert not np.array_equal(twin(X).array, module(X).array)
    assert copy.deepcopy(function).explain() == "nothing was run yet"


# -- printing ---------------------------------------------------------------------------------------------------------


def test_show_prints_each_path_once(capsys):
    from dynarl.batching.values.show import show

    def program(x):
        show("start", x)
        if x[0] > 0:
            x = x * 2
            show("positive", 3)
            return x
        show("negative", x)
        return x

    batched(program, mode="eager")(X)
    text = capsys.readouterr().out
    assert text.count("start") == text.count("positive") == text.count("negative") == 1
    assert "[samples 0, 1, 2, 3] start per-sample tensor of samples [0, 1, 2, 3], rows:" in text
    assert "[samples 0, 2] positive 3" in text
    assert "[samples 1, 3] negative per-sample tensor of samples [1, 3]" in text
    show("outside", 1, sep="-")
    assert capsys.readouterr().out == "outside-1\n"
