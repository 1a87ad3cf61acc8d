"""Statements and names of ordinary Python in programs, and the ways to reach one: all equal their samples run alone."""

import contextlib
import functools

import numpy as np

from dynarl import nn
from tests.helpers.plain_reference import assert_equals_plain, parametrize

CASES = {}
WRONG: dict[str, str] = {}
"""Modes in which a case is wrong today; whoever makes it right takes it from here."""


def case(build):
    """Collect a function that returns a program, or (program, arguments)."""
    CASES[build.__name__] = build
    return build


# -- names and statements ---------------------------------------------------------------------------------------------


@case
def private_attribute():
    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.__linear = nn.Linear(2, 2, dtype=np.float64)

        def forward(self, x):
            y = x
            if x[0] > 0:
                y = self.__linear(x)
            return y

    return Program()


@case
def private_method_and_local():
    class Program(nn.Module):
        def __step(self, v):
            if v[1] > 0:
                return v + 1
            return v + 2

        def forward(self, x):
            __h = x
            while __h.sum() < 3:
                __h = self.__step(__h)
            return __h

    return Program()


@case
def super_without_arguments():
    class Base(nn.Module):
        def forward(self, x):
            y = x
            if x[1] > 0:
                y = x * 3
            return y

    class Program(Base):
        def forward(self, x):
            y = super().forward(x)
            if x[0] > 0:
                y = y + super().forward(y)
            return y * len(__class__.__name__)

    return Program()


@case
def break_in_the_else_of_an_inner_loop():
    def program(x):
        y = x
        for _ in range(3):
            for j in range(2):
                if x[j] > 1:
                    break
            else:
                break
            y = y + 1
        return y

    return program


@case
def continue_in_the_else_of_an_inner_while():
    def program(x):
        y = x
        for i in range(3):
            n = 0
            while n < 2:
                if x[n] + i > 1:
                    break
                n += 1
            else:
                y = y * 2
                continue
            y = y + 1
        else:
            y = y - 0.5
        return y

    return program


@case
def return_in_the_else_of_a_loop():
    def program(x):
        for i in range(2):
            if x[i] > 1.5:
                break
        else:
            return x * 5
        return x * i

    return program


@case
def name_deleted_after_an_if():
    def program(x):
        if x[0] > 0:
            t = x * 2
            y = t + 1
        else:
            t = x
            y = t
        del t
        return y

    return program


@case
def name_deleted_in_an_if_and_in_a_loop():
    def program(x):
        t, y = x * 2, x
        if x[0] > 0:
            y = t
            del t
        for i in range(2):
            part = x * i
            if part[1] > 0:
                y = y + part
            del part
        try:
            return y + t
        except UnboundLocalError:
            return y - 1

    return program


@case
def name_that_only_some_paths_assign():
    def program(x):
        if x[0] > 0:
            found = x * 2
        if x[1] > 0:
            try:
                return found + 1
            except NameError:
                return x - 1
        return x

    return program


@case
def unbound_local_caught_in_an_if():
    def program(x):
        y = x
        if x[0] > 0:
            t = x * 2
            del t
            try:
                y = t
            except UnboundLocalError:
                y = x - 1
        return y

    return program


@case
def unbound_local_caught_in_an_else():
    def program(x):
        y = x
        if x[0] > 0:
            y = x * 3
        else:
            t, u = x - 1, x[1]
            del t
            try:
                y = t
            except UnboundLocalError:
                y = y + u
        return y

    return program


@case
def starred_and_nested_targets_in_an_if():
    def program(x):
        first, rest = x[0], [x[1]]
        if x[0] > 0:
            first, *rest = x[1], x[0], x[0] * 2
        else:
            (first, (second,)) = x[1], (x[0],)
            rest = [second]
        return first * 2 + sum(rest) * len(rest)

    return program


@case
def walrus_in_a_test():
    def program(x):
        y = x
        while (total := y.sum()) < 4:
            y = y + 1
            if (low := y.min()) < 0:
                y = y - low * 0.5
        return y * total

    return program


@case
def conditional_expressions():
    def program(x):
        y = x * 2 if x[0] > 0 else x + 1
        return (y if y.sum() > 3 else -y) + (1.0 if x[1] > 0 and y[0] > 0 else 2.0)

    return program


@case
def comprehensions_in_an_if():
    def program(x):
        parts = [x]
        if x[0] > 0:
            parts = [x * i for i in range(3) if x[1] > i]
            table = {i: part.sum() for i, part in enumerate(parts)}
            chosen = sum(v for v in table.values())
        else:
            chosen = max({float(v) for v in x})
        return x * len(parts) + chosen

    return program


@case
def match_statement():
    def program(x):
        key = (int(x.argmax()), bool(x[0] > 0))
        match key:
            case (0, True):
                y = x * 2
            case (k, False) if k == 1:
                y = x - k
            case (k, flag):
                y = x + k + flag
        return y

    return program


@case
def with_inside_an_if():
    def program(x):
        y = x
        if x[0] > 0:
            with contextlib.suppress(ValueError):
                y = x * 2
                if x[1] > 0:
                    raise ValueError("some of them")
                y = y + 1
        return y

    return program


@case
def finally_of_every_path():
    def program(x):
        y, ran = x, 0
        for i in range(3):
            try:
                if x[0] > i:
                    continue
                if x[1] > 1:
                    break
                y = y + 1
            finally:
                ran += 1
        return y * ran

    return program


@case
def locals_are_read():
    def program(x):
        a, b = 1.0, 2.0
        if x[0] > 0:
            b = 3.0
        return x * sum(v for name, v in locals().items() if name in "ab")

    return program


# -- how a program is reached -----------------------------------------------------------------------------------------


def halved(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return 0.5 * function(*args, **kwargs)

    return wrapper


def branching(x, scale=1.0, *extra, **named):
    y = x
    if x[0] > 0:
        y = x * scale + sum(extra) + sum(named.values())
    return y


@case
def partial_of_a_function():
    return functools.partial(branching, scale=3.0, shift=2.0)


@case
def partial_of_a_wrapped_function():
    return functools.partial(halved(branching), scale=3.0)


@case
def callable_object_with_a_decorated_call():
    class Program:
        scale = 3.0

        @halved
        def __call__(self, x):
            y = x
            if x[0] > 0:
                y = x * self.scale
            return y

    return Program()


@case
def static_and_class_methods():
    class Program(nn.Module):
        factor = 3.0

        @staticmethod
        def shifted(v):
            return v + 1 if v[0] > 0 else v

        @classmethod
        def scaled(cls, v):
            if v[1] > 0:
                return v * cls.factor
            return v

        @property
        def weight(self):
            return 0.5

        def forward(self, x):
            return self.scaled(self.shifted(x)) * self.weight

    return Program()


@case
def single_dispatch_on_what_a_sample_holds():
    @functools.singledispatch
    def handle(item, x):
        return x

    @handle.register
    def _(item: int, x):
        y = x
        if x[0] > 0:
            y = x * item
        return y

    def program(x):
        return handle(int(x.argmax()) + 2, x) + handle("word", x)

    return program


@parametrize(CASES, WRONG)
def test_program_equals_its_samples_alone(case, mode):
    assert_equals_plain(case, mode)
