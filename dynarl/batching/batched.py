"""`batched(program)`: run a program written for one sample on a batch, forward and backward."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.allocation import collector_paused
from dynarl.autograd.call_site import line_of
from dynarl.autograd.tensor import wrap
from dynarl.batching.decisions import DecisionRecorder, DecisionReplay, Paths
from dynarl.batching.eager.execution import TooManyPaths, run_scope
from dynarl.batching.eager.scope import forward_of, fresh, module_scopes
from dynarl.batching.groups.group import PerSampleError, SampleGroup
from dynarl.batching.groups.run import BatchedRun
from dynarl.batching.lockstep.scheduler import Entry, run_lockstep
from dynarl.batching.random import Draws
from dynarl.batching.rng_guard import drawing_line, generators_of, state_of
from dynarl.batching.rules import functions as function_rules  # noqa: F401  (fills the table of rules)
from dynarl.batching.scopes.rewrite import rewritten
from dynarl.batching.values.object_batch import ObjectBatch
from dynarl.batching.values.pytree import join, map_leaves, unflatten
from dynarl.batching.values.ragged import Ragged
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.nn import Module

__all__ = ["Batched", "BatchedModule", "batched"]

_FEWEST_PATHS = 16  # so many run one after the other in any case
_MODES = ("auto", "eager", "lockstep", "loop")


class Batched:
    """A per-sample program that runs on batches; see `batched`."""

    def __init__(
        self,
        program: Callable[..., Any],
        *,
        mode: str = "auto",
        max_groups: int | None = None,
        max_steps: int = 1_000_000,
    ) -> None:
        if mode == "merge":
            raise ValueError("batched: mode 'merge' is now called 'lockstep'")
        if mode not in _MODES:
            raise ValueError(f"batched: mode must be one of {', '.join(map(repr, _MODES))}, got {mode!r}")
        if max_groups is not None and max_groups < 1:
            raise ValueError(f"batched: max_groups must be at least 1, got {max_groups}")
        self.program, self.mode, self.max_groups, self.max_steps = program, mode, max_groups, max_steps
        plain = isinstance(program, Module) and program._hooks is None
        self._forward = forward_of(program) if plain else rewritten(program)
        self.last: BatchedRun | None = None
        self._units: dict[Any, Any] = {}
        self.uses_lockstep = False  # mode "auto" has found that samples take too many paths for groups
        self._generators: list[Any] | None = None

    def __call__(
        self,
        *args: Any,
        draws: Draws | None = None,
        recorder: DecisionRecorder | None = None,
        paths: Paths | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run the program; every tensor, array, Ragged and ObjectBatch in the arguments has N samples, leading axis N.

        `draws` keys the samples' random numbers; by default they follow the default generator's seed. `recorder`
        writes down what the samples decide, `paths` [N] (what a recorder wrote) makes them decide the same again.
        """
        leaves, structure = flatten_inputs((args, kwargs))
        size = _batch_size(leaves)
        run = self.last = BatchedRun(size, self.max_groups or 64 * size + 4096, self.max_steps, _identities(leaves))
        run.draws, run.recorder = draws, recorder
        run.replay = None if paths is None else DecisionReplay(paths)
        if self._generators is None:
            self._generators = generators_of(self.program)
        run.generators = self._generators
        run.batches = [x.array for x in leaves if x.__class__ not in _OBJECTS]
        with collector_paused():
            results = self._results(leaves, structure, run)
        if run.error is not None:
            raise run.error
        run.check_finished()
        ((tree, _),) = join(results, run.root, numbers=True)
        return _tensors(tree)

    def _results(self, leaves: list[Any], structure: Any, run: BatchedRun) -> list[tuple[SampleGroup, Any]]:
        bound = max(_FEWEST_PATHS, run.root.size // 4)
        if self.mode == "auto" and not self.uses_lockstep:
            entries = _entries(leaves, structure, run, deferred=False)
            self.uses_lockstep = len(entries) > bound
            if not self.uses_lockstep:
                run.max_paths = bound
                marks = run.mark()
                with contextlib.suppress(TooManyPaths):
                    results = _guarded(self._forward, entries, run, self._units)
                    if not run.too_many:
                        return results
                self.uses_lockstep = True
                run.start_again(marks)
                run.max_paths = None
        run.lockstep = self.mode == "lockstep" or (self.mode == "auto" and self.uses_lockstep)
        entries = _entries(leaves, structure, run, deferred=run.lockstep)
        if self.mode == "loop":
            alone = [np.array([i]) for i in range(run.root.size)]
            entries = _entries(leaves, structure, run, deferred=False, parts=alone)
        return _guarded(self._forward, entries, run, self._units)

    def explain(self) -> str:
        """Say how the last call went: groups, operations, replays, reads, and every line that split samples."""
        run = self.last
        if run is None:
            return "nothing was run yet"
        lines = [
            f"{run.root.size} samples: {run.groups + 1} groups, {run.operations} batched operations, "
            f"{run.replayed} replayed, {run.reads} values read"
        ]
        if run.lockstep:
            lines.append(f"  lockstep: {run.calls} calls of all paths ran as {run.kernels}")
        for line, splits in sorted(run.splits.items(), key=lambda entry: -len(entry[1])):
            shown = ", ".join("+".join(map(str, sizes)) for sizes in splits[:4]) + (", ..." if len(splits) > 4 else "")
            lines.append(f"  {line_of(line)}: split {len(splits)} times, rows {shown}")
        return "\n".join(lines)


class BatchedModule(Module):
    """A per-sample Module that runs on batches: its parameters are the program's, so optimisers and agents take it."""

    _straight = True  # what splits inside is joined by the call itself
    run: Batched

    def __init__(self, program: Module, **options: Any) -> None:
        super().__init__()
        self.program = program
        self.run = Batched(program, **options)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program on a batch; see `Batched.__call__`."""
        return self.run(*args, **kwargs)

    def explain(self) -> str:
        """Say how the last call went; see `Batched.explain`."""
        text: str = self.run.explain()
        return text


def batched(
    program: Callable[..., Any],
    *,
    mode: str = "auto",
    max_groups: int | None = None,
    max_steps: int = 1_000_000,
    **unknown: Any,
) -> Any:
    """Run a program for ONE sample on N of them at once, as if it had been batched by hand.

    The program is ordinary Python on tensors without a batch axis: `if`, `while`, `break`, recursion, exceptions and
    dispatch on values just work. It may return tensors, numbers, distributions, and tuples, lists and dicts of them;
    the same comes back with a leading axis of N. It must depend on its arguments and parameters alone.

    mode: "eager" runs the samples of one path together and the paths one after the other. "lockstep" runs all paths
    side by side and equal operations of different paths as one: for trees (`ObjectBatch`) and samples that share no
    path. "auto" starts with "eager" and switches permanently to "lockstep" when samples take more than max(16, N / 4)
    paths. "loop" runs one sample at a time (the reference semantics). A Module stays a Module, with its parameters.
    `max_groups` limits how many groups a call may split into, `max_steps` how many operations one path may run.
    """
    for name in unknown:
        renamed = "; max_cohorts is now called max_groups" if name == "max_cohorts" else ""
        raise TypeError(f"batched: unknown option {name!r}{renamed}")
    kind = BatchedModule if isinstance(program, Module) else Batched
    return kind(program, mode=mode, max_groups=max_groups, max_steps=max_steps)  # type: ignore[arg-type]


def flatten_inputs(tree: Any) -> tuple[list[Any], Any]:
    """Flatten arguments: Ragged and arrays are leaves, Python objects stay as they are."""
    leaves: list[Any] = []

    def visit(part: Any) -> Any:
        if part.__class__ is Tensor or isinstance(part, (Tensor, Ragged, ObjectBatch)):
            leaves.append(part)
            return "leaf"
        if isinstance(part, np.ndarray):
            leaves.append(wrap(part))
            return "leaf"
        if isinstance(part, dict):
            return dict, tuple((key, visit(value)) for key, value in part.items())
        if isinstance(part, (tuple, list)):
            return type(part), tuple(visit(value) for value in part)
        if hasattr(part, "_batch_fields"):
            fields = part._batch_fields()
            return _Rebuilt(type(part)), tuple(visit(value) for value in fields)
        return "constant", part

    return leaves, visit(tree)


class _Rebuilt:
    """A class whose instances are taken apart into fields and built again of them."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.__name__ = kind.__name__

    def __call__(self, parts: Any) -> Any:
        return self.kind(*parts)


def _tensors(tree: Any) -> Any:
    """Return a tree with the Tensors of all samples in place of lanes."""
    kind = tree.__class__
    if kind is SampleTensor:
        return tree.tensor
    if kind is tuple:
        return tuple([_tensors(part) for part in tree])
    return map_leaves(_tensors, tree) if kind not in _LEAVES else tree


_LEAVES = frozenset((Tensor, bool, int, float))


def _identities(leaves: list[Any]) -> set[int]:
    return {id(y) for x in leaves if x.__class__ not in _OBJECTS for y in (x, x.array)}


_OBJECTS = (Ragged, ObjectBatch)


def _batch_size(leaves: list[Any]) -> int:
    sizes = {len(x) if x.__class__ in _OBJECTS else x.array.shape[0] if x.array.ndim else None for x in leaves}
    if not leaves:
        raise ValueError(
            "batched: at least one argument must be a tensor, an array, a Ragged or an ObjectBatch of N samples"
        )
    if len(sizes) != 1 or None in sizes:
        shapes = [f"{type(x).__name__} of {len(x)}" if x.__class__ in _OBJECTS else tuple(x.shape) for x in leaves]
        raise ValueError(f"batched: all arguments must have the same leading axis of N samples, got {shapes}")
    (size,) = sizes
    if not size:
        raise ValueError("batched: needs at least one sample, got none")
    return int(size)


def _entries(
    leaves: list[Any], structure: Any, run: BatchedRun, *, deferred: bool, parts: list[Any] | None = None
) -> list[Entry]:
    """Return (args, kwargs, group) for each part of the batch that starts together: one, but for different objects."""
    root = run.root
    hidden = [
        SampleTensor(x, root) if x.__class__ not in _OBJECTS else x.per_sample(root) if isinstance(x, Ragged) else x
        for x in leaves
    ]
    objects = [x for x in leaves if x.__class__ is ObjectBatch]
    if not objects and parts is None:
        return [(*unflatten(structure, iter(hidden)), root)]
    sources = {id(x): x.sources() for x in objects}
    if parts is None:
        _, inverse = np.unique(np.stack([x.structure for x in objects]), axis=1, return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(inverse[order])) + 1)
    entries = []
    for rows in parts:
        group = root if len(rows) == root.size else root.part(rows)
        given = [
            x.of_group(group, rows, sources[id(x)], deferred=deferred) if x.__class__ is ObjectBatch else x
            for x in hidden
        ]
        entries.append((*unflatten(structure, iter(given)), group))
    return entries


def _guarded(program: Any, entries: list[Entry], run: BatchedRun, units: Any) -> list[tuple[SampleGroup, Any]]:
    """Run a program and refuse shared random numbers, which would be one draw for all samples of a group."""
    generators = run.generators
    before = state_of(generators)
    if any(a.__class__ in (list, dict) for args, kwargs, _ in entries for a in (*args, *kwargs.values())):
        inner = program

        def program(*args: Any, **kwargs: Any) -> Any:  # each path may change its own
            args, kwargs = fresh((args, kwargs))
            return inner(*args, **kwargs)

    def one_after_the_other(run: BatchedRun) -> list[tuple[SampleGroup, Any]]:
        results = []
        for args, kwargs, group in entries:
            results += run_scope(program, args, kwargs, group, run)
        return results

    with module_scopes():
        results = run_lockstep(program, entries, run, units) if run.lockstep else one_after_the_other(run)
    if before != state_of(generators):
        again = BatchedRun(run.root.size, run.max_groups, run.max_steps, run.inputs)
        with module_scopes():
            line = drawing_line(
                lambda: run_lockstep(program, entries, again, {}) if run.lockstep else one_after_the_other(again),
                generators,
            )
        raise PerSampleError(
            f"the program drew from Python's or NumPy's random numbers at {line}, one draw for all samples "
            "together; use dynarl.batching's rand, normal, bernoulli or categorical, which draw for each sample alone"
        )
    return results
