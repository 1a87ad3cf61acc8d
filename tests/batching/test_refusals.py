"""Randomness that is not per sample and changes of state that outlives the call are refused, by object and line."""

import os
import random
import re
import secrets
import time
import uuid
from pathlib import Path

import numpy as np
import pytest

import dynarl
from dynarl import nn
from dynarl.batching import ObjectBatch, PerSampleError, batched
from tests.helpers.plain_reference import MODES, X, marks

DRAWS = {}
CHANGES = {}
WRONG_DRAWS = {}
WRONG_CHANGES = {}
"""Modes in which a case is not refused as it must be; whoever makes it right takes it from here."""


def draws(build):
    """Collect a function that returns (program, arguments); the line that draws ends in `# here`."""
    DRAWS[build.__name__] = build
    return build


def changes(build):
    """Collect a function that returns (program, arguments, name, look): `look()` must not change, `# here` changes it.

    `name` is what the message must call the object.
    """
    CHANGES[build.__name__] = build
    return build


def every_case(cases, wrong):
    assert set(wrong) <= set(cases)
    return pytest.mark.parametrize(
        ("build", "mode"),
        [
            pytest.param(build, mode, id=f"{name}-{mode}", marks=marks(mode, wrong.get(name, "")))
            for name, build in cases.items()
            for mode in MODES
        ],
    )


def line_of(build):
    """Return `file:line` of the line marked `# here` in a function of this file."""
    source = Path(__file__).read_text().splitlines()
    first = build.__code__.co_firstlineno
    here = next(i for i, line in enumerate(source[first:], first + 1) if line.endswith("# here"))
    return f"{Path(__file__).name}:{here}"


# -- randomness -------------------------------------------------------------------------------------------------------


@draws
def generator_as_an_argument():
    def program(x, rng):
        y = x * 2
        return y + rng.random()  # here

    return program, (X, np.random.default_rng(0))


@draws
def generator_by_keyword_in_a_partial():
    import functools

    def noisy(x, rng):
        y = x + 1
        return y * float(rng.normal())  # here

    return functools.partial(noisy, rng=np.random.default_rng(0)), (X,)


class Explorer:
    shared = random.Random(0)

    def __init__(self):
        self.rng = np.random.default_rng(0)
        self.held = {"rng": [np.random.RandomState(0)]}

    def __call__(self, x):
        if x[0] > 0:
            x = x * 2
        return x + self.rng.random()  # here, in a call


@draws
def generator_of_a_callable_object():
    class Program(Explorer):
        def __call__(self, x):
            y = x * 2
            return y + self.rng.random()  # here

    return Program(), (X,)


@draws
def generator_of_a_class():
    class Program(Explorer):
        def __call__(self, x):
            return x + type(self).shared.random()  # here

    return Program(), (X,)


@draws
def generator_in_a_container_of_an_attribute():
    explorer = Explorer()

    def program(x):
        return x + float(explorer.held["rng"][0].rand())  # here

    return program, (X,)


EXPLORER = Explorer()


@draws
def generator_of_a_global_object():
    def program(x):
        y = x
        if x[0] > 0:
            y = x + EXPLORER.rng.random()  # here
        return y

    return program, (X,)


@draws
def generator_set_after_batched():
    class Program(nn.Module):
        rng = None

        def forward(self, x):
            return x + float(self.rng.random())  # here

    program = Program()
    program.rng = np.random.default_rng(3)
    return program, (X,)


@draws
def generator_made_inside():
    def program(x):
        rng = np.random.default_rng()  # here
        return x + rng.random()

    return program, (X,)


@draws
def python_generator_made_inside():
    def program(x):
        return x + random.Random().random()  # here

    return program, (X,)


@draws
def generator_of_the_system():
    system = random.SystemRandom()

    def program(x):
        return x + system.random()  # here

    return program, (X,)


@draws
def bits_of_the_system():
    def program(x):
        return x + len(os.urandom(2).strip(b"a")) + os.urandom(1)[0]  # here

    return program, (X,)


@draws
def module_of_secrets():
    def program(x):
        return x * secrets.randbelow(999)  # here

    return program, (X,)


@draws
def unique_identifiers():
    def program(x):
        y = x * 2
        return y + uuid.uuid4().int % 7  # here

    return program, (X,)


@draws
def clock():
    def program(x):
        return x + time.time() % 1.0  # here

    return program, (X,)


@draws
def clock_of_performance():
    def program(x):
        return x + (time.perf_counter_ns() % 7 + time.monotonic() % 1)  # here

    return program, (X,)


@draws
def shuffle_of_a_list():
    def program(x):
        order = [1.0, 2.0, 3.0]
        random.shuffle(order)  # here
        return x * order[0]

    return program, (X,)


@draws
def draw_on_a_branch():
    def program(x):
        y = x
        if x[0] > 2:
            y = x + np.random.rand()  # here
        return y

    return program, (X,)


@draws
def engine_s_own_generator():
    generator = dynarl.Generator().manual_seed(0)

    def program(x):
        return x + generator.numpy.random()  # here

    return program, (X,)


@every_case(DRAWS, WRONG_DRAWS)
def test_a_draw_for_all_samples_together_is_refused_with_its_line(build, mode):
    program, args = build()
    with pytest.raises(PerSampleError, match=rf"{re.escape(line_of(build))}\b"):
        batched(program, mode=mode)(*args)


@pytest.mark.parametrize("mode", MODES)
def test_a_generator_with_a_seed_of_its_own_made_inside_is_no_draw_for_all(mode):
    def program(x):
        rng = np.random.default_rng(int(x.argmax()))
        return x + rng.random() + random.Random(3).random()

    got = batched(program, mode=mode)(X).numpy()
    want = [x + np.random.default_rng(int(x.argmax())).random() + random.Random(3).random() for x in X]
    np.testing.assert_allclose(got, want)


# -- state that outlives the call -------------------------------------------------------------------------------------


@changes
def attribute_of_a_module():
    class Program(nn.Module):
        def forward(self, x):
            self.n = 0  # here
            return x * self.n

    program = Program()
    return program, (X,), r"Program.*\bn\b|\bn\b.*Program", lambda: sorted(vars(program))


@changes
def attribute_counted_in_a_method():
    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.visits = 0

        def visit(self, v):
            self.visits += 1  # here
            return v * 2

        def forward(self, x):
            y = x
            if x[0] > 0:
                y = self.visit(y)
            return y * self.visits

    program = Program()
    return program, (X,), r"\bvisits\b", lambda: program.visits


@changes
def attribute_deleted():
    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.kept = 1.0

        def forward(self, x):
            y = x * self.kept
            del self.kept  # here
            return y

    program = Program()
    return program, (X,), r"\bkept\b", lambda: program.kept


@changes
def list_held_by_a_module():
    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.trace = []

        def forward(self, x):
            y = x * 2
            if x[0] > 0:
                self.trace.append(1.0)  # here
            return y

    program = Program()
    return program, (X,), r"\btrace\b", lambda: list(program.trace)


@changes
def dict_in_a_list_held_by_an_inner_module():
    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.memory = [{"n": 0}]

        def forward(self, x):
            self.memory[0]["n"] += 1  # here
            return x * 2

    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Inner()

        def forward(self, x):
            return self.inner(x) + 1

    program = Program()
    return program, (X,), r"\bmemory\b", lambda: program.inner.memory[0]["n"]


@changes
def buffer_added_to():
    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", dynarl.zeros(2))

        def forward(self, x):
            y = x
            if x[0] > 0:
                self.count.add_(1.0)  # here
                y = x * 2
            return y

    program = Program()
    return program, (X,), r"\bcount\b", lambda: program.count.tolist()


@changes
def parameter_changed():
    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(dynarl.ones(2))

        def forward(self, x):
            y = x * self.scale
            with dynarl.no_grad():
                self.scale.mul_(0.5)  # here
            return y

    program = Program()
    return program, (X,), r"\bscale\b", lambda: program.scale.tolist()


@changes
def training_flag():
    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            if x[0] > 0:
                self.drop.eval()  # here
            return self.drop(x)

    program = Program()
    return program, (X,), r"\btraining\b|\beval\b", lambda: program.drop.training


TOTAL = 0.0
SEEN = {"n": [0]}


@changes
def global_assigned():
    def program(x):
        global TOTAL
        if x[0] > 0:
            TOTAL = 5.0  # here
        return x * TOTAL

    return program, (X,), r"\bTOTAL\b", lambda: TOTAL


@changes
def container_in_a_global():
    def program(x):
        y = x
        if x[0] > 0:
            SEEN["n"].append(1)  # here
        return y * len(SEEN["n"])

    return program, (X,), r"\bSEEN\b", lambda: list(SEEN["n"])


@changes
def variable_of_the_enclosing_function():
    total = 0.0

    def program(x):
        nonlocal total
        if x[1] > 0:
            total = total + 1  # here
        return x * total

    return program, (X,), r"\btotal\b", lambda: total


@changes
def list_of_the_enclosing_function():
    seen = []

    def program(x):
        y = x
        if x[0] > 0:
            seen.append(1.0)  # here
        return y * len(seen)

    return program, (X,), r"\bseen\b", lambda: list(seen)


@changes
def array_of_the_enclosing_function():
    counts = np.zeros(2)

    def program(x):
        counts[int(x.argmax())] += 1  # here
        return x * float(counts.sum())

    return program, (X,), r"\bcounts\b", lambda: counts.tolist()


@changes
def default_value():
    def program(x, seen=[]):  # noqa: B006
        seen.append(1.0)  # here
        return x * len(seen)

    return program, (X,), r"\bseen\b", lambda: list(program.__defaults__[0])


@changes
def attribute_of_a_class():
    class Counter:
        n = 0

    def program(x):
        y = x
        if x[0] > 0:
            Counter.n += 1  # here
        return y * Counter.n

    return program, (X,), r"\bCounter\b", lambda: Counter.n


@changes
def attribute_of_the_function_itself():
    def program(x):
        program.calls = getattr(program, "calls", 0) + 1  # here
        return x * program.calls

    return (
        program,
        (X,),
        r"\bcalls\b|\bprogram\b",
        lambda: [name for name in vars(program) if not name.startswith("_dynarl_")],
    )


class Meter:
    """A plain object of the caller."""

    def __init__(self):
        self.n, self.values = 0, []

    def add(self, v):
        self.n += 1
        self.values.append(v)


@changes
def shared_argument():
    meter = Meter()

    def program(x, meter):
        y = x * 2
        if x[0] > 0:
            meter.n += 1  # here
        return y * meter.n

    return program, (X, meter), r"\bmeter\b|\bMeter\b", lambda: meter.n


@changes
def object_of_a_global_by_a_method():
    meter = Meter()

    def program(x):
        if x[0] > 0:
            meter.add(1.0)  # here
        return x * 2

    return program, (X,), r"\bmeter\b|\bMeter\b", lambda: (meter.n, list(meter.values))


@changes
def attribute_of_a_callable_object():
    class Program:
        def __init__(self):
            self.n = 0

        def __call__(self, x):
            y = x
            while y.sum() < 3:
                y = y + 1
                self.n += 1  # here
            return y * self.n

    program = Program()
    return program, (X,), r"\bn\b", lambda: program.n


@changes
def iterator_of_the_enclosing_function():
    numbers = iter(range(100))

    def program(x):
        y = x
        if x[0] > 0:
            y = x * next(numbers)  # here
        return y

    return program, (X,), r"\bnumbers\b", lambda: numbers.__reduce__()[2]


@changes
def cache_of_a_helper():
    cache = {}

    def power(n):
        if n not in cache:
            cache[n] = 2.0**n  # here
        return cache[n]

    def program(x):
        return x * power(int(x.argmax()))

    return program, (X,), r"\bcache\b", lambda: dict(cache)


@every_case(CHANGES, WRONG_CHANGES)
def test_a_change_of_state_outside_is_refused_and_undone(build, mode):
    program, args, name, look = build()
    before = look()
    with pytest.raises(PerSampleError, match=rf"{re.escape(line_of(build))}\b") as caught:
        batched(program, mode=mode)(*args)
    assert re.search(name, str(caught.value)), f"the message names no object like {name}: {caught.value}"
    assert look() == before


# -- changes in place that other samples or the caller would see ------------------------------------------------------

IN_PLACE = {}


def in_place(build):
    """Collect a function that returns (program, arguments); the message must show `h = h + 1` as the way out."""
    IN_PLACE[build.__name__] = build
    return build


@in_place
def argument_added_to():
    def program(x):
        x += 1  # here
        return x * 2

    return program, (X,)


@in_place
def leaf_of_an_object_added_to():
    def program(x, item):
        item["v"].add_(1.0)  # here
        return x * item["v"]

    return program, (X, ObjectBatch([{"v": x} for x in X]))


@every_case(IN_PLACE, {})
def test_a_change_in_place_that_others_see_is_refused_with_the_way_out(build, mode):
    program, args = build()
    before = [x.copy() if isinstance(x, np.ndarray) else x for x in args]
    with pytest.raises(PerSampleError, match=r"= \w+ [+*] ") as caught:
        batched(program, mode=mode)(*args)
    assert line_of(build) in str(caught.value) or line_of(build).split(":")[1] in str(caught.traceback)
    np.testing.assert_array_equal(args[0], before[0])
