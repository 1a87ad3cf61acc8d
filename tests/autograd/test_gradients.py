"""Every differentiable case against finite differences, first and second order, with dynarl's own checker."""

import pytest

from dynarl.autograd import gradcheck, gradgradcheck
from tests.helpers.case import outputs
from tests.helpers.cases import CASES
from tests.helpers.engine import ENGINE, is_tensor


def function_of_floats(case):
    """The case as a function of its floating inputs alone, and those inputs."""
    inputs = case.tensors(ENGINE)
    floats = [x for x in inputs if x.requires_grad]

    def f(*values):
        values = iter(values)
        results = outputs(case.run(ENGINE, *[next(values) if x.requires_grad else x for x in inputs]))
        return tuple(out for out in results if is_tensor(out) and out.is_floating_point())

    return f, floats


FIRST = [c for c in CASES if c.orders and any(a.dtype == "float64" for a in c.arrays())]
SECOND = [c for c in FIRST if c.orders > 1]


@pytest.mark.parametrize("case", FIRST, ids=lambda c: c.name)
def test_first_order(case):
    f, floats = function_of_floats(case)
    assert gradcheck(f, floats)


@pytest.mark.parametrize("case", SECOND, ids=lambda c: c.name)
def test_second_order(case):
    f, floats = function_of_floats(case)
    assert gradgradcheck(f, floats)
