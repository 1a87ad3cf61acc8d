"""Every operation under the hidden batch axis: three samples at once must give what each gives alone."""

import itertools
import re
import warnings

import numpy as np
import pytest

import dynarl
from dynarl.batching import PerSampleError, batched
from tests.helpers.cases import CASES, inplace
from tests.helpers.engine import ENGINE, is_tensor

N = 3
REFUSED = (
    "in place|in-place|underscore|not offered|num_classes must be given|differ in number|mask would give|"
    "mask of each sample|different shapes|weights must be shared"
)

# what gives samples different shapes, and layers whose weights are a sample's own; all else must be offered
NOT_OFFERED = re.compile(
    r"masked_select|nonzero|unique|^where condition|\[.*[mk]\b.*\]|counts classes|linear|layers|weight"
)


def samples_of(case):
    """N different values for each input: permuted, so that they stay safe, integers included."""
    rng = np.random.default_rng(7)
    made = []
    for array in case.arrays():
        rows = [array] + [rng.permutation(array.reshape(-1)).reshape(array.shape) for _ in range(N - 1)]
        if array.dtype == np.float64 and array.size != 0:
            rows = [row + 0.001 * i for i, row in enumerate(rows)]
        made.append(np.stack(rows))
    return made


def flat(tree):
    if isinstance(tree, dict):
        return [leaf for key in sorted(tree) for leaf in flat(tree[key])]
    if isinstance(tree, (tuple, list)):
        return [leaf for part in tree for leaf in flat(part)]
    return [tree if is_tensor(tree) else dynarl.tensor(tree)]


def pull(outputs, inputs):
    """Gradients of the inputs, for cotangents that depend on the place in an output alone."""
    roots = [out for out in outputs if out.requires_grad]
    if roots:
        seeds = [dynarl.tensor(np.cos(np.arange(out.numel())).reshape(out.shape).astype(out.dtype)) for out in roots]
        dynarl.autograd.backward(roots, seeds)
    return [np.zeros(x.shape) if x.grad is None else x.grad.array.copy() for x in inputs]


def leaf(array, case):
    return dynarl.tensor(array, requires_grad=case.orders is not None and array.dtype.kind == "f")


def alone(case, stacks, flags):
    """Values and gradients of the stack of the samples, each run by itself."""
    inputs = [leaf(stack if own else stack[0], case) for stack, own in zip(stacks, flags)]
    rows = [flat(case.run(ENGINE, *(x[i] if own else x for x, own in zip(inputs, flags)))) for i in range(N)]
    outputs = [dynarl.stack(list(column)) for column in zip(*rows)]
    return outputs, pull(outputs, inputs)


def together(case, stacks, flags, mode):
    inputs = [leaf(stack if own else stack[0], case) for stack, own in zip(stacks, flags)]
    shared = iter([x for x, own in zip(inputs, flags) if not own])
    places = [None if own else next(shared) for own in flags]

    def program(*given):
        given = iter(given)
        return case.run(ENGINE, *(next(given) if place is None else place for place in places))

    outputs = flat(batched(program, mode=mode)(*(x for x, own in zip(inputs, flags) if own)))
    return outputs, pull(outputs, inputs)


def combinations():
    for case in CASES:
        if case.name.startswith(("y +=", "y -=", "y *=", "y /=", "y **=", "+= keeps")):
            continue  # on a sample's tensor `y += 1` means y = y + 1: nothing changes in place
        for flags in itertools.product([True, False], repeat=len(case.inputs)):
            if any(flags) and (sum(flags) in (1, len(flags))):
                for mode in ("auto", "lockstep") if all(flags) else ("auto",):
                    name = f"{case.name}-{''.join('xs'[not own] for own in flags)}-{mode}"
                    yield pytest.param(case, flags, mode, id=name)


@pytest.mark.parametrize(("case", "flags", "mode"), list(combinations()))
def test_rows_equal_samples(case, flags, mode):
    stacks = samples_of(case)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            values, gradients = alone(case, stacks, flags)
        except (ValueError, TypeError, IndexError, RuntimeError):
            pytest.skip("the samples give different shapes, or other values are not in its domain")
        try:
            got, pulled = together(case, stacks, flags, mode)
        except (PerSampleError, TypeError, ValueError) as error:
            assert re.search(REFUSED, str(error)), error
            assert case in inplace.CASES or NOT_OFFERED.search(case.name), case.name
            return
    assert len(got) == len(values)
    for g, e in zip(got, values):
        assert tuple(g.shape) == tuple(e.shape)
        assert g.requires_grad == e.requires_grad or e.dtype.kind != "f"
        np.testing.assert_allclose(
            g.detach().array.astype(float), e.detach().array.astype(float), rtol=1e-9, atol=1e-12
        )
    for g, e in zip(pulled, gradients):
        np.testing.assert_allclose(g, e, rtol=1e-9, atol=1e-11)
