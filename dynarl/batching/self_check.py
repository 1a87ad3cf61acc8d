"""The self-check: a few samples of a batched call are compared with plain Python, in the first calls of a program.

Compared are results, gradients, and the number of random draws. It changes nothing: it draws from copies of the random
streams, and its runs are neither recorded nor counted.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.autograd import Tensor
from dynarl.autograd.backward import grad
from dynarl.autograd.call_site import line_of
from dynarl.autograd.device import to_host
from dynarl.autograd.grad_mode import mode
from dynarl.autograd.tensor import wrap
from dynarl.batching.draws import Draws
from dynarl.batching.groups.group import PerSampleError
from dynarl.batching.groups.run import BatchedRun
from dynarl.batching.guard.guard import Guard
from dynarl.batching.inputs import Inputs
from dynarl.batching.reference import Noise, run_plain
from dynarl.batching.values.join import join_all
from dynarl.batching.values.object_batch import ObjectBatch
from dynarl.batching.values.pytree import flatten
from dynarl.batching.values.ragged import Ragged
from dynarl.batching.values.sample_tensor import SampleTensor

__all__ = ["Checked", "SelfCheck"]

_MOST_CHECKS = 8  # for one program
_TRIALS = 8
_CAUSES = (
    "Batching and plain Python part where a program depends on the identity of objects, on memory that tensors share "
    "with arrays, or on a fault of dynarl, which is worth a report. check=0 turns this self-check off"
)


class Checked:
    """One call to be checked: its inputs, its run, its joined result, and where the random streams began."""

    def __init__(self, inputs: Inputs, run: BatchedRun, result: Any, start: NDArray[Any] | None) -> None:
        self.inputs, self.run, self.result, self.start = inputs, run, result, start

    def draws(self) -> Draws:
        """Return a copy of the random streams as they were at the beginning of the call."""
        drawn = self.run.draws
        size = self.run.root.size
        if drawn is None:
            return Draws(0, np.arange(size), 0)
        made = copy.copy(drawn)
        made.count = np.zeros(size, np.uint32) if self.start is None else self.start.copy()
        return made


class SelfCheck:
    """Decides which calls of a program are checked, and checks them."""

    def __init__(self, program: Callable[..., Any], rows: int) -> None:
        self.program, self.rows = program, rows
        self.left = _MOST_CHECKS if rows else 0
        self.modes: set[Any] = set()
        self.lines: set[Any] = set()
        self.repeated = False  # a sample was found to have the same result twice

    def is_due(self, run: BatchedRun) -> bool:
        """Return whether a call ran in a way that was not checked yet."""
        return bool(
            self.left > 0 and (_mode_of(run) not in self.modes or any([line not in self.lines for line in run.splits]))
        )

    def note(self, run: BatchedRun) -> None:
        """Count the ways of a call as checked."""
        self.left -= self.is_due(run)
        self.modes.add(_mode_of(run))
        self.lines.update(run.splits)

    def check(self, call: Checked, guard: Guard) -> None:
        """Compare some samples with plain Python. Raises PerSampleError where they differ."""
        samples = self._choose(call.run)
        self.note(call.run)
        comparison = _Comparison(self.program, call, samples, guard)
        repeated = {*([] if self.repeated else [samples[0]]), *guard.clocks().values()}
        self.repeated = True
        for sample in sorted(repeated):
            comparison.check_repeats(sample)
        guard.clock_lines.update(guard.clocks())
        comparison.compare()

    def _choose(self, run: BatchedRun) -> list[int]:
        """Return samples of different paths: of the smallest and the largest part at each new line, then others."""
        size = run.root.size
        wanted: dict[int, None] = {}
        for line, parts in run.first_splits.items():
            if line not in self.lines:
                for part in (parts[-1], parts[0]):
                    wanted[int(part.samples()[0])] = None
        for sample in (0, size - 1, size // 2, size // 4):
            wanted[sample] = None
        return sorted(list(wanted)[: self.rows])


def _mode_of(run: BatchedRun) -> Any:
    return run.lockstep, bool(mode.recording), run.tracks_views, run.replay is not None


class _Comparison:
    """Compares samples of one call with plain Python."""

    def __init__(self, program: Callable[..., Any], call: Checked, samples: list[int], guard: Guard) -> None:
        self.program, self.call, self.samples, self.guard = program, call, samples, guard
        self.parameters = [x for x in guard.parameters() if x.dtype.kind == "f"]

    def compare(self) -> None:
        """Raise PerSampleError for the first difference that rounding does not explain."""
        call = self.call
        leaves, structure = flatten(call.result)
        got = [_tensor(leaf) for leaf in leaves]
        draws = call.draws()
        plain, wanted_structure = self._plain(draws)
        if structure != wanted_structure:
            raise self._error(self.samples[0], "the structure of the result", "another one", "")
        tolerance = _tolerance([*got, *self.parameters, *call.inputs.tensors()])
        for i, (x, want) in enumerate(zip(got, plain)):
            self._compare_output(i, x, want, tolerance)
        self._compare_draws(draws)
        if mode.recording:
            self._compare_gradients(got, plain, 10 * tolerance)

    def _plain(
        self, draws: Draws, noise: Noise | None = None, samples: list[int] | None = None
    ) -> tuple[list[Tensor], Any]:
        """Return the outputs [k, ...] of the samples in plain Python, and their structure."""
        call, size = self.call, self.call.run.root.size
        samples = self.samples if samples is None else samples
        run = BatchedRun(size, call.run.max_groups, call.run.max_steps, call.run.arguments)
        run.draws, run.guard, run.outer_cells = draws, call.run.guard, call.run.outer_cells
        outcomes = []
        for sample in samples:
            try:
                outcomes.append(run_plain(self.program, call.inputs, sample, run, *([] if noise is None else [noise])))
            except PerSampleError:
                raise
            except Exception as error:
                raise PerSampleError(
                    f"self-check: for sample {sample} plain Python raises {type(error).__name__}: {error}; the batched "
                    f"run did not{self._where()}. {_CAUSES}"
                ) from error
        if run.error is not None:
            raise run.error
        target = run.root.part(np.array(samples)) if len(samples) < size else run.root
        return _rows_of(outcomes, target)

    def check_repeats(self, sample: int) -> None:
        """Raise PerSampleError if a sample's result is not the same when the program runs again."""
        (one, structure), (other, again) = [self._plain(self.call.draws(), samples=[sample]) for _ in range(2)]
        self.guard.refuse_hits()
        if structure != again:
            raise self._not_repeated(sample, "the structure of its result")
        for i, (x, y) in enumerate(zip(one, other)):
            if x.shape != y.shape or not np.array_equal(_host(x), _host(y), equal_nan=x.dtype.kind == "f"):
                raise self._not_repeated(sample, f"output {i} ({_short(_host(x)[0])} and then {_short(_host(y)[0])})")

    def _not_repeated(self, sample: int, what: str) -> PerSampleError:
        clocks = " and ".join(self.guard.clocks())
        reads = f"It reads a clock at {clocks}" if clocks else "It depends on state that is kept somewhere"
        return PerSampleError(
            f"self-check: the program does not repeat itself: {what} of sample {sample} differs between two runs in "
            f"plain Python with the same arguments. {reads}; pass the value in as an argument"
        )

    def _where(self) -> str:
        splits = self.call.run.splits
        return f"; samples part first at {line_of(next(iter(splits)))}" if splits else ""

    def _error(self, sample: int, what: str, got: Any, want: Any) -> PerSampleError:
        return PerSampleError(
            f"self-check: {what} of sample {sample} is {got} in the batched run, {want} in plain Python"
            f"{self._where()}. {_CAUSES}"
        )

    def _compare_output(self, i: int, x: Tensor, want: Tensor, tolerance: float) -> None:
        if tuple(x.shape[1:]) != tuple(want.shape[1:]):
            raise self._error(self.samples[0], f"the shape of output {i}", tuple(x.shape[1:]), tuple(want.shape[1:]))
        if x.ndim == 0:  # a number of the result's structure, such as the dimensions of a distribution
            if not np.array_equal(_host(x), _host(want)):
                raise self._error(self.samples[0], f"output {i}", _host(x), _host(want))
            return
        rows, wanted = _host(x)[self.samples], _host(want)
        scale = max(_scale(wanted), 1e-2)  # small outputs have the rounding of what they are computed from
        wrong = [k for k in range(len(rows)) if not _close(rows[k], wanted[k], scale, tolerance)]
        for k in wrong:
            if not self._is_unstable(i, k, wanted, tolerance):
                raise self._error(self.samples[k], f"output {i}", _short(rows[k]), _short(wanted[k]))

    def _is_unstable(self, i: int, k: int, wanted: NDArray[Any], tolerance: float) -> bool:
        """Return whether rounding decides a sample's output: inputs and parameters that differ by some ulps change it.

        A batch is rounded in another order than one row, so a threshold or a maximum may be decided otherwise.
        """
        for trial in range(_TRIALS):
            noise = _Noise(trial)
            with noise.on(self.parameters):
                plain, _ = self._plain(self.call.draws(), noise, [self.samples[k]])
            other = _host(plain[i])[0]
            if other.shape != wanted[k].shape or not _close(other, wanted[k], _scale(wanted), tolerance):
                return True
        return False

    def _compare_draws(self, draws: Draws) -> None:
        run = self.call.run
        if run.replay is not None:
            return
        counted = run.draws.count if run.draws is not None else np.zeros(run.root.size)
        start = 0 if self.call.start is None else self.call.start
        for sample in self.samples:
            got, want = int((counted - start)[sample]), int((draws.count - start)[sample])
            if got != want:
                raise self._error(sample, "the number of random draws", got, want)

    # -- gradients --------------------------------------------------------------------------------------------------

    def _compare_gradients(self, got: list[Tensor], plain: list[Tensor], tolerance: float) -> None:
        sources = [x for x in (*self.parameters, *self._inputs()) if x._node is not None and not x._node.hooks]
        if not sources:
            return
        ours = self._gradients([x[np.array(self.samples)] if x._node is not None else x for x in got], sources)
        wanted = self._gradients(plain, sources)
        if ours is None:
            if wanted is not None:
                raise self._error(self.samples[0], "the history", False, True)
            return
        if wanted is None:  # other samples have a history, so the batch has one; none reaches back from these
            wanted = [np.zeros_like(g) for g in ours]
        # Gradients that cancel out leave rounding of the largest ones.
        floor = 1e-3 * max([1.0, *map(_scale, wanted)])
        for i, (g, want) in enumerate(zip(ours, wanted)):
            scale = max(_scale(want), floor)
            if not _close(g, want, scale, tolerance) and not self._gradient_is_unstable(i, sources, want, tolerance):
                row = np.unravel_index(int(np.argmax(np.abs(g - want))), g.shape) if g.ndim else ()
                name = f"the gradient of an output with respect to {self._name(sources[i])} at {tuple(map(int, row))}"
                raise self._error(
                    self.samples[0], f"{name}, summed over samples {self.samples}, that", g[row], want[row]
                )

    def _gradient_is_unstable(self, i: int, sources: list[Tensor], want: NDArray[Any], tolerance: float) -> bool:
        for trial in range(_TRIALS):
            noise = _Noise(trial)
            with noise.on(self.parameters):
                plain, _ = self._plain(self.call.draws(), noise)
                other = self._gradients(plain, sources)
            if other is None or not _close(other[i], want, _scale(want), tolerance):
                return True
        return False

    def _inputs(self) -> list[Tensor]:
        """Return the tensors in the arguments."""
        found: list[Tensor] = []
        for x in self.call.inputs.leaves:
            if isinstance(x, Ragged):
                found.append(x.values)
            elif isinstance(x, ObjectBatch):
                found += x.tensors()
            else:
                found.append(x)
        return found

    def _name(self, source: Tensor) -> str:
        place = self.guard.place_of_tensor(source)
        return f"an argument of shape {tuple(source.shape)}" if place is None else str(place)

    def _gradients(self, outputs: list[Tensor], sources: list[Tensor]) -> list[NDArray[Any]] | None:
        """Return the gradients of a sum of outputs [k, ...] with random weights; None if there is no history."""
        rng = np.random.default_rng(0)
        terms = []
        for x in outputs:
            weights = rng.standard_normal((len(self.samples), *x.shape[1:]))
            if x._node is not None and x.dtype.kind == "f":
                terms.append((x, weights.astype(x.dtype)))
        if not terms:
            return None
        outs = [x for x, _ in terms]
        seeds = [_on_device_of(x, weights) for x, weights in terms]
        found = grad(outs, sources, seeds, retain_graph=True, allow_unused=True, materialize_grads=True)
        return [_host(g) for g in found]


class _Noise:
    """Changes floating-point numbers by some ulps."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def __call__(self, x: Tensor) -> Tensor:
        return x * _on_device_of(x, self._factors(x)) if x.dtype.kind == "f" else x

    def _factors(self, x: Tensor) -> NDArray[Any]:
        ulps = 8 * float(np.finfo(x.dtype).eps)
        return np.asarray(1 + ulps * self.rng.standard_normal(x.shape)).astype(x.dtype)

    def on(self, parameters: Sequence[Tensor]) -> Any:
        """Return a context in which parameters are changed."""
        return _Changed(self, parameters)


class _Changed:
    def __init__(self, noise: _Noise, parameters: Sequence[Tensor]) -> None:
        self.noise, self.parameters = noise, parameters

    def __enter__(self) -> None:
        self.before = [x.array for x in self.parameters]
        for x in self.parameters:
            x.array = x.array * _on_device_of(x, self.noise._factors(x)).array

    def __exit__(self, *error: object) -> None:
        for x, array in zip(self.parameters, self.before):
            x.array = array


def _rows_of(outcomes: Any, target: Any) -> tuple[list[Tensor], Any]:
    leaves, structure = flatten(join_all(outcomes, target))
    return [_tensor(leaf) for leaf in leaves], structure


def _tensor(leaf: Any) -> Tensor:
    if leaf.__class__ is SampleTensor:
        tensor: Tensor = leaf.tensor
        return tensor
    return leaf if isinstance(leaf, Tensor) else wrap(np.asarray(leaf))


def _on_device_of(x: Tensor, values: NDArray[Any]) -> Tensor:
    made: Tensor = wrap(values).to(device=x.device)
    return made


def _host(x: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = to_host(x.array)
    return array


def _tolerance(tensors: Sequence[Tensor]) -> float:
    """Return the difference that rounding may make, relative to the largest number: for the least exact dtype."""
    kinds = [x.dtype for x in tensors if x.dtype.kind == "f"]
    eps = max([float(np.finfo(kind).eps) for kind in kinds], default=0.0)
    return 1e3 * eps


def _scale(values: NDArray[Any]) -> float:
    if values.dtype.kind != "f" or not values.size:
        return 0.0
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max(initial=0.0)) + 1e-6


def _close(a: NDArray[Any], b: NDArray[Any], scale: float, tolerance: float) -> bool:
    if a.dtype.kind != "f" and b.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    with np.errstate(invalid="ignore"):
        return bool(np.allclose(a, b, rtol=0.0, atol=scale * tolerance, equal_nan=True))


def _short(value: NDArray[Any]) -> str:
    return np.array2string(value, precision=6, threshold=8, edgeitems=3).replace("\n", "")
