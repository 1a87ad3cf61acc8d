"""A bounded number of random programs in every mode; `python -m tests.helpers.fuzz --programs 2000` runs more."""

import inspect

import pytest

from tests.helpers.fuzz import FEATURES, check, check_source, comparing
from tests.helpers.fuzz.building import built
from tests.helpers.fuzz.shrinking import shrunk
from tests.helpers.fuzz.writing import Program, write

NOT_YET = frozenset(("class_inside", "grad_inside", "plain_tensor"))
"""Constructs in which per-sample programs still differ from plain Python; a construct that holds leaves this list."""

HOLD = sorted(set(FEATURES) - NOT_YET)


@pytest.mark.parametrize("seed", range(45))
def test_every_mode_equals_plain_python(seed):
    report = check(seed, HOLD)
    assert not report.failures, report


def test_every_construct_is_part_of_programs_that_run():
    """A construct whose programs fail in plain Python would be skipped without a word."""
    used = set()
    for seed in range(400):
        program = write(seed)
        if not set(program.features) <= used:
            report = check_source(program, ())
            assert not report.skipped.startswith("plain Python raises"), report
            used |= set(program.features)
    assert used == set(FEATURES)


TWICE = """
import dynarl

def program(x, seq, flag, tree, given):
    y = net.b(x)
    if x[0] > 0.017:
        y = y * 2
        z = y + 1
    for i in range(2):
        y = y + z * 0 if x[0] > 0.017 else y
    return y, x
"""


def wrong_where_a_program_has(monkeypatch, text):
    """Let batches be wrong by a little if a text is in the source of a program."""
    right = comparing._batched

    def batched(program, mode):
        result = right(program, mode)
        if text in program.source:
            result.values[0] += 1e-3
        return result

    monkeypatch.setattr(comparing, "_batched", batched)


def test_a_wrong_program_is_found_and_made_smaller(monkeypatch):
    wrong_where_a_program_has(monkeypatch, "y * 2")
    report = check_source(Program(0, TWICE, ()), ("eager", "loop"))
    assert [(failure.mode, failure.kind) for failure in report.failures] == [
        (m, "wrong value") for m in ("eager", "loop")
    ]
    assert report.equal == []
    small = shrunk(report, seconds=10).program.source
    assert "y * 2" in small and "z = " not in small and "for " not in small


def test_a_program_has_its_source_only_if_it_has_a_file():
    with built(TWICE, 0) as (program, _):
        assert "z = y + 1" in inspect.getsource(program)
    with built(TWICE, 0, file=False) as (program, _), pytest.raises(OSError, match="source"):
        inspect.getsource(program)


STATEMENTS_ON_THE_WAY_OUT = {
    "finally": """
def program(x, seq, flag, tree, given):
    v0, v1, s0 = net.a(x), x * 0.5, x[0]
    try:
        if v1.sum() > x.sum() + 0.013:
            pass
    finally:
        s0 = (v0 / (1 + v1.abs())).max()
    return s0
""",
    "finally with a loop": """
def program(x, seq, flag, tree, given):
    v0, s0 = net.a(x), x[0]
    try:
        if (x * 0.5).sum() > x.sum() + 0.013:
            s0 = s0 + 1
    finally:
        while s0 < 2.0:
            s0 = s0 + 1.0
        for _ in range(2):
            s0 = v0.max()
    return s0
""",
    "a handler of everything": """
def program(x, seq, flag, tree, given):
    v0, s0 = net.a(x), x[0]
    try:
        if (x * 0.5).sum() > x.sum() + 0.013:
            s0 = s0 + 1
    except BaseException:
        s0 = v0.max() if v0[0] > 0 else v0.min()
        raise
    return s0
""",
}


@pytest.mark.parametrize("name", STATEMENTS_ON_THE_WAY_OUT)
def test_statements_that_run_while_a_path_waits_enter_no_log(name):
    """A path that waits for others leaves the program by an exception, which `finally` and the like see."""
    report = check_source(Program(0, STATEMENTS_ON_THE_WAY_OUT[name], ()), ("eager", "lockstep", "loop"))
    assert not report.failures, report
    assert not report.skipped
