"""A bounded number of random programs in every mode; `python -m tests.helpers.fuzz --programs 2000` runs more."""

import inspect

import pytest

from tests.helpers.fuzz import FEATURES, check, check_source
from tests.helpers.fuzz.building import built
from tests.helpers.fuzz.shrinking import shrunk
from tests.helpers.fuzz.writing import Program, write

NOT_YET: frozenset[str] = frozenset()
"""Constructs in which per-sample programs still differ from plain Python; a construct that holds leaves this list."""

HOLD = sorted(set(FEATURES) - NOT_YET)


@pytest.mark.parametrize("seed", range(60))
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


WRONG_ON_PURPOSE = """
import dynarl
CALLS = [0]

def program(x, seq, flag, tree, given):
    CALLS[0] += 1
    y = net.b(x)
    if x[0] > 0.017:
        y = y * 2
        z = y + 1
    return y * (1 if CALLS[0] < 3 else 2), x
"""


def test_a_wrong_program_is_found_and_made_smaller():
    report = check_source(Program(0, WRONG_ON_PURPOSE, ()), ("eager",))
    assert [failure.mode for failure in report.failures] == ["eager"]
    small = shrunk(report, seconds=10).program.source
    assert "z = " not in small and "CALLS[0] += 1" in small


def test_a_program_has_its_source_only_if_it_has_a_file():
    with built(WRONG_ON_PURPOSE, 0) as (program, _):
        assert "CALLS[0] += 1" in inspect.getsource(program)
    with built(WRONG_ON_PURPOSE, 0, file=False) as (program, _), pytest.raises(OSError, match="source"):
        inspect.getsource(program)
