"""What a Tensor is to Python and NumPy: conversion, protocol, printing, copying."""

import copy
import pickle

import numpy as np
import pytest

import dynarl


def test_item_and_conversions():
    x = dynarl.tensor([[2.5]])
    assert (x.item(), float(x), int(x), bool(x)) == (2.5, 2.5, 2, True)
    assert isinstance(dynarl.tensor(2).item(), int) and isinstance(dynarl.tensor(True).item(), bool)
    assert [10, 20, 30][dynarl.tensor(1)] == 20
    assert f"{dynarl.tensor(1.23456):.2f}" == "1.23"
    assert dynarl.tensor([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("convert", [float, int, bool, lambda x: x.item()], ids=["float", "int", "bool", "item"])
def test_only_one_number_converts(convert):
    with pytest.raises((RuntimeError, ValueError, TypeError), match=r"one .*\(2,\)|\(2,\) is ambiguous"):
        convert(dynarl.ones(2))


def test_length_iteration_membership():
    x = dynarl.arange(6).reshape(3, 2)
    assert len(x) == 3
    assert [row.tolist() for row in x] == [[0, 1], [2, 3], [4, 5]]
    assert 3 in x and 9 not in x
    _a, b, _c = x
    assert b.tolist() == [2, 3]
    for fails in (len, iter):
        with pytest.raises(TypeError, match="0-d"):
            fails(dynarl.tensor(1.0))


def test_numpy_reads_it():
    x = dynarl.tensor([1.0, 2.0])
    assert np.asarray(x).dtype == np.float32
    assert np.shares_memory(x.numpy(), np.asarray(x))
    assert np.asarray(x, dtype=np.float64).dtype == np.float64
    assert np.array([dynarl.tensor(1.0), dynarl.tensor(2.0)]).shape == (2,)
    assert np.mean(x.numpy()) == 1.5


def test_numpy_does_not_read_what_requires_grad():
    x = dynarl.ones(2, requires_grad=True)
    for read in (lambda: x.numpy(), lambda: np.asarray(x), lambda: (x * 2).numpy()):
        with pytest.raises(RuntimeError, match=r"requires grad.*detach\(\)"):
            read()
    assert x.detach().numpy().tolist() == [1.0, 1.0]


def test_ndarray_operators_reach_the_tensor():
    x = dynarl.tensor([1.0, 2.0], requires_grad=True)
    array = np.array([3.0, 4.0], np.float32)
    for y in (array * x, array + x, array - x, array / x, x * array, array @ x, array**x):
        assert isinstance(y, dynarl.Tensor) and y.requires_grad
    assert isinstance(array > x, dynarl.Tensor)
    (array * x).sum().backward()
    assert x.grad.tolist() == [3.0, 4.0]


def test_dlpack():
    x = dynarl.arange(3.0)
    assert np.from_dlpack(x).tolist() == [0.0, 1.0, 2.0]
    assert dynarl.from_dlpack(np.arange(3.0)).tolist() == [0.0, 1.0, 2.0]


def test_torch_exchange():
    torch = pytest.importorskip("torch")
    theirs = torch.arange(4.0).reshape(2, 2)
    assert dynarl.from_dlpack(theirs).tolist() == theirs.tolist()
    assert torch.from_dlpack(dynarl.arange(3.0)).tolist() == [0.0, 1.0, 2.0]
    assert dynarl.tensor(theirs.numpy()).tolist() == theirs.tolist()


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("t.tensor([1.0, 2.5])", ["2.5"]),
        ("t.tensor([1, 2])", ["tensor([1, 2])"]),
        ("t.tensor([True, False])", ["tensor([ True, False])"]),
        ("t.tensor(3.0)", ["tensor(3."]),
        ("t.tensor([1.0], dtype=t.float64)", ["dtype=", "float64"]),
        ("t.ones(2, requires_grad=True)", ["requires_grad=True"]),
        ("t.ones(2, requires_grad=True) * 2", ["grad_fn=<"]),
        ("t.zeros(0)", ["tensor([]"]),
    ],
)
def test_repr(source, parts):
    text = repr(eval(source, {"t": dynarl}))
    assert text.startswith("tensor(")
    assert all(part.replace(" ", "") in text.replace(" ", "") for part in parts), text


def test_repr_of_large_is_short():
    assert len(repr(dynarl.zeros(1000, 1000))) < 2000


def test_identity_hash_and_equality():
    x, y = dynarl.ones(2), dynarl.ones(2)
    assert len({x, y}) == 2 and {x: 1}[x] == 1
    assert (x == y).tolist() == [True, True]
    assert x in [x, y]
    assert (x == None) is False and (x != None) is True  # noqa: E711


def test_copies():
    x = dynarl.tensor([1.0, 2.0], requires_grad=True)
    y = copy.deepcopy(x)
    assert y.requires_grad and y.is_leaf and y is not x
    with dynarl.no_grad():
        y += 1
    assert x.tolist() == [1.0, 2.0]
    with pytest.raises(RuntimeError, match=r"deepcopy.*detach\(\)"):
        copy.deepcopy(x * 2)
    z = pickle.loads(pickle.dumps(x))
    assert z.tolist() == x.tolist() and z.requires_grad


def test_shape_is_a_tuple():
    x = dynarl.zeros(2, 3)
    assert x.shape == (2, 3) and x.size() == (2, 3) and x.size(-1) == 3
    assert x.shape[0] == 2 and x.ndim == x.dim() == 2 and x.numel() == x.nelement() == 6
    assert x.shape.numel() == 6 if hasattr(x.shape, "numel") else True
    assert x.element_size() == 4 and x.nbytes == 24
    rows, columns = x.shape
    assert (rows, columns) == (2, 3)


def test_to():
    x = dynarl.ones(2)
    assert x.to(dynarl.float64).dtype == dynarl.float64
    assert x.to("cpu") is x and x.to(dynarl.float32) is x and x.float() is x
    assert x.to("cpu", dynarl.int64).dtype == dynarl.int64
    assert x.to(device="cpu", dtype=dynarl.bool).dtype == dynarl.bool
    assert x.to(dynarl.device("cpu")) is x and x.cpu() is x
    assert x.device == dynarl.device("cpu") and x.device.type == "cpu" and not x.is_cuda


def test_contiguity():
    x = dynarl.arange(6).reshape(2, 3)
    assert x.is_contiguous() and not x.T.is_contiguous() and x.T.contiguous().is_contiguous()


def test_cuda_without_a_gpu_is_one_clear_line():
    if dynarl.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert dynarl.cuda.device_count() == 0
    with pytest.raises(RuntimeError, match=r"device cuda: .*(dynarl\[cuda12\]|driver|no GPU)") as error:
        dynarl.zeros(2, device="cuda")
    assert "\n" not in str(error.value)
