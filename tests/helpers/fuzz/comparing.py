"""Runs a program alone and in every mode, and says how each mode did."""

from __future__ import annotations

import dataclasses
import re
import signal
import traceback
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from dynarl.batching import DecisionRecorder, PerSampleError
from tests.helpers.fuzz.building import SAMPLES, Inputs, built, draws_of, draws_of_one
from tests.helpers.fuzz.features import FEATURES
from tests.helpers.fuzz.writing import Program, write
from tests.helpers.plain_reference import Result, assert_close, run_batched, run_plain

__all__ = ["MODES", "Failure", "Report", "check", "check_source"]

MODES = ("loop", "eager", "auto", "lockstep", "eager without source", "lockstep without source", "paths")
_SECONDS = 60  # for one mode of one program


@dataclasses.dataclass(frozen=True)
class Failure:
    """A mode that is not equal to plain Python."""

    mode: str
    kind: str  # "wrong value" and the like, or the name of an exception
    text: str


@dataclasses.dataclass
class Report:
    """How the modes of one program did."""

    program: Program
    skipped: str = ""
    equal: list[str] = dataclasses.field(default_factory=list)
    refusals: dict[str, str] = dataclasses.field(default_factory=dict)  # mode -> reason
    failures: list[Failure] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        """Show the program and its failures."""
        texts = [f"mode {failure.mode!r}: {failure.text}" for failure in self.failures]
        used = ", ".join(self.program.features)
        return "\n".join([self.program.source, f"program {self.program.seed}, made of {used}", *texts])


class Hang(BaseException):
    """A program that takes too long; no `except Exception` of a program catches it."""


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise Hang in the main thread after some seconds."""

    def stop(*_: Any) -> None:
        raise Hang(f"not done after {seconds} s")

    earlier = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, earlier)


def check(seed: int, names: Collection[str] = (), modes: Sequence[str] = MODES) -> Report:
    """Compare the program of a seed, made of some of the named features, with plain Python in some modes."""
    return check_source(write(seed, names), modes)


def check_source(program: Program, modes: Sequence[str] = MODES) -> Report:
    """Compare a program with plain Python in some modes."""
    report = Report(program)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with time_limit(_SECONDS):
                want = _alone(program)
                report.skipped = _unfit(program, want)
        except (Exception, Hang) as error:  # not a program for one sample
            report.skipped = f"plain Python raises {type(error).__name__}"
            return report
        if not report.skipped:
            for mode in modes:
                _compare(program, mode, want, report)
    return report


def _alone(program: Program, noise: Any = lambda x: x) -> Result:
    inputs = Inputs(program.seed, noise)
    with built(program.source, program.seed, noise=noise) as (function, net), draws_of_one(program.seed) as each:
        parameters = list(net.parameters())
        return run_plain(function, inputs.args(), parameters=parameters, each=each, second=_second(program))


def _second(program: Program) -> bool:
    """Return whether gradients of gradients are compared too."""
    return program.seed % 4 == 0


def _unfit(program: Program, want: Result) -> str:
    """Return why a program cannot be compared: rounding may decide its result otherwise in a batch."""
    arrays = want.values + want.gradients
    if not all(np.isfinite(a).all() and np.abs(a).max(initial=0) < 1e6 for a in arrays):
        return "values too large or not finite"
    for seed in range(2):
        rng = np.random.default_rng(seed)
        try:
            got = _alone(program, lambda x, rng=rng: x * (1 + 1e-12 * rng.standard_normal(x.shape)))
            assert_close(got, want, rtol=1e-8, atol=1e-9)
        except AssertionError:
            return "ill-conditioned"
    return ""


def _batched(program: Program, mode: str) -> Result:
    if mode == "paths":  # one run records its paths, another takes them, in modes that split differently
        one, other = [("lockstep", "loop"), ("loop", "lockstep"), ("eager", "eager")][program.seed % 3]
        recorder = DecisionRecorder(SAMPLES)
        _run(program, one, recorder=recorder)
        return _run(program, other, paths=recorder.paths())
    return _run(program, mode)


def _run(program: Program, mode: str, **options: Any) -> Result:
    name, _, without = mode.partition(" ")
    with built(program.source, program.seed, file=not without) as (function, net):
        return run_batched(
            function,
            Inputs(program.seed).args(),
            name,
            calls=2 if name == "auto" else 1,  # the second may run in another mode
            parameters=list(net.parameters()),
            second=_second(program),
            options=lambda: {"draws": draws_of(program.seed), **options},
        )


def _compare(program: Program, mode: str, want: Result, report: Report) -> None:
    try:
        with time_limit(_SECONDS):
            assert_close(_batched(program, mode), want)
        report.equal.append(mode)
    except PerSampleError as error:
        if _allowed(program, str(error)):
            report.refusals[mode] = reason_of(str(error))
        else:
            report.failures.append(_failure(mode, error))
    except (Exception, Hang) as error:
        report.failures.append(_failure(mode, error))


def _failure(mode: str, error: BaseException) -> Failure:
    kind = type(error).__name__
    if isinstance(error, AssertionError):
        told = re.search(r"number of values|shape|value|history|gradient", str(error))
        kind = f"wrong {told.group() if told else 'result'}"
    return Failure(mode, kind, "".join(traceback.format_exception(error)[-5:]))


def _allowed(program: Program, message: str) -> bool:
    """Return whether a construct of the program may be refused with a message."""
    return any(part in message for name in program.features for part in FEATURES[name].refusals)


def reason_of(message: str) -> str:
    """Return a message without what differs between programs, for counting."""
    text = re.sub(r"\S*fuzz_program\S*", "FILE", message.split("\n")[0])
    return re.sub(r"\bt\d+\b", "NAME", re.sub(r"\[[\d, .]*\]", "[..]", text))[:160]
