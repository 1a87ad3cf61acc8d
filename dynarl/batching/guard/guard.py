"""The guard of a program: refuses what one call of all samples together cannot do as each sample alone would.

A program may not change what exists before the call, nor draw random numbers that are not per sample.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from dynarl.autograd import Tensor
from dynarl.autograd.call_site import line_of, user_line
from dynarl.autograd.versions import owner_of
from dynarl.batching.draws import Draws
from dynarl.batching.groups.execution import state
from dynarl.batching.groups.group import PerSampleError
from dynarl.batching.groups.plain_execution import PlainExecution
from dynarl.batching.groups.run import BatchedRun
from dynarl.batching.guard.entropy import Hit, watching
from dynarl.batching.guard.generators import fingerprint
from dynarl.batching.guard.reach import Place
from dynarl.batching.guard.tracing import changing_line
from dynarl.batching.guard.watch import Change, Watch
from dynarl.batching.rules.change_in_place import remedy
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.nn import Module

__all__ = ["Guard", "refuse_attribute", "refuse_memory"]

_SIMPLE = frozenset((int, float, bool, str, bytes, type(None)))
_CALLS_WITH_CLOCKS = 64  # a program that names a clock is watched in so many calls, then in one of 16


class Guard:
    """Watches a program from call to call."""

    def __init__(self, program: Callable[..., Any]) -> None:
        name = getattr(program, "__name__", type(program).__name__)
        root = Place(None, "self", "{} of " + type(program).__name__) if not hasattr(program, "__code__") else None
        self.program = Watch([(program, root or Place(None, name))])
        self.arguments: Watch | None = None
        self._constants: list[int] = []
        self._parameters: list[str] | None = None
        self.clock_lines: set[str] = set()  # lines that read a clock on which no result depends
        self.hits: list[Hit] = []
        self.samples: list[int] = []  # a sample for each hit
        self._calls = 0

    # -- one call ---------------------------------------------------------------------------------------------------

    def begin(self, run: BatchedRun, constants: Sequence[tuple[str, Any]]) -> None:
        """Take the present state as the one that must not change; `constants` are the arguments that samples share."""
        self._calls += 1
        self.program.refresh()
        constants = [(name, x) for name, x in constants if type(x) not in _SIMPLE]
        ids = [id(x) for _, x in constants]
        if ids != self._constants or self.arguments is None:
            self._constants = ids
            roots = [(x, Place(None, self._named(name), _ARGUMENT)) for name, x in constants]
            self.arguments = Watch(roots) if roots else None
            self._keep = constants
        if self.arguments is not None:
            self.arguments.refresh()
        if run.draws is None and any([watch.reached.default_generator for watch in self._watches()]):
            # The streams of the samples take their seed from it at the first draw, which would look like a draw.
            run.draws = Draws.from_default_generator(run.root.size)
            self._refresh()
        self._fingerprint = fingerprint()
        run.guard = self
        run.outer_cells = self.program.ids if self.arguments is None else self.program.ids | self.arguments.ids

    def _refresh(self) -> None:
        for watch in self._watches():
            watch.refresh()

    def _named(self, argument: str) -> str:
        """Return the name of the parameter that takes an argument, known by its position."""
        number, _, rest = argument.partition("[")
        if self._parameters is None:
            program = self.program.roots[0][0]
            try:
                self._parameters = list(inspect.signature(getattr(program, "forward", program)).parameters)
            except (TypeError, ValueError):
                self._parameters = []
        if number.isdecimal():
            found = self._parameters[int(number) : int(number) + 1]
            number = found[0] if found else f"argument {number}"
        return f"{number}[{rest}" if rest else number

    def run(self, execute: Callable[[], Any], *, count: bool) -> Any:
        """Run a call of the program; clocks and random bits of the system are noted if the program names any.

        With `count` the operations of a plain run count towards its limit of steps.
        """
        self.hits, self.samples = [], []
        return self.noting(execute) if count or self.names_sources() else execute()

    def names_sources(self) -> bool:
        """Return whether calls of clocks and of the system's random bits are to be watched."""
        watches = self._watches()
        if any([watch.reached.entropy for watch in watches]):
            return True
        clocks = any([watch.reached.clocks for watch in watches])
        return clocks and (self._calls <= _CALLS_WITH_CLOCKS or self._calls % 16 == 0)

    def noting(self, execute: Callable[[], Any]) -> Any:
        """Run something and note the clocks and random bits of the system that it uses."""
        with watching(self._note, _count_step):
            return execute()

    def _note(self, hit: Hit) -> None:
        if hit.clock and hit.line in self.clock_lines:
            return
        self.hits.append(hit)
        self.samples.append(0 if state.execution is None else int(state.execution.group.samples()[0]))

    def clocks(self) -> dict[str, int]:
        """Return the lines that read a clock in this call, on which a result may depend, each with a sample."""
        return {hit.line: sample for hit, sample in zip(self.hits, self.samples) if hit.clock}

    def _watches(self) -> list[Watch]:
        return [self.program] if self.arguments is None else [self.program, self.arguments]

    def has_changed(self) -> bool:
        """Return whether anything is not what it was."""
        return self._fingerprint != fingerprint() or any([watch.has_changed() for watch in self._watches()])

    def undo(self) -> list[Change]:
        """Return the changes since `begin`, after undoing them. Draws from the global generators stay drawn."""
        changes = [change for watch in self._watches() for change in watch.undo()]
        now = fingerprint()
        if now != self._fingerprint:
            self._fingerprint = now
            if not any([change.draw for change in changes]):
                changes.append(Change("", draw=True))
        return changes

    def refusal(self, changes: Sequence[Change], again: Callable[[], Any]) -> PerSampleError:
        """Return the error for changes; `again()` runs the program once more, to find the line."""
        change = changes[0]
        line = changing_line(again, self.has_changed, callers=not change.draw) or "a line that did not do it again"
        self.undo()
        if change.draw:
            source = f" ({change.name})" if change.name else ""
            return PerSampleError(
                f"the program drew from Python's or NumPy's random numbers{source} at {line}, one draw for all samples "
                "together; use dynarl.batching's rand, normal, bernoulli or categorical, which draw for each sample "
                "alone"
            )
        undone = "; it was undone" if change.undone else ", which could not be undone"
        return PerSampleError(
            f"the program changes {change.name} at {line}: it exists before the call, and the samples of a batch would "
            f"share the change{undone}. {_REMEDY}"
        )

    def refuse_hits(self) -> None:
        """Raise PerSampleError if random bits of the system were used."""
        for hit in self.hits:
            if not hit.clock:
                raise PerSampleError(
                    f"the program drew random bits of the system at {hit.line}, one draw for all samples together; use "
                    "dynarl.batching's rand, normal, bernoulli or categorical, which draw for each sample alone, or a "
                    "generator made with a seed"
                )

    # -- while the program runs -------------------------------------------------------------------------------------

    def place_of(self, x: Any) -> Place | None:
        """Return the place of an object that exists before the call, None for others."""
        return next((place for watch in self._watches() if (place := watch.place_of(x)) is not None), None)

    def place_of_tensor(self, x: Tensor) -> Place | None:
        """Return the place of a tensor that exists before the call, None for others."""
        return next((place for watch in self._watches() for y, place in watch.reached.tensors if y is x), None)

    def parameters(self) -> list[Tensor]:
        """Return the tensors that the program reaches and through which gradients flow."""
        return [x for watch in self._watches() for x, _ in watch.reached.tensors if x._node is not None]

    def place_of_memory(self, x: Tensor) -> Place | None:
        """Return the place of a tensor's memory that exists before the call, None for others."""
        return next((place for watch in self._watches() if (place := watch.place_of_memory(x)) is not None), None)


_ARGUMENT = "{}, an argument that all samples share,"


def _count_step() -> None:
    """Count an operation in plain Python, where nothing else does."""
    execution = state.execution
    if execution.__class__ is PlainExecution:
        execution.step()


_REMEDY = (
    "Return it from the program as state and pass it in as an argument the next time, or keep it in a variable of the "
    "program if it belongs to one call"
)


def refuse_attribute(module: Module, name: str, value: Any) -> None:
    """Refuse to set an attribute of a Module that exists before the call; `value` is its new value."""
    execution = state.execution
    if execution is None or execution.run.guard is None:
        return
    place = execution.run.guard.place_of(module)
    if place is None or (name == "training" and module.training is value):
        return
    kind = type(module).__name__
    text = (
        f"the program changes {place.of(name)} ({kind}.{name}) at {line_of(user_line())}: it exists before the call, "
        f"and the samples of a batch would share the change. {_REMEDY}"
    )
    if type(value) is SampleTensor:
        text = f"{kind}.{name}: a per-sample tensor cannot be stored on a Module; {text}"
    raise execution.run.fail(text)


def refuse_memory(x: Tensor, name: str) -> None:
    """Refuse to change a plain Tensor in place that exists before the call, or is the caller's data."""
    execution = state.execution
    if execution is None or execution.run.guard is None:
        return
    guard, flag = execution.run.guard, name == "requires_grad_"  # a flag of the Tensor, not of its memory
    place = guard.place_of_tensor(x) if flag else guard.place_of_memory(x)
    if place is not None:
        raise execution.run.fail(
            f"{name}: the program changes {place} in place at {line_of(user_line())}: it exists before the call, and "
            f"the samples of a batch would share the change. {_REMEDY}"
        )
    owner = owner_of(x.array)
    if not flag and any([owner_of(given.array) is owner for given in getattr(execution, "given", ())]):
        raise execution.run.fail(
            f"{name}: changes in place a tensor that was passed to the program, the caller's data, at "
            f"{line_of(user_line())}; make a new one: {remedy(name)}"
        )
