"""`explain()` and the warning of mode "auto": where samples stay apart, and why."""

import warnings
from pathlib import Path

import numpy as np
import pytest

import dynarl
from dynarl import nn
from dynarl.batching import batched

N = 96


def rows(seed=0):
    return np.random.default_rng(seed).standard_normal((N, 6))


class Unjoined(nn.Module):
    """Samples part at an `if` in a function that keeps an iterator."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 6, dtype=dynarl.float64) for _ in range(3)])

    def forward(self, x):
        turns = iter(range(6))
        for _ in range(6):
            if x[next(turns)] > 0:
                x = self.layers[0](x).tanh()
            else:
                x = self.layers[1](x).tanh()
        return x


def line_with(text):
    lines = Path(__file__).read_text().split("\n")
    return next(i for i, line in enumerate(lines, 1) if line.strip().startswith(text))


def test_the_statement_that_cannot_be_joined_is_named_with_the_reason():
    program = batched(Unjoined(), mode="eager")
    program(rows())
    text = program.explain()
    assert f"test_explanation.py:{line_with('if x[next(turns)] > 0:')} in forward: samples that part here stay" in text
    assert "range_iterator" in text


def test_auto_warns_once_of_repeated_work():
    def program(x):
        gates, turns = x, iter(range(4))
        for _ in range(4):
            if gates[next(turns)] > 0:
                x = (x * 1.5).tanh() + 0.1
            else:
                x = (x - 0.5).sigmoid() * 2
            x = (x + 0.1).exp().clamp(-1.0, 1.0) - 0.5
        return x

    run = batched(program)
    with pytest.warns(RuntimeWarning, match=r"longest path has \d+: samples part, .* at .*test_explanation"):
        run(rows())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(rows(1))


def test_programs_that_join_do_not_warn():
    def program(x):
        for i in range(6):
            x = (x * 1.5).tanh() if x[i] > 0 else (x - 0.5).sigmoid()
        return x

    run = batched(program)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(rows())
    assert "stay apart" not in run.explain()


def test_a_function_that_runs_as_it_is_written_is_named():
    def program(x):
        y = locals()["x"]
        if y[0] > 0:
            y = y * 2
        return y

    run = batched(program)
    run(rows())
    assert "in program: runs as it is written, samples that part stay apart: it calls locals" in run.explain()
