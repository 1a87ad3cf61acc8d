"""The rewrite of a program's source changes nothing but speed: every program here equals its samples run alone."""

import contextlib
import functools
import importlib.util
import linecache
import sys
import textwrap

import numpy as np
import pytest

import dynarl
from dynarl import nn
from dynarl.batching import batched, per_sample
from tests.helpers.plain_reference import (
    X,
    assert_equals_plain,
    in_every_mode,
    parametrize,
    run_batched,
    run_plain,
)

CASES = {}
WRONG: dict[str, str] = {}
"""Modes in which a case is wrong today; whoever makes it right takes it from here."""


def case(build):
    """Collect a function that returns a program, or (program, arguments)."""
    CASES[build.__name__] = build
    return build


# -- decorators -------------------------------------------------------------------------------------------------------


def halved(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return 0.5 * function(*args, **kwargs)

    return wrapper


def shifted_by(amount):
    def decorator(function):
        @functools.wraps(function)
        def wrapper(self, x):
            return function(self, x + amount) - amount

        return wrapper

    return decorator


@case
def decorated_by_wraps():
    @halved
    def program(x):
        y = x
        if x[0] > 0:
            y = x * 2
        return y

    return program


@case
def decorated_twice():
    @halved
    @halved
    def program(x):
        h = x
        while h.sum() < 3:
            h = h + 1
        return h

    return program


@case
def decorated_forward_of_an_inner_module():
    class Inner(nn.Module):
        @shifted_by(2.0)
        def forward(self, x):
            y = x
            if x[0] > 2:
                y = x * 3
            return y

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Inner()

        def forward(self, x):
            return self.inner(x)

    return Outer()


@case
def decorated_helper():
    @halved
    def helper(v):
        if v[1] > 0:
            return v * 5
        return v

    def program(x):
        y = helper(x)
        if x[0] > 0:
            y = y + helper(y)
        return y

    return program


@case
def decorator_of_a_class_of_its_own():
    class Scaled:
        def __init__(self, function):
            functools.update_wrapper(self, function)
            self.function = function

        def __call__(self, x):
            return self.function(x) * 7

    @Scaled
    def program(x):
        y = x
        if x[0] > 0:
            y = x * 2
        return y

    return program


@case
def per_sample_under_another_decorator():
    @halved
    @per_sample
    def helper(v):
        if v[0] > 0:
            return v * 3
        return -v

    def program(x):
        return helper(x) + helper(x * -1)

    return program


class Doubled(nn.Module):
    """A linear layer, doubled for some samples; subclasses decorate it."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2, dtype=np.float64)

    def doubled(self, x):
        y = self.linear(x)
        if x[0] > 0:
            y = y * 2
        return y


@case
def forward_under_no_grad():
    class Program(Doubled):
        @dynarl.no_grad()
        def forward(self, x):
            y = self.linear(x)
            if x[0] > 0:
                y = y * 2
            return y

    return Program()


@case
def inner_forward_under_no_grad():
    class Inner(Doubled):
        @dynarl.no_grad()
        def forward(self, x):
            y = self.linear(x)
            if x[0] > 0:
                y = y * 2
            return y

    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.outer = Inner(), nn.Linear(2, 2, dtype=np.float64)

        def forward(self, x):
            return self.outer(self.inner(x) + x)

    return Program()


@case
def method_under_no_grad():
    class Program(Doubled):
        @dynarl.no_grad()
        def target(self, x):
            y = self.linear(x)
            if x[1] > 0:
                return y * 3
            return y

        def forward(self, x):
            return self.doubled(x) - self.target(x)

    return Program()


@case
def enable_grad_as_decorator_inside_no_grad():
    @dynarl.enable_grad()
    def kept(v):
        y = v * 2
        if v[0] > 0:
            y = y * v
        return y

    def program(x):
        with dynarl.no_grad():
            y = kept(x)
        return y + x.detach()

    return program


@case
def context_manager_as_decorator():
    entered = contextlib.nullcontext

    @contextlib.contextmanager
    def quiet():
        with dynarl.no_grad():
            yield

    @quiet()
    def target(v):
        y = v * 4
        if v[0] > 0:
            y = v * v
        return y

    def program(x):
        with entered():
            return x * target(x)

    return program


# -- closures, globals, defaults --------------------------------------------------------------------------------------


@in_every_mode()
def test_a_closure_variable_changes_between_calls(mode):
    epsilon = 1.0

    def policy(x):
        y = x
        if x[0] > 0:
            y = x * epsilon
        return y

    run = batched(policy, mode=mode)
    for _ in range(3):
        want = np.where(X[:, :1] > 0, X * epsilon, X)
        np.testing.assert_allclose(run(dynarl.tensor(X)).numpy(), want)
        epsilon *= 0.1


@in_every_mode()
def test_a_helper_of_the_enclosing_function_is_replaced_between_calls(mode):
    def helper(v):
        return v * 2

    def program(x):
        y = x
        if x[0] > 0:
            y = helper(x)
        return y

    run = batched(program, mode=mode)
    run(dynarl.tensor(X))

    def helper(v):  # noqa: F811
        return v * 10

    np.testing.assert_allclose(run(dynarl.tensor(X)).numpy(), np.where(X[:, :1] > 0, X * 10, X))


@in_every_mode()
def test_a_closure_variable_set_after_batched_is_called(mode):
    def program(x):
        y = x
        if x[0] > 0:
            y = x * scale
        return y

    run = batched(program, mode=mode)
    scale = 3.0
    np.testing.assert_allclose(run(dynarl.tensor(X)).numpy(), np.where(X[:, :1] > 0, X * 3, X))


@in_every_mode()
def test_default_values_changed_after_batched_is_called(mode):
    def program(x, scale=2.0, *, shift=1.0):
        y = x
        if x[0] > 0:
            y = x * scale + shift
        return y

    run = batched(program, mode=mode)
    run(dynarl.tensor(X))
    program.__defaults__, program.__kwdefaults__ = (5.0,), {"shift": 4.0}
    np.testing.assert_allclose(run(dynarl.tensor(X)).numpy(), np.where(X[:, :1] > 0, X * 5 + 4, X))


@in_every_mode()
def test_code_changed_after_batched_is_called(mode):
    def program(x):
        y = x
        if x[0] > 0:
            y = x * 2
        return y

    def other(x):
        y = x
        if x[0] > 0:
            y = x * 9
        return y

    run = batched(program, mode=mode)
    run(dynarl.tensor(X))
    program.__code__ = other.__code__
    np.testing.assert_allclose(run(dynarl.tensor(X)).numpy(), np.where(X[:, :1] > 0, X * 9, X))


@in_every_mode()
def test_forward_of_a_class_replaced_after_the_first_call(mode):
    class Program(nn.Module):
        def forward(self, x):
            y = x
            if x[0] > 0:
                y = x * 2
            return y

    def forward(self, x):
        y = x
        if x[0] > 0:
            y = x * 9
        return y

    run = batched(Program(), mode=mode)
    run(dynarl.tensor(X))
    Program.forward = forward
    np.testing.assert_allclose(run(dynarl.tensor(X)).numpy(), np.where(X[:, :1] > 0, X * 9, X))


@case
def inner_function_reads_a_name_assigned_in_an_if():
    def program(x):
        scale = 1.0

        def act(v):
            return v * scale

        y = x
        if x[0] > 0:
            scale = 3.0
            y = act(x)
        return y

    return program


@case
def lambda_reads_a_name_assigned_in_a_nested_if():
    def program(x):
        scale = 1.0
        act = lambda v: v * scale  # noqa: E731
        y = x
        if x[0] > 0:
            if x[1] > 0:
                scale = 3.0
                y = act(x)
            y = y + act(x)
        return y + act(x)

    return program


@case
def inner_function_reads_a_name_assigned_in_a_while():
    def program(x):
        n, h = 0, x

        def turn(v):
            return v + n

        while h.sum() < 5:
            n = n + 1
            h = turn(h)
        return turn(h)

    return program


@case
def inner_function_defined_in_an_if_reads_a_later_name():
    def program(x):
        if x[0] > 0:

            def act(v):
                return v * scale

        else:

            def act(v):
                return v - scale

        scale = 2.0
        if x[1] > 0:
            scale = 5.0
        return act(x)

    return program


@case
def generator_expression_consumed_after_an_if_changed_its_name():
    def program(x):
        scale = 1.0
        parts = (x[i] * scale for i in range(2))
        if x[0] > 0:
            scale = 3.0
        return sum(parts)

    return program


@case
def nonlocal_tensor_changed_in_an_if():
    def program(x):
        total = x * 0

        def add(v):
            nonlocal total
            if v[0] > 0:
                total = total + v
            return total

        h = x
        for _ in range(3):
            h = -h + add(h) * 0.5
        return h + total

    return program


@case
def nonlocal_name_assigned_in_a_while():
    def program(x):
        h, n = x, 0

        def run():
            nonlocal h, n
            while h.sum() < 4:
                h = h + 1
                n = n + 1

        run()
        return h * n

    return program


LAST = 1.0


@case
def global_assigned_on_a_branch_that_no_sample_takes():
    def program(x):
        global LAST
        if x[0] > 9:
            LAST = 2.0
        return x * LAST

    return program


@in_every_mode()
def test_a_global_assigned_in_a_branch_stays_defined(mode):
    def program(x):
        global LAST
        if x[0] > 9:
            LAST = 2.0
        return x * 1.0

    batched(program, mode=mode)(X)
    assert LAST == 1.0


# -- which source is the program's ------------------------------------------------------------------------------------


@case
def multi_line_string():
    class Program(nn.Module):
        def forward(self, x):
            board = """
            #.
            .#"""
            y = x
            if x[0] > 0:
                y = x * len(board)
            return y

    return Program()


@case
def multi_line_f_string():
    def program(x):
        name = "a"
        text = f"""
            {name}
              {name}"""
        y = x
        if x[0] > 0:
            y = x * len(text)
        return y + len(text)

    return program


@case
def own_docstring_is_read():
    def program(x):
        """First.

        Indented by eight.
        """
        y = x
        if x[0] > 0:
            y = x * len(program.__doc__)
        return y

    return program


@case
def two_programs_on_one_line():
    first, second = lambda x: x * 2 if x[0] > 0 else x, lambda x: x * 3 if x[0] > 0 else x

    def program(x):
        return second(x) - first(x)

    return program


@case
def second_lambda_of_a_line_is_the_program():
    _, second = lambda x: x * 2 if x[0] > 0 else x, lambda x: x * 3 if x[0] > 0 else x
    return second


PROGRAM_IN_A_FILE = """
def program(x):
    y = x
    if x[0] > 0:
        y = x * {factor}
    return y
"""


def imported(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@in_every_mode()
@pytest.mark.parametrize("edit", ["same lines", "lines moved"])
def test_a_file_edited_after_import_runs_as_imported(tmp_path, mode, edit):
    path = tmp_path / "edited_program.py"
    path.write_text(PROGRAM_IN_A_FILE.format(factor=2))
    program = imported(path, "edited_program").program
    other = PROGRAM_IN_A_FILE.format(factor=50)
    path.write_text(other if edit == "same lines" else other.replace("program", "other") * 2 + other)
    linecache.checkcache(str(path))
    got = batched(program, mode=mode)(X).numpy()
    np.testing.assert_allclose(got, np.where(X[:, :1] > 0, X * 2, X))


@in_every_mode()
def test_a_file_deleted_after_import_runs_as_imported(tmp_path, mode):
    path = tmp_path / "deleted_program.py"
    path.write_text(PROGRAM_IN_A_FILE.format(factor=2))
    program = imported(path, "deleted_program").program
    path.unlink()
    linecache.checkcache(str(path))
    np.testing.assert_allclose(batched(program, mode=mode)(X).numpy(), np.where(X[:, :1] > 0, X * 2, X))


@in_every_mode()
def test_two_functions_of_one_name_in_a_file(tmp_path, mode):
    path = tmp_path / "twice_defined.py"
    text = PROGRAM_IN_A_FILE.format(factor=2) + "first = program\n" + PROGRAM_IN_A_FILE.format(factor=3)
    path.write_text(text)
    module = imported(path, "twice_defined")
    for program, factor in ((module.first, 2), (module.program, 3)):
        got = batched(program, mode=mode)(X).numpy()
        np.testing.assert_allclose(got, np.where(X[:, :1] > 0, X * factor, X))


@case
def made_by_exec():
    names = {}
    exec(textwrap.dedent(PROGRAM_IN_A_FILE.format(factor=4)), names)
    return names["program"]


@case
def reads_its_own_frame():
    def program(x):
        y = x
        if x[0] > 0:
            y = x * len(sys._getframe().f_code.co_name)
        return y

    return program


@parametrize(CASES, WRONG)
def test_program_equals_its_samples_alone(case, mode):
    assert_equals_plain(case, mode)


def test_the_comparison_notices_a_lost_decorator():
    plain = run_plain(CASES["decorated_by_wraps"](), (X,))
    lost = run_batched(CASES["decorated_by_wraps"]().__wrapped__, (X,), "eager")
    assert not np.allclose(plain.values[0], lost.values[0])
