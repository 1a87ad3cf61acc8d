"""Every case against NumPy's closed form, and against torch where it is installed."""

import numpy as np
import pytest

from tests.helpers.case import Case, outputs
from tests.helpers.cases import CASES
from tests.helpers.engine import ENGINE, host, is_tensor

REFERENCED = [c for c in CASES if c.ref is not None]
named = {"ids": lambda c: c.name if isinstance(c, Case) else None}


def close(got, expected, dtype, rtol, what):
    double = np.dtype(dtype) == np.float64
    np.testing.assert_allclose(
        got, expected, rtol=1e-9 if double else rtol, atol=1e-12 if double else rtol / 5, err_msg=what
    )


def test_names_are_unique():
    names = [c.name for c in CASES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("case", REFERENCED, **named)
def test_numpy(case):
    got = outputs(case.run(ENGINE, *case.tensors(ENGINE)))
    expected = outputs(case.ref(*case.arrays()))
    assert len(got) == len(expected)
    for g, e in zip(got, expected):
        assert np.shape(host(g)) == np.shape(e)
        close(host(g), e, np.float64, 0, "value")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, **named)
@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad=True to a scalar")
@pytest.mark.filterwarnings("ignore:The use of `x.T` on tensors")
def test_torch(case, dtype):
    torch = pytest.importorskip("torch")
    theirs, ours = (run(case, lib, dtype) for lib in (torch_library(torch), ENGINE))
    assert len(ours.out) == len(theirs.out)
    for got, expected in zip(ours.out, theirs.out):
        assert is_tensor(got) == is_tensor(expected), (got, expected)
        if is_tensor(expected):
            assert describe(got) == describe(expected)
        close(host(got), host(expected), dtype, case.rtol, "value")
    for got, expected in zip(ours.grads, theirs.grads):
        assert (got is None) == (expected is None)
        if expected is not None:
            assert describe(got) == describe(expected)
            close(host(got), host(expected), dtype, case.rtol, "gradient")


class run:
    """A case's outputs, and its gradients for fixed cotangents."""

    def __init__(self, case, library, dtype):
        inputs = case.tensors(library, dtype)
        self.out = outputs(case.run(library, *inputs))
        roots = [o for o in self.out if is_tensor(o) and o.requires_grad]
        rng = np.random.default_rng(1)
        seeds = [library.tensor(rng.standard_normal(tuple(o.shape)).astype(str(o.dtype).split(".")[-1])) for o in roots]
        if roots:
            library.autograd.backward(roots, seeds)
        self.grads = [x.grad for x in inputs]


def torch_library(torch):
    from tests.helpers.case import Library

    return Library(torch, torch.nn.functional)


def describe(tensor):
    return str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), tensor.requires_grad
