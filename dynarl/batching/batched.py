"""`batched(program)`: run a program written for one sample on a batch, forward and backward."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.allocation import collector_paused
from dynarl.batching.decisions import DecisionRecorder, DecisionReplay, Paths
from dynarl.batching.draws import Draws
from dynarl.batching.eager.eager_execution import TooManyPaths, run_scope
from dynarl.batching.eager.repeat import Outcomes
from dynarl.batching.explanation import explanation, warn_of_repeated_work
from dynarl.batching.groups.execution import Entry, Operation
from dynarl.batching.groups.group import PerSampleError
from dynarl.batching.groups.run import BatchedRun
from dynarl.batching.guard.guard import Guard
from dynarl.batching.guard.quiet import quiet
from dynarl.batching.inputs import Inputs
from dynarl.batching.lockstep.scheduler import run_lockstep
from dynarl.batching.lockstep.tracer import Signatures
from dynarl.batching.reference import run_plain
from dynarl.batching.scopes.modules import forward_of
from dynarl.batching.scopes.rewritten import rewritten
from dynarl.batching.self_check import Checked, SelfCheck
from dynarl.batching.values.heap import Heap, heap_of
from dynarl.batching.values.join import join_all
from dynarl.batching.values.pytree import copied, map_leaves
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.batching.values.shared_memory import TrackViews
from dynarl.batching.wiring import batched_run_open
from dynarl.nn import Module

__all__ = ["Batched", "BatchedModule", "batched"]

_FEWEST_PATHS = 16  # mode "auto" stays eager up to this number of paths, however small the batch is
_WATCHED = 3  # calls that mode "auto" watches for repeated work
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
        check: int = 4,
    ) -> None:
        if mode == "merge":
            raise ValueError("batched: mode 'merge' is now called 'lockstep'")
        if mode not in _MODES:
            raise ValueError(f"batched: mode must be one of {', '.join(map(repr, _MODES))}, got {mode!r}")
        if max_groups is not None and max_groups < 1:
            raise ValueError(f"batched: max_groups must be at least 1, got {max_groups}")
        if isinstance(check, bool) or not isinstance(check, int) or check < 0:
            raise ValueError(f"batched: check must be a number of samples, 0 for no self-check, got {check!r}")
        self.program, self.mode, self.max_groups, self.max_steps = program, mode, max_groups, max_steps
        self._unscoped: dict[object, str] = {}  # what cannot be a scope, as earlier calls found
        self.last: BatchedRun | None = None
        self.uses_lockstep = False  # mode "auto" found that samples take too many paths for eager execution
        self._signatures: Signatures = {}
        self._watched = _WATCHED  # how many more calls are watched for repeated work
        self._tracks_views = False  # the program changes tensors in place
        self._guard: Guard | None = None
        self._self_check = SelfCheck(program, check)

    def __getstate__(self) -> dict[str, Any]:
        """Return the program and its options: what calls left behind is neither pickled nor copied."""
        fresh = {"last": None, "uses_lockstep": False, "_tracks_views": False, "_guard": None}
        check = SelfCheck(self.program, self._self_check.rows)
        return {**self.__dict__, **fresh, "_signatures": {}, "_unscoped": {}, "_self_check": check}

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
        records the samples' decisions; `paths` [N], from a recorder, makes them decide the same again.
        """
        inputs = Inputs(args, kwargs)
        size = inputs.size
        run = self.last = BatchedRun(size, self.max_groups or 64 * size + 4096, self.max_steps, inputs.tensors())
        run.draws, run.recorder, run.unscoped = draws, recorder, self._unscoped
        run.tracks_views = self._tracks_views
        if self._watched and self.mode == "auto" and recorder is None and paths is None:  # an agent has its metrics
            run.path_operations = np.zeros(size, np.int64)
        run.replay = None if paths is None else DecisionReplay(paths)
        start = None if draws is None or not self._self_check.left else draws.mark()
        with collector_paused():
            outcomes = self._outcomes(inputs, run)
        self._tracks_views = run.tracks_views
        if run.error is not None:
            raise run.error
        run.check_finished()
        if self._watched:
            self._watched = 0 if warn_of_repeated_work(self.program, run) else self._watched - 1
        result = join_all(outcomes, run.root)
        alone = run.plain and self.mode != "loop"  # which needs no check
        if (self._self_check.is_due(run) and not alone) or self._reads_clocks():
            self._check(Checked(inputs, run, result, start))
        return _tensors(result)

    def _outcomes(self, inputs: Inputs, run: BatchedRun) -> Outcomes:
        """Run the program in its mode; "auto" tries eager execution first, unless it failed before."""
        if self._runs_plain(run):
            return self._guarded([], inputs, run)
        bound = max(_FEWEST_PATHS, run.root.size // 4)
        if self.mode == "auto" and not self.uses_lockstep:
            entries = inputs.entries(run)
            self.uses_lockstep = len(entries) > bound
            if not self.uses_lockstep:
                run.max_paths = bound
                marks = run.mark()
                with contextlib.suppress(TooManyPaths):
                    outcomes = self._guarded(entries, inputs, run)
                    if not run.too_many:  # the program may have caught TooManyPaths
                        return outcomes
                self.uses_lockstep = True
                run.restart(marks)
                run.max_paths = None
        run.path_operations = None  # only eager execution repeats work
        run.lockstep = self.mode == "lockstep" or (self.mode == "auto" and self.uses_lockstep)
        alone = self.mode == "loop"  # one sample after the other, but with recorded decisions
        entries = inputs.single_samples(run) if alone else inputs.entries(run, lockstep=run.lockstep)
        return self._guarded(entries, inputs, run)

    def _reads_clocks(self) -> bool:
        return bool(self._self_check.rows and self._guard and self._guard.clocks())

    def _check(self, call: Checked) -> None:
        """Compare samples of a call with plain Python; see `dynarl.batching.self_check`."""
        guard, run = self._guard, call.run
        assert guard is not None
        with quiet():  # what the program prints, it has printed
            if run.replay is not None:
                call = self._decided_anew(call)
            guard.begin(run, call.inputs.constants())
            check = partial(self._self_check.check, call, guard)
            self._refusing(guard, run, partial(guard.noting, check), check)
        self._self_check.note(run)

    def _decided_anew(self, call: Checked) -> Checked:
        """Return a call like one that repeats decisions, without: plain Python cannot repeat them."""
        run, lockstep = call.run, self.uses_lockstep
        other = BatchedRun(run.root.size, run.max_groups, run.max_steps, run.arguments)
        other.draws, other.unscoped, other.tracks_views = call.draws(), dict(self._unscoped), run.tracks_views
        try:
            outcomes = self._outcomes(call.inputs, other)
        finally:
            self.uses_lockstep = lockstep
        return Checked(call.inputs, other, join_all(outcomes, other.root), call.start)

    def _rewritten(self) -> Operation:
        """Return the program with join scopes; in every call anew, for a class may get another `forward`."""
        program = self.program
        if isinstance(program, Module):
            return forward_of(program) if program._hooks is None else program
        made: Operation = rewritten(program)
        return made

    def _guarded(self, entries: list[Entry], inputs: Inputs, run: BatchedRun) -> Outcomes:
        """Run the program and refuse what is not per sample: changes of what exists before the call, and draws."""
        guard = self._guard
        if guard is None:
            guard = self._guard = Guard(self.program)
        guard.begin(run, inputs.constants())
        plain = run.plain = self._runs_plain(run)
        program = self.program if plain else self._rewritten()
        if not plain:
            heaps = [heap_of((*args, *kwargs.values()), run.outer_cells) for args, kwargs, _ in entries]
            if any([heap.mutable for heap in heaps]):
                program = _restoring(program)
                entries = [((heap, *args), kwargs, group) for heap, (args, kwargs, group) in zip(heaps, entries)]

        def execute(run: BatchedRun, signatures: Signatures) -> Outcomes:
            if plain:
                return [run_plain(program, inputs, sample, run) for sample in range(run.root.size)]
            return _run(program, entries, run, signatures)

        marks = run.mark()

        def again() -> None:
            other = BatchedRun(run.root.size, run.max_groups, run.max_steps, run.arguments)
            other.lockstep, other.tracks_views, other.unscoped = run.lockstep, run.tracks_views, run.unscoped
            other.guard, other.outer_cells = run.guard, run.outer_cells
            run.rewind(marks)
            other.draws = run.draws
            execute(other, {})

        outcomes: Outcomes = self._refusing(
            guard, run, lambda: guard.run(lambda: execute(run, self._signatures), count=self.mode == "loop"), again
        )
        return outcomes

    def _refusing(self, guard: Guard, run: BatchedRun, execute: Callable[[], Any], again: Callable[[], None]) -> Any:
        """Execute a program; undo and refuse what it changed, `again` executes it to find the line."""
        try:
            outcomes = execute()
        except BaseException as error:
            changes = guard.undo()
            if not changes:
                raise
            if not isinstance(error, (PerSampleError, TooManyPaths)):
                names = ", ".join(change.name for change in changes if change.name)
                error.add_note(f"the program had changed what exists before the call, which was undone: {names}")
                raise
            raise run.fail(str(guard.refusal(changes, again))) from error
        changes = guard.undo()
        if changes:
            raise guard.refusal(changes, again)
        guard.refuse_hits()
        return outcomes

    def _runs_plain(self, run: BatchedRun) -> bool:
        """Return whether samples run in plain Python: not if decisions are recorded or repeated.

        One sample alone does so in mode "auto" too: there is nothing to batch.
        """
        return (self.mode == "loop" or (self.mode == "auto" and run.root.size == 1)) and not run.decides()

    def explain(self) -> str:
        """Describe the last call: groups, operations, replays, reads, and every line that split samples.

        Where samples that part stay apart, the text names the statement or function and the reason.
        """
        return explanation(self.program, self.last)


class BatchedModule(Module):
    """A per-sample Module that runs on batches. Its parameters are the program's, for optimisers and agents."""

    _straight = True  # as a Module it never branches: what splits inside is joined by the call itself
    run: Batched

    def __init__(self, program: Module, **options: Any) -> None:
        super().__init__()
        self.program = program
        self.run = Batched(program, **options)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program on a batch; see `Batched.__call__`."""
        return self.run(*args, **kwargs)

    def explain(self) -> str:
        """Describe the last call; see `Batched.explain`."""
        text: str = self.run.explain()
        return text


def batched(
    program: Callable[..., Any],
    *,
    mode: str = "auto",
    max_groups: int | None = None,
    max_steps: int = 1_000_000,
    check: int = 4,
    **unknown: Any,
) -> Any:
    """Run a program for ONE sample on N samples at once, as if it had been batched by hand.

    The program is ordinary Python on tensors without a batch axis; it may use `if`, `while`, `break`, recursion,
    exceptions and dispatch on values. It may return tensors, numbers, distributions, and tuples, lists and dicts of
    them; the result has the same structure with a leading axis of N. It must depend on its arguments and parameters
    alone.

    mode: "eager" runs the samples of one path together and the paths one after the other. "lockstep" runs all paths
    side by side and equal operations of different paths as one: for trees (`ObjectBatch`) and samples that share no
    path. "auto" starts with "eager" and switches permanently to "lockstep" when samples take more than max(16, N / 4)
    paths. "loop" runs the program as it is written, for one sample after the other on ordinary Tensors: the reference.
    A batch of one sample runs as it is written in mode "auto" too; `max_steps` then counts calls of Modules.
    A Module stays a Module, with its parameters. `max_groups` limits how many groups a call may split into, `max_steps`
    how many operations one path may run. The first call, and the first that takes a new way, compares `check` samples
    with plain Python; 0 turns that off.
    """
    for name in unknown:
        renamed = "; max_cohorts is now called max_groups" if name == "max_cohorts" else ""
        raise TypeError(f"batched: unknown option {name!r}{renamed}")
    if isinstance(program, Module):
        return BatchedModule(program, mode=mode, max_groups=max_groups, max_steps=max_steps, check=check)
    return Batched(program, mode=mode, max_groups=max_groups, max_steps=max_steps, check=check)


def _run(program: Operation, entries: list[Entry], run: BatchedRun, signatures: Signatures) -> Outcomes:
    """Run a program for entries and return (group, result) of each path."""
    marks = run.mark()
    with batched_run_open():
        while True:
            with contextlib.suppress(TrackViews):
                if run.lockstep:
                    outcomes = run_lockstep(program, entries, run, signatures)
                else:
                    outcomes = []
                    for args, kwargs, group in entries:
                        outcomes += run_scope(program, args, kwargs, group, run)
                if run.tracks_views or not run.must_track_views:  # the program may have caught TrackViews
                    return outcomes
            run.restart(marks)
            run.tracks_views = True


def _restoring(program: Operation) -> Operation:
    """Return a program that finds its arguments unchanged in every execution, for it may change them."""

    def run(heap: Heap, /, *args: Any, **kwargs: Any) -> Any:
        heap.restore()
        return copied(program(*args, **kwargs))  # what it returns may be an argument, which gets its contents back

    return run


def _tensors(tree: Any) -> Any:
    """Return a tree with the Tensors of all samples in place of SampleTensors."""
    kind = tree.__class__
    if kind is SampleTensor:
        return tree.tensor
    if kind is tuple:
        return tuple([_tensors(part) for part in tree])
    return map_leaves(_tensors, tree) if kind not in _LEAVES else tree


_LEAVES = frozenset((Tensor, bool, int, float))
