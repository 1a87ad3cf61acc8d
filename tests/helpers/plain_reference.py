"""The reference of every per-sample program: plain Python, each sample alone on ordinary Tensors, nothing rewritten."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pytest

import dynarl
from dynarl import nn
from dynarl.batching import ObjectBatch, Ragged, batched

__all__ = [
    "EVERY",
    "MODES",
    "Result",
    "X",
    "assert_close",
    "assert_equals_plain",
    "in_every_mode",
    "parametrize",
    "run_batched",
    "run_plain",
]

MODES = ("loop", "eager", "auto", "lockstep")
EVERY = " ".join(MODES)

X = np.array([[1.0, 2.0], [-1.0, 2.0], [3.0, -1.0], [-2.0, -2.0], [0.5, -0.25], [-0.75, 3.5]])
"""[6, 2]: both elements have both signs, no two rows are equal."""


@dataclasses.dataclass
class Result:
    """Values [N, ...] of every number and tensor returned, whether each has history, and all gradients."""

    values: list[np.ndarray]
    requires_grad: list[bool]
    gradients: list[np.ndarray]  # with the gradients of a sum of the gradients, if asked for


def run_plain(
    program: Callable[..., Any],
    args: Sequence[Any],
    *,
    parameters: Sequence[dynarl.Tensor] = (),
    each: Callable[[int], Any] = lambda i: None,
    second: bool = False,
) -> Result:
    """Call the program once for each sample, after `each(sample)`."""
    batches = [with_history(x) for x in args]
    size = next(len(x) for x in batches if isinstance(x, (dynarl.Tensor, Ragged, ObjectBatch)))
    rows = []
    for i in range(size):
        each(i)
        rows.append(leaves(program(*[sample(x, i) for x in batches])))
    if len({len(row) for row in rows}) > 1:
        raise ValueError("plain: samples return different numbers of values")
    return result_of(
        [dynarl.stack(list(column)) for column in zip(*rows)], sources_of(program, batches, parameters), second
    )


def run_batched(
    program: Callable[..., Any],
    args: Sequence[Any],
    mode: str,
    *,
    calls: int = 1,
    parameters: Sequence[dynarl.Tensor] = (),
    second: bool = False,
    options: Callable[[], dict[str, Any]] = dict,
    check: int = 4,
) -> Result:
    """Call the batched program with options of each call; the last of several calls counts."""
    run = batched(program, mode=mode, check=check)
    for _ in range(calls):
        batches = [with_history(x) for x in args]
        outputs = leaves(run(*batches, **options()))
    return result_of(outputs, sources_of(program, batches, parameters), second)


def with_history(x: Any) -> Any:
    """Return a float array as a leaf tensor that requires a gradient."""
    if not isinstance(x, np.ndarray):
        return x
    return dynarl.tensor(x, requires_grad=x.dtype.kind == "f")


def sample(x: Any, i: int) -> Any:
    """Return what sample i sees of a batch."""
    if isinstance(x, dynarl.Tensor):
        return x[i]
    if isinstance(x, Ragged):
        start, size = int(x.segments.starts[i]), int(x.lengths[i])
        return [x.values[start + t] for t in range(size)]
    return own_copy(x.objects[i], {}) if isinstance(x, ObjectBatch) else x


def own_copy(x: Any, seen: dict[int, Any]) -> Any:
    """Return an object with tensors in place of its arrays and containers of its own; aliases stay aliases."""
    if id(x) in seen:
        return seen[id(x)]
    if isinstance(x, np.ndarray):
        made: Any = dynarl.tensor(x)
    elif isinstance(x, (list, tuple)):
        made = type(x)([own_copy(part, seen) for part in x])
    elif isinstance(x, dict):
        made = {key: own_copy(part, seen) for key, part in x.items()}
    elif dataclasses.is_dataclass(x):
        made = copy.copy(x)
        for field in dataclasses.fields(x):
            object.__setattr__(made, field.name, own_copy(getattr(x, field.name), seen))
    else:
        made = copy.deepcopy(x)
    seen[id(x)] = made
    return made


def sources_of(program: Any, batches: Iterable[Any], parameters: Sequence[dynarl.Tensor]) -> list[dynarl.Tensor]:
    """Return the tensors whose gradients are compared: inputs, and the given parameters or those of a Module."""
    if not parameters and isinstance(program, nn.Module):
        parameters = list(program.parameters())
    return [*[x for x in batches if isinstance(x, dynarl.Tensor) and x.requires_grad], *parameters]


def leaves(tree: Any) -> list[dynarl.Tensor]:
    """Return the tensors and numbers of a result in order, numbers as tensors; strings and None have no value."""
    if isinstance(tree, dict):
        return [leaf for key in sorted(tree) for leaf in leaves(tree[key])]
    if isinstance(tree, (tuple, list)):
        return [leaf for part in tree for leaf in leaves(part)]
    if tree is None or isinstance(tree, str):
        return []
    return [tree if isinstance(tree, dynarl.Tensor) else dynarl.tensor(np.asarray(tree, np.float64))]


def result_of(outputs: list[dynarl.Tensor], sources: list[dynarl.Tensor], second: bool = False) -> Result:
    """Return values and the gradients of a sum with random weights, and of a sum of these gradients if asked for."""
    gradients = gradients_of(outputs, sources, create_graph=second)
    if second:
        gradients += gradients_of(gradients, sources, create_graph=False)
    return Result(
        [out.detach().numpy().astype(float) for out in outputs],
        [out.requires_grad for out in outputs],
        [g.detach().numpy() for g in gradients],
    )


def gradients_of(outputs: list[dynarl.Tensor], sources: list[dynarl.Tensor], *, create_graph: bool) -> list[Any]:
    """Return the gradients of a sum of outputs with random weights; outputs without history are left out."""
    rng = np.random.default_rng(1)
    terms = [(out, dynarl.tensor(rng.standard_normal(out.shape))) for out in outputs]  # one draw for every output
    products = [(out * weights).sum() for out, weights in terms if out.requires_grad]
    if not products:
        return [dynarl.zeros_like(x.detach()) for x in sources]
    return list(
        dynarl.grad(sum(products), sources, create_graph=create_graph, allow_unused=True, materialize_grads=True)
    )


def assert_close(got: Result, want: Result, *, rtol: float = 1e-6, atol: float = 1e-7) -> None:
    """Compare two results."""
    assert len(got.values) == len(want.values), (
        f"number of values {len(got.values)}, plain Python has {len(want.values)}"
    )
    for i, (g, w) in enumerate(zip(got.values, want.values)):
        assert g.shape == w.shape, f"shape of value {i} {g.shape}, plain Python has {w.shape}"
        np.testing.assert_allclose(g, w, rtol=rtol, atol=atol, err_msg=f"value {i}")
    assert got.requires_grad == want.requires_grad, "history"
    for i, (g, w) in enumerate(zip(got.gradients, want.gradients)):
        scale = max(1.0, np.abs(w).max(initial=0))
        np.testing.assert_allclose(g, w, rtol=rtol, atol=atol * scale, err_msg=f"gradient {i}")


def assert_equals_plain(build: Callable[[], Any], mode: str, *, check: int = 4) -> None:
    """Compare a program in one mode with plain Python: `build()` returns the program, or (program, arguments)."""
    dynarl.manual_seed(0)
    program, args = built(build)
    want = run_plain(program, args)
    dynarl.manual_seed(0)
    program, args = built(build)  # nothing that the first program kept can reach the second
    assert_close(run_batched(program, args, mode, calls=2, check=check), want)


def built(build: Callable[[], Any]) -> tuple[Any, tuple[Any, ...]]:
    """Return a program and its arguments."""
    made = build()
    return made if isinstance(made, tuple) else (made, (X,))


def in_every_mode(*, wrong: str = "") -> Any:
    """Run a test with each `mode`; `wrong` lists the modes in which it is known to fail."""
    return pytest.mark.parametrize("mode", [pytest.param(mode, marks=marks(mode, wrong)) for mode in MODES])


def parametrize(cases: dict[str, Any], wrong: dict[str, str]) -> Any:
    """Run a test with each `case` and `mode`; `wrong` lists the modes in which a case is known to fail."""
    unknown = set(wrong) - set(cases)
    if unknown:
        raise KeyError(f"parametrize: no case is called {sorted(unknown)}")
    return pytest.mark.parametrize(
        ("case", "mode"),
        [
            pytest.param(case, mode, id=f"{name}-{mode}", marks=marks(mode, wrong.get(name, "")))
            for name, case in cases.items()
            for mode in MODES
        ],
    )


def marks(mode: str, wrong: str) -> list[Any]:
    """Return the strict mark of a known failure: whoever makes it right takes it from the list."""
    known = pytest.mark.xfail(strict=True, reason="known to differ from plain Python")
    return [known] if mode in wrong.split() else []
