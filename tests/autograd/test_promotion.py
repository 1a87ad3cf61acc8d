"""Dtypes of results: PyTorch's promotion of tensors, 0-dim tensors and Python numbers."""

import itertools

import numpy as np
import pytest

import dynarl
from tests.helpers.engine import ENGINE

# Not offered by torch with the same promotion: uint16, uint32, uint64
DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
NUMBERS = [True, 2, 2.5]
PAIRS = list(itertools.combinations_with_replacement(DTYPES, 2))
BINARY = ["add", "mul", "div", "maximum", "eq", "where", "cat", "pow", "remainder"]
NO_BOOL = {"pow", "remainder"}  # torch's own answers for bools are accidents

# What everybody should know by heart: left, right, dtype of the sum
FACTS = [
    ("float32", "float64", "float64"), ("float32", "int64", "float32"), ("int32", "int64", "int64"),
    ("uint8", "int8", "int16"), ("bool", "uint8", "uint8"), ("bool", "float16", "float16"),
    ("float16", "int64", "float16"), ("bool", "bool", "bool"), ("float16", "float32", "float32"),
]  # fmt: skip
SCALAR_FACTS = [  # a tensor with dimensions, then a Python number or a 0-dim tensor of that dtype
    ("float32", 2.5, "float32"), ("float16", 2.5, "float16"), ("int64", 2, "int64"), ("int32", 2, "int32"),
    ("uint8", 2, "uint8"), ("int64", 2.5, "float32"), ("bool", 2, "int64"), ("bool", 2.5, "float32"),
    ("bool", True, "bool"), ("float32", True, "float32"),
    ("float32", "float64", "float32"), ("int32", "int64", "int32"), ("int64", "float64", "float64"),
    ("bool", "uint8", "uint8"), ("float16", "float64", "float16"), ("int64", "float16", "float16"),
]  # fmt: skip


def name(dtype):
    return str(dtype).removeprefix("torch.")


def make(library, dtype, shape=(2,)):
    return library.tensor(np.ones(shape, dtype))


def call(library, op, x, y):
    """The dtype of a binary op's result, or the kind of error it raises."""
    try:
        if op == "where":
            return name(library.where(library.tensor(np.array([True, False])), x, y).dtype)
        if op == "cat":
            return name(library.cat([x, y]).dtype)
        return name(getattr(library, op)(x, y).dtype)
    except (RuntimeError, TypeError, NotImplementedError):
        return "refused"


@pytest.mark.parametrize(("left", "right", "expected"), FACTS)
def test_facts(left, right, expected):
    x, y = make(dynarl, left), make(dynarl, right)
    assert (x + y).dtype == (y + x).dtype == dynarl.result_type(x, y) == np.dtype(expected)


@pytest.mark.parametrize(("left", "right", "expected"), SCALAR_FACTS)
def test_scalar_facts(left, right, expected):
    x = make(dynarl, left)
    y = make(dynarl, right, ()) if isinstance(right, str) else right
    assert (x + y).dtype == (y + x).dtype == np.dtype(expected)


def test_numpy_scalars_are_as_weak_as_python_numbers():
    x = dynarl.ones(2)
    for value in (np.float64(2.5), np.float32(2.5), np.int64(2), np.sqrt(3)):
        for result in (x * value, value * x, x + value, value / x, x - value, value**x):
            assert isinstance(result, dynarl.Tensor) and result.dtype == dynarl.float32
    y = x.clone()
    y *= np.float64(2)
    assert y.dtype == dynarl.float32


def test_float32_never_leaks():
    """A long float32 computation with Python and NumPy numbers stays float32, forward and backward."""
    x = dynarl.randn(8, 3, requires_grad=True)
    y = (x * 0.5 + np.float64(1)).softmax(-1).log() / np.sqrt(2) - 1e-8
    z = dynarl.where(y > 0, y, 0.0).clamp(min=-3.0).sum(0).mean() ** 2 + (x.std() + 1e-8).sqrt()
    z.backward()
    assert z.dtype == x.grad.dtype == dynarl.float32


@pytest.mark.parametrize("op", BINARY)
@pytest.mark.parametrize("shapes", [((2,), (2,)), ((2,), ()), ((), (2,)), ((), ())], ids=str)
def test_pairs(op, shapes):
    torch = pytest.importorskip("torch")
    if op == "cat" and () in shapes:
        pytest.skip("cat takes no 0-dim tensors")
    wrong = {}
    for left, right in [*PAIRS, *((b, a) for a, b in PAIRS)]:
        results = [call(lib, op, make(lib, left, shapes[0]), make(lib, right, shapes[1])) for lib in (ENGINE, torch)]
        if results[0] != results[1] and not (op in NO_BOOL and left == right == "bool"):
            wrong[left, right] = results
    assert not wrong


@pytest.mark.parametrize("op", ["add", "mul", "div", "eq", "where", "pow", "remainder"])
@pytest.mark.parametrize("shape", [(2,), ()], ids=str)
def test_numbers(op, shape):
    torch = pytest.importorskip("torch")
    wrong = {}
    for dtype, number in itertools.product(DTYPES, NUMBERS):
        results = [call(lib, op, make(lib, dtype, shape), number) for lib in (ENGINE, torch)]
        if results[0] != results[1] and not (op in NO_BOOL and dtype == "bool"):
            wrong[dtype, number] = results
    assert not wrong


UNARY = [
    "exp", "sqrt", "tanh", "sigmoid", "log", "sin", "abs", "neg", "square", "sign", "floor", "round", "sum", "mean",
    "prod", "amax", "max", "argmax", "var", "cumsum", "cumprod", "isnan", "logical_not", "relu", "softmax",
    "log_softmax", "logsumexp", "sort", "norm", "reciprocal", "softplus", "logsigmoid", "zeros_like", "rand_like",
]  # fmt: skip


LEAKS = {"float64", "uint64", "int8"}  # what NumPy would make of integers where torch refuses them


@pytest.mark.parametrize("op", UNARY)
def test_unary(op):
    torch = pytest.importorskip("torch")
    wrong = {}
    for dtype in DTYPES:
        results = [unary(lib, op, make(lib, dtype)) for lib in (ENGINE, torch_library(torch))]
        if results[0] != results[1] and (results[1] != "refused" or results[0] in LEAKS) and dtype != "bool":
            wrong[dtype] = results
    assert not wrong


def unary(library, op, x):
    arguments = (-1,) if op in ("cumsum", "cumprod", "softmax", "log_softmax", "logsumexp", "sort") else ()
    try:
        result = getattr(library, op)(x, *arguments)
        return name((result[0] if isinstance(result, tuple) else result).dtype)
    except (RuntimeError, TypeError, NotImplementedError):
        return "refused"


def torch_library(torch):
    from tests.helpers.case import Library

    return Library(torch, torch.nn.functional)


@pytest.mark.parametrize(
    "values",
    [1, 1.5, True, [1, 2], [1, 2.5], [True, False], [[1.0], [2.0]], [], np.float32(1), np.float64(1), np.int32(3),
     np.ones(2, np.float16), np.ones(2, bool)],
    ids=repr,
)  # fmt: skip
def test_tensor_infers(values):
    x = dynarl.tensor(values)
    if isinstance(values, np.ndarray | np.generic):
        expected = values.dtype
    else:
        kind = np.asarray(values).dtype.kind if values != [] else "f"
        expected = {"b": "bool", "i": "int64", "f": "float32"}[kind]
    assert x.dtype == np.dtype(expected)
    assert x.shape == np.shape(values)


def test_default_dtype():
    try:
        dynarl.set_default_dtype(dynarl.float64)
        assert dynarl.zeros(2).dtype == dynarl.tensor(1.0).dtype == (dynarl.arange(2) * 0.5).dtype == dynarl.float64
        assert dynarl.get_default_dtype() == dynarl.float64
    finally:
        dynarl.set_default_dtype(dynarl.float32)
    with pytest.raises(TypeError, match="set_default_dtype: expected a floating dtype, got int64"):
        dynarl.set_default_dtype(dynarl.int64)


def test_in_place_keeps_the_dtype():
    x = dynarl.ones(2)
    x += dynarl.ones(2, dtype=dynarl.float64)
    x *= 3
    assert x.dtype == dynarl.float32
    n = dynarl.ones(2, dtype=dynarl.int64)
    n += 1
    assert n.dtype == dynarl.int64
    with pytest.raises(RuntimeError, match=r"float32.*int64"):
        n += 0.5
    with pytest.raises(RuntimeError, match=r"float32.*int64"):
        n /= 2
    with pytest.raises(RuntimeError, match=r"int64.*bool"):
        (n > 0).add_(n)


def test_matmul_refuses_mixed_dtypes():
    with pytest.raises((RuntimeError, TypeError), match=r"matmul: .*float32.*float64"):
        dynarl.ones(2, 2) @ dynarl.ones(2, 2, dtype=dynarl.float64)
    with pytest.raises((RuntimeError, TypeError), match=r"float32.*int64"):
        dynarl.ones(2, 2) @ dynarl.ones(2, 2, dtype=dynarl.int64)


def test_means_of_integers_are_refused():
    for op in ("mean", "var", "std"):
        with pytest.raises((RuntimeError, TypeError), match=rf"({op}|var): .*floating.*int64"):
            getattr(dynarl.arange(3), op)()


def test_bool_minus_is_refused():
    m = dynarl.tensor([True, False])
    for wrong in (lambda: -m, lambda: m - m):
        with pytest.raises((RuntimeError, TypeError), match=r"bool.*(logical_not|~|logical_xor|\^)"):
            wrong()
