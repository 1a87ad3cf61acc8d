"""The self-check: some samples of a batched call are compared with plain Python, each alone (see `reference`).

It runs after the first call of a program and after calls that split samples at a new line. Rounding in a batch is not
rounding of one row, and may decide a branch. A sample that differs therefore runs again from inputs and parameters
that are changed by their rounding error: if plain Python itself then differs from plain Python, nothing is said.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.autograd import Tensor
from dynarl.autograd.backward import grad
from dynarl.autograd.call_site import line_of
from dynarl.autograd.device import to_host, xp
from dynarl.autograd.grad_mode import is_grad_enabled
from dynarl.autograd.tensor import wrap
from dynarl.batching.draws import Draws
from dynarl.batching.eager.repeat import Outcomes
from dynarl.batching.groups.execution import state
from dynarl.batching.groups.group import PerSampleError
from dynarl.batching.groups.run import BatchedRun
from dynarl.batching.inputs import Inputs
from dynarl.batching.outer_state import OuterState
from dynarl.batching.reference import run_plain
from dynarl.batching.values.kinds import Inseparable
from dynarl.batching.values.object_batch import ObjectBatch
from dynarl.batching.values.pytree import Structure, flatten
from dynarl.batching.values.ragged import Ragged
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.batching.wiring import batched_run_open

__all__ = ["SelfCheck"]

_MOST_CHECKS = 8  # of one program
_DISTURBED = 4  # runs of a sample that differs, to see whether rounding decides its result
_ULPS = 8.0  # relative size of the disturbance, in units of the last place
_CLOSE = {"f2": 2e-2, "f4": 1e-4, "f8": 1e-8}
"""Difference of values that is put down to rounding, relative to the largest value at their place."""
_GRADIENTS = 10.0  # a gradient may differ by so many times more
_SMALL = 1e-2  # values are compared absolutely below this scale
_WHY = (
    "Programs do so whose result depends on more than their arguments and parameters (attributes and globals that they "
    "change, caches, counters, clocks), or that do what batching cannot follow: please report these. explain() lists "
    "where samples part; mode='loop' runs them one by one; check=0 turns this check off"
)

Numbers = NDArray[Any]
Noise = Callable[[Any], Any]
"""Returns an array with every float changed by a few units of the last place."""


@dataclasses.dataclass
class Result:
    """What one sample's program returned: its leaves, how many times it drew, and the error that it raised."""

    leaves: list[Any]  # Tensors and numbers
    structure: Structure
    draws: int
    error: Exception | None = None


class SelfCheck:
    """Compares samples of the calls of one program with the program alone, as long as calls do something new."""

    def __init__(self, program: Any, rows: int) -> None:
        self.program, self.rows = program, rows
        self.left = _MOST_CHECKS if rows else 0
        self._seen: set[Any] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: lines of the program are not."""
        return {**self.__dict__, "_seen": set()}

    def wanted(self, paths: Any) -> bool:
        """Return whether a call that begins may be checked.

        Calls with recorded paths are not: what they decide is given. Nor are calls inside a program that runs, or
        while another thread runs one.
        """
        return bool(self.left) and paths is None and state.execution is None and not batched_run_open._open

    def compare(self, inputs: Inputs, run: BatchedRun, outcomes: Outcomes, tree: Any, drawn: Any) -> None:
        """Compare samples of a call with plain Python, if it did something new; raise PerSampleError if they differ.

        `tree` is the result of all samples, `drawn` the state of the random streams before the call. The program is
        not checked if it reaches objects that cannot be put back (iterators, files, objects of classes written in C,
        Modules with hooks), or if it uses what only batched calls offer (`x.sample`, tensors of an earlier call).
        Gradients are not compared through tensors with hooks, and where they are not finite.
        """
        mode = run.lockstep, is_grad_enabled()
        new = [line for line in run.splits if (run.lockstep, line) not in self._seen]
        if mode in self._seen and not new:
            return
        self._seen |= {mode, *[(run.lockstep, line) for line in new]}
        self.left -= 1
        with contextlib.suppress(Inseparable):
            outer = OuterState((self.program, *_constants(inputs.structure)))
            with outer.kept(), _quiet():
                _Comparison(self.program, inputs, run, tree, drawn, outer).check(_chosen(run, new, outcomes, self.rows))


def _chosen(run: BatchedRun, lines: Sequence[Any], outcomes: Outcomes, count: int) -> list[int]:
    """Return samples of different paths: of each part that was split at new lines, of each path, and any others."""
    size = run.root.size
    groups = [group for line in lines for group in reversed(run.first_splits.get(line, ()))]
    groups += [group for group, _ in outcomes]
    samples = [int(group.samples()[0]) for group in groups]
    samples += np.linspace(0, size - 1, min(size, count)).astype(int).tolist()
    return list(dict.fromkeys(samples))[:count]


def _constants(structure: Structure) -> list[Any]:
    """Return the objects in the arguments of a call that all samples share."""
    if structure == "leaf":
        return []
    kind, parts = structure
    if kind == "constant":
        return [parts]
    return [x for part in parts for x in _constants(part[1] if kind is dict else part)]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what a program prints and warns of: it has done so before."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _Comparison:
    """One check: the result of a call beside that of plain Python."""

    def __init__(self, program: Any, inputs: Inputs, run: BatchedRun, tree: Any, drawn: Any, outer: OuterState) -> None:
        self.program, self.inputs, self.run, self.outer = program, inputs, run, outer
        self.leaves, self.structure = flatten(tree)
        self.rows = [_rows(leaf, run.root.size) for leaf in self.leaves]
        self.arrays = [to_host(x.array) for x in self.rows]
        size = run.root.size
        self.drawn = np.zeros(size, np.uint32) if drawn is None else drawn
        self.draws = run.draws if run.draws is not None else Draws(0, np.arange(size), 0)
        self.sources = _unique([x for x in (*_tensors_of(inputs), *outer.tensors) if x.requires_grad])
        kinds = {x.dtype.str[1:] for x in (*self.rows, *_tensors_of(inputs), *outer.tensors) if x.dtype.kind == "f"}
        self.close = max([_CLOSE.get(kind, 1e-2) for kind in kinds], default=1e-8)

    def check(self, samples: Sequence[int]) -> None:
        """Compare values, then gradients."""
        equal = [(sample, result) for sample in samples if (result := self._equal(sample)) is not None]
        if equal and is_grad_enabled() and not any([_has_hooks(x) for x in self.sources]):
            self._check_gradients(equal)

    # -- running ----------------------------------------------------------------------------------------------------

    def _alone(self, sample: int, noise: Noise | None = None) -> Result:
        """Run the program for one sample."""
        run = BatchedRun(self.run.root.size, self.run.max_groups, self.run.max_steps, self.run.arguments)
        draws = run.draws = copy.copy(self.draws)
        draws.count = self.drawn.copy()
        own = _cloned if noise is None else lambda x: _disturbed(x, noise)
        with contextlib.nullcontext() if noise is None else _parameters(self.outer.tensors, noise):
            try:
                _, tree = run_plain(self.program, self.inputs, sample, run, own)
            except PerSampleError:
                raise
            except Exception as error:
                return Result([], None, 0, error)
            finally:
                self.outer.restore()
        leaves, structure = flatten(tree)
        leaves = [leaf.tensor[0] if leaf.__class__ is SampleTensor else leaf for leaf in leaves]
        return Result(leaves, structure, int(draws.count[sample] - self.drawn[sample]))

    def _of_batch(self, sample: int) -> Result:
        draws = int(self.draws.count[sample] - self.drawn[sample])
        return Result([x[sample] for x in self.arrays], self.structure, draws)

    # -- values -----------------------------------------------------------------------------------------------------

    def _equal(self, sample: int) -> Result | None:
        """Return the result of a sample alone, None if rounding decides it; raise if the batch has another one."""
        try:
            alone = self._alone(sample)
        except PerSampleError:  # it uses what only batched calls offer
            return None
        found = self._difference(self._of_batch(sample), alone)
        if found is None or _asks_for_a_sample(alone.error):
            return alone if alone.error is None else None
        for seed in range(_DISTURBED):
            with contextlib.suppress(PerSampleError):
                if self._difference(alone, self._alone(sample, _noise(seed))) is not None:
                    return None
        raise self._error(sample, *found) from alone.error

    def _difference(self, got: Result, want: Result) -> tuple[str, Any, Any] | None:
        """Return (place, got, want) of the first difference between two results of a sample."""
        if got.error is not None or want.error is not None:
            errors = got.error.__class__, want.error.__class__
            return ("", got.error, want.error) if errors[0] is not errors[1] else None
        if got.structure != want.structure or len(got.leaves) != len(want.leaves):
            return "", "another structure", "a structure of its own"
        for i, (g, w) in enumerate(zip(got.leaves, want.leaves)):
            g, w = _array(g), _array(w)
            if not self._close(g, w, self.arrays[i]):
                return _places(self.structure)[i], g, w
        if got.draws != want.draws:
            return "number of random draws", got.draws, want.draws
        return None

    def _close(self, g: Numbers, w: Numbers, all_rows: Numbers) -> bool:
        if g.shape != w.shape and w.shape != () and g.shape != ():
            return False
        if all_rows.dtype.kind != "f" and g.dtype.kind != "f" and w.dtype.kind != "f":
            return bool(np.all(g == w))
        return _near(g, w, self.close * max(_SMALL, _largest(all_rows), _largest(w)))

    # -- gradients --------------------------------------------------------------------------------------------------

    def _check_gradients(self, equal: list[tuple[int, Result]]) -> None:
        if self._gradients_equal(equal):
            return
        for sample, result in equal:
            if self._gradients_equal([(sample, result)]):
                continue
            first = self._gradients(result.leaves, sample)
            moved = [self._disturbed_gradients(sample, seed) for seed in range(_DISTURBED)]
            if any([other is None or self._parted(other, first) is not None for other in moved]):
                continue
            batch = self._gradients([x[sample] for x in self.rows], sample)
            i = self._parted(batch, first)
            if i is not None:
                raise self._error(sample, f"gradient of {self._name(i)}", batch[i], first[i])

    def _disturbed_gradients(self, sample: int, seed: int) -> list[Numbers] | None:
        noise = _noise(seed)
        with contextlib.suppress(PerSampleError):
            result = self._alone(sample, noise)
            if result.error is None and result.structure == self.structure:
                return self._gradients(result.leaves, sample)
        return None

    def _gradients_equal(self, equal: list[tuple[int, Result]]) -> bool:
        batch = self._gradients_of_samples([(sample, [x[sample] for x in self.rows]) for sample, _ in equal])
        alone = self._gradients_of_samples([(sample, result.leaves) for sample, result in equal])
        return self._parted(batch, alone) is None

    def _gradients(self, leaves: Sequence[Any], sample: int) -> list[Numbers]:
        return self._gradients_of_samples([(sample, leaves)])

    def _gradients_of_samples(self, results: Sequence[tuple[int, Sequence[Any]]]) -> list[Numbers]:
        """Return the gradients of a sum of results with random weights; the same weights for the same sample."""
        total: Any = None
        for sample, leaves in results:
            rng = np.random.default_rng(sample)
            for leaf, rows in zip(leaves, self.arrays):
                weights = rng.uniform(0.5, 1.5, rows.shape[1:])
                if isinstance(leaf, Tensor) and leaf.requires_grad and leaf.shape == weights.shape:
                    term = (leaf * wrap(xp(leaf.array).asarray(weights.astype(leaf.dtype)))).sum()
                    total = term if total is None else total + term.to(total.dtype)
        if total is None or not self.sources:
            return [np.zeros(x.shape) for x in self.sources]
        found = grad(total, self.sources, retain_graph=True, allow_unused=True)
        return [np.zeros(x.shape) if g is None else to_host(g.array) for x, g in zip(self.sources, found)]

    def _parted(self, got: Sequence[Numbers], want: Sequence[Numbers]) -> int | None:
        """Return the first source whose gradients differ."""
        overall = max([_largest(w) for w in want], default=0.0)
        for i, (g, w) in enumerate(zip(got, want)):
            if np.isfinite(g).all() and np.isfinite(w).all():
                scale = max(1e-3 * overall, _largest(w), _largest(g))
                if not _near(g, w, self.close * _GRADIENTS * max(scale, 1e-6)):
                    return i
        return None

    def _name(self, i: int) -> str:
        x = self.sources[i]
        for k, y in enumerate(_tensors_of(self.inputs)):
            if x is y:
                return f"argument {k}"
        return f"a tensor of shape {tuple(x.shape)}"

    def _error(self, sample: int, place: str, got: Any, want: Any) -> PerSampleError:
        lines = ", ".join([line_of(line) for line in [*self.run.splits][:3]])
        return PerSampleError(
            f"batched: the program gives sample {sample} another result than it has alone, in plain Python: "
            f"{place}{' is ' if place else ''}{_shown(got)}, alone {_shown(want)}."
            f"{f' Samples parted at {lines}.' if lines else ''} {_WHY}"
        )


# -- small pieces ------------------------------------------------------------------------------------------------------


def _tensors_of(inputs: Inputs) -> list[Tensor]:
    """Return the tensors in the arguments of a call."""
    found = []
    for x in inputs.leaves:
        if isinstance(x, ObjectBatch):
            found += [part for parts in x._parts.values() for part in parts if isinstance(part, Tensor)]
        else:
            found.append(x.values if isinstance(x, Ragged) else x)
    return found


def _rows(leaf: Any, size: int) -> Tensor:
    """Return a leaf of the result of a call as a Tensor [N, ...]; a number is equal for all samples."""
    rows: Tensor = leaf.tensor if leaf.__class__ is SampleTensor else wrap(np.full(size, leaf))
    return rows


def _asks_for_a_sample(error: Exception | None) -> bool:
    """Return whether an error is that of a plain Tensor asked for what only per-sample tensors have: `x.sample(3)`."""
    return (
        isinstance(error, AttributeError) and isinstance(error.obj, Tensor) and hasattr(SampleTensor, str(error.name))
    )


def _unique(tensors: Sequence[Tensor]) -> list[Tensor]:
    return list({id(x): x for x in tensors}.values())


def _has_hooks(x: Tensor) -> bool:
    return getattr(x._node, "hooks", None) is not None


def _cloned(x: Tensor) -> Tensor:
    return x.clone()


def _noise(seed: int) -> Noise:
    rng = np.random.default_rng(seed)

    def noise(array: Any) -> Any:
        eps = np.finfo(array.dtype).eps * _ULPS
        factors = 1.0 + eps * rng.uniform(-1.0, 1.0, array.shape)
        return xp(array).asarray(factors.astype(array.dtype))

    return noise


def _disturbed(x: Tensor, noise: Noise) -> Tensor:
    return x * wrap(noise(x.array)) if x.dtype.kind == "f" else x.clone()


@contextlib.contextmanager
def _parameters(tensors: Sequence[Tensor], noise: Noise) -> Iterator[None]:
    """Change the parameters of a program by their rounding error for a while."""
    before = [(x, x.array) for x in tensors if x.dtype.kind == "f"]
    try:
        for x, array in before:
            x.array = array * noise(array)
        yield
    finally:
        for x, array in before:
            x.array = array


def _array(x: Any) -> Numbers:
    return np.asarray(to_host(x.array) if isinstance(x, Tensor) else x)


def _largest(x: Numbers) -> float:
    finite = np.abs(x[np.isfinite(x)]) if x.ndim else np.abs(x) if np.isfinite(x) else np.zeros(1)
    return float(np.max(finite, initial=0.0))


def _near(g: Numbers, w: Numbers, atol: float) -> bool:
    with np.errstate(all="ignore"):
        same = (np.abs(g - w) <= atol) | (g == w) | (np.isnan(g) & np.isnan(w))
    return bool(np.all(same))


def _places(structure: Structure, path: str = "result") -> list[str]:
    """Return the place of each leaf of a structure, as Python writes it."""
    if structure == "leaf":
        return [path]
    kind, parts = structure
    if kind == "constant":
        return []
    if kind is dict:
        return [place for key, part in parts for place in _places(part, f"{path}[{key!r}]")]
    named = "" if issubclass(kind, (tuple, list)) else f".{kind.__name__}"
    return [place for i, part in enumerate(parts) for place in _places(part, f"{path}{named}[{i}]")]


def _shown(x: Any) -> str:
    if isinstance(x, BaseException):
        return f"raises {type(x).__name__}: {x}"
    if x is None:
        return "no error"
    return np.array2string(x, precision=6, threshold=8) if isinstance(x, np.ndarray) else str(x)
