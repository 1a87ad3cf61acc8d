"""A per-sample tensor is a Tensor: its class, its text, its values, copies of it and iteration over it."""

import copy
import math
import pickle
import threading

import numpy as np
import pytest

import dynarl
from dynarl.batching import ObjectBatch, PerSampleError, batched
from dynarl.batching.groups.group import split
from dynarl.batching.values.sample_tensor import SampleTensor
from tests.helpers.per_sample import TOGETHER, compare

X = np.array([[1.0, 2.0, -1.5], [-1.0, 2.0, 0.5], [3.0, -1.0, 0.25], [-2.0, -2.0, 4.0]], np.float32)
ZEROS = np.array([[0.0, 1], [-0.0, 1], [0.0, 2], [-0.0, 2], [np.nan, 3]], np.float32)


@pytest.mark.usefixtures("unguarded")
def test_it_is_a_tensor_as_small_as_one():
    seen = []

    def program(x):
        seen.append((isinstance(x, dynarl.Tensor), dynarl.is_tensor(x), x.__sizeof__()))
        return x * 2 if isinstance(x, dynarl.Tensor) else x

    compare(program, X)
    assert set(seen) == {(True, True, dynarl.zeros(3).__sizeof__())}


def test_no_array_is_read_silently():
    operations = {
        "array": lambda x: x.array,
        "numpy": lambda x: x.numpy(),
        "asarray": lambda x: np.asarray(x),
        "concatenate": lambda x: np.concatenate([x, x]),
        "data_ptr": lambda x: x.data_ptr(),
        "dlpack": lambda x: np.from_dlpack(x),
        "nonzero": lambda x: x.nonzero(),
        "parameter": lambda x: dynarl.nn.Parameter(x),
        "sort": lambda x: dynarl.from_numpy(np.array(x)),
        "data": lambda x: setattr(x, "data", x),
        "grad": lambda x: setattr(x, "grad", x),
    }
    for mode in TOGETHER:
        for name, operation in operations.items():
            with pytest.raises((PerSampleError, TypeError), match=r"per-sample|one sample|inside a per|dlpack"):
                batched(operation, mode=mode)(X)
                pytest.fail(f"{name} in {mode}")


def test_modules_take_no_per_sample_tensor():
    class Keeps(dynarl.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("last", dynarl.zeros(3))

        def forward(self, x):
            self.last = x
            return x

    with pytest.raises(RuntimeError, match=r"Keeps\.last: a per-sample tensor cannot be stored"):
        batched(Keeps())(X)


def test_the_text_is_that_of_the_samples_own_tensor():
    for values in (np.round(X), X[:, :1], np.array([1, 2, 1, 3]), np.array([0.5, -0.0, 0.0, 0.5], np.float32)):
        texts = [text_of(dynarl.tensor(row)) for row in values]

        compare(lambda x, texts=texts: x * 0 + texts.index(text_of(x)), values, gradients=False)


def text_of(x):
    return f"{x} {x!s:>40} {x.sum():.3f} {x!s} {x * 2}"


def test_text_of_gradients():
    def program(x):
        y = x * 2
        if x[0] > 0:
            y = y.exp()
        return dynarl.tensor(len(str(y)) + 100 * len(str(y.detach())) + 10_000 * ("grad_fn=<" in str(y)))

    compare(program, np.round(X), gradients=True)


@pytest.mark.usefixtures("unguarded")
def test_the_debugging_view_shows_samples_and_rows():
    shown = []

    def program(x):
        if x[0] > 0:
            shown.append(repr([x]))
        return x

    batched(program, mode="eager")(X)
    assert "samples [0, 2]" in shown[0]
    assert "[ 1.    2.   -1.5 ]" in shown[0]


def test_text_as_a_key():
    compare(lambda x: x * {"0": 1.0, "1": 2.0, "2": 3.0}[f"{x.argmax()}"], X)


def test_tensors_as_keys():
    def program(x):
        a, b = x[0], x[1]
        found = {a: 1.0, b: 2.0}
        found[a] += 10
        return x * found[a] + found[b] * (b in found) + 5.0 * (x in found)

    compare(program, X)


@pytest.mark.parametrize("function", [float, lambda v: v.item(), lambda v: v.tolist(), lambda v: float(str(v)[7:-1])])
def test_zeros_of_both_signs(function):
    compare(lambda x: x[1] * math.copysign(1.0, function(x[0])), ZEROS, gradients=False)
    compare(lambda x: x[1:] * math.atan2(function(x[0]), -1.0), ZEROS[:4], gradients=False)


def test_zeros_that_are_numbers():
    def program(x):
        zero = 0.0 if x[1] > 1 else -0.0
        y = x * math.copysign(2.0, zero)
        return y + (x * zero).clamp(min=zero), zero

    compare(program, ZEROS[:4], gradients=False)

    def returned(x):
        zero = float(x[0])
        return zero, x.clamp(zero, 1.0) * 0

    compare(returned, ZEROS[:4], gradients=False)


def test_zeros_in_objects():
    objects = [(0.0, ZEROS[0]), (-0.0, ZEROS[1]), (float("nan"), ZEROS[2]), (float("nan"), ZEROS[3])]

    def program(pair):
        number, x = pair
        return x[1] * math.copysign(1.0, number)

    want = [1.0, -1.0, 2.0, 2.0]
    for mode in ("eager", "lockstep", "auto", "loop"):
        np.testing.assert_array_equal(batched(program, mode=mode)(ObjectBatch(objects)).array, want)
    assert len(set(ObjectBatch(objects).structure)) == 3


def test_split_tells_zeros_apart_and_nans_not():
    payload = np.array([0x7FC00001, 0x7FC00002], np.uint32).view(np.float32)
    values = np.concatenate([payload, np.array([0.0, -0.0, 0.0, 1.0, -0.0, 0.0], np.float32)])
    parts = split(values)
    assert [(str(value), rows.tolist()) for value, rows in parts] == [
        ("0.0", [2, 4, 7]), ("-0.0", [3, 6]), ("nan", [0, 1]), ("1.0", [5]),
    ]  # fmt: skip
    assert split(payload) is None
    assert split(np.zeros(3, np.float32)) is None
    assert [str(value) for value, _ in split(np.array([-0.0, 0.0, -0.0]))] == ["-0.0", "0.0"]
    assert split(np.array([0, 0])) is None


def iterations():  # noqa: C901
    def counts(x):
        n = 0
        for v in x:
            if v > 0:
                n += 1
        return x * n

    def early(x):
        for v in x:
            if int(v) == 2:
                return v * x
        return x * 0

    def nested(x):
        y = x.unsqueeze(0) * x.unsqueeze(1)
        total = x[0] * 0
        for row in y:
            for v in row:
                if v > 1:
                    total = total + v
                elif v < -2:
                    break
        return total

    def with_index(x):
        y = x
        for i, v in enumerate(x):
            if v > 0.4:
                y = y * (i + 1)
        return y, [v * 2 for v in x], max(float(v) for v in x)

    return counts, early, nested, with_index


@pytest.mark.parametrize("program", iterations())
def test_iteration_before_a_split(program):
    compare(program, X)


def test_copies():
    def deep(x):
        state = copy.deepcopy({"h": x.detach() * 2, "n": [x.detach()]})
        state["h"] += 1
        return state["h"] * x + state["n"][0]

    compare(deep, X)

    def shallow(x):
        return copy.copy(x) * 2 + copy.copy([x, x])[1]

    compare(shallow, X)
    with pytest.raises(RuntimeError, match="deepcopy: only leaf tensors can be copied deeply"):
        batched(lambda x: copy.deepcopy(x * 2))(dynarl.tensor(X).requires_grad_())
    with pytest.raises(PerSampleError, match="pickle: a per-sample tensor belongs to one batched call"):
        batched(lambda x: pickle.dumps(x))(X)


def test_tensors_made_of_values():
    def program(x):
        pair = dynarl.tensor([x[0], 2.0, x.argmax()])
        d = x.detach()
        table = dynarl.tensor([[d[0], 1], [d[1], d[2]]])
        return (
            pair,
            table,
            dynarl.tensor(x),
            dynarl.as_tensor(x) * 2,
            dynarl.tensor([x.argmax(), 1]),
            dynarl.zeros_like(x),
        )

    compare(program, X)


def test_numpy_functions():
    compare(lambda x: np.exp(x) + np.float64(2.0) * x + np.ones(3, np.float32) * x, X, rtol=1e-5)
    compare(lambda x: (x > 0).long() * np.float64(2.5), X)
    with pytest.raises(TypeError, match=r"numpy\.hypot: not offered for a per-sample tensor; use dynarl"):
        batched(lambda x: np.hypot(x, x))(X)


def test_description():
    def program(x):
        y = x.reshape(1, 3)
        assert (y.nelement(), y.nbytes, y.element_size(), y.dim(), y.size(1)) == (3, 12, 4, 2, 3)
        assert x.is_leaf and x.grad is None and x.is_contiguous()
        return x.to("cpu").to(dynarl.float64, copy=True).to(x).data

    compare(program, X, gradients=False)


@pytest.mark.usefixtures("unguarded")
def test_another_thread_is_told_so():
    errors = []

    def program(x):
        def work():
            try:
                x + 1
            except PerSampleError as error:
                errors.append(str(error))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return x

    batched(program)(X)
    assert "in another thread" in errors[0]


def test_its_class():
    assert issubclass(SampleTensor, dynarl.Tensor)
    x = dynarl.zeros(2)
    assert not isinstance(x, SampleTensor)
