"""Whatever holds state around a program: a change is refused by name and line, and undone. More kinds of holders than
tests/batching/test_refusals.py, and what is no change."""

import argparse
import array
import collections
import contextvars
import dataclasses
import functools
import itertools
import re
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest

import dynarl
from dynarl import nn
from dynarl.batching import ObjectBatch, PerSampleError, batched
from tests.helpers.plain_reference import MODES, X

HOLDERS = {}


def holder(build):
    """Collect a function that returns (program, name in the message, look): `look()` must not change."""
    HOLDERS[build.__name__] = build
    return build


class Slotted:
    __slots__ = ("n",)

    def __init__(self):
        self.n = 0

    def add(self):
        self.n += 1


@holder
def object_with_slots():
    slotted = Slotted()

    def program(x):
        slotted.add()
        return x * slotted.n

    return program, "slotted", lambda: slotted.n


@holder
def element_of_a_deque():
    recent = collections.deque([1.0, 2.0], maxlen=2)

    def program(x):
        recent.append(3.0)  # as long as before
        return x * recent[0]

    return program, "recent", lambda: list(recent)


@holder
def set_of_numbers():
    visited = {1, 2}

    def program(x):
        y = x
        if x[0] > 0:
            visited.discard(1)
        return y * len(visited)

    return program, "visited", lambda: set(visited)


@holder
def default_dict_that_is_read():
    values = collections.defaultdict(float)

    def program(x):
        return x + values[int(x.argmax())]

    return program, "values", lambda: dict(values)


@holder
def counter_of_a_class():
    class Program(nn.Module):
        counts = collections.Counter()

        def forward(self, x):
            self.counts[int(x[0] > 0)] += 1
            return x * 2

    return Program(), "counts", lambda: dict(Program.counts)


@holder
def key_that_is_renamed():
    names = {"a": 1.0}

    def program(x):
        if "a" in names:
            names["b"] = names.pop("a")
        return x

    return program, "names", lambda: dict(names)


@dataclasses.dataclass
class Inner:
    values: list = dataclasses.field(default_factory=lambda: [1.0])
    n: int = 0


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner = dataclasses.field(default_factory=Inner)


@holder
def object_in_a_frozen_dataclass():
    outer = Outer()

    def program(x):
        outer.inner.values[0] += 1.0
        return x * outer.inner.values[0]

    return program, r"outer\.inner\.values", lambda: list(outer.inner.values)


@holder
def number_in_an_object_in_a_tuple():
    pair = (Inner(), Inner())

    def program(x):
        pair[1].n += 1
        return x * pair[1].n

    return program, r"pair\[1\]\.n", lambda: pair[1].n


@holder
def variable_of_another_module():
    module = types.ModuleType("settings_of_a_test")
    module.__file__ = str(Path(__file__).with_name("settings_of_a_test.py"))
    exec("TOTAL = 0\ndef count():\n    global TOTAL\n    TOTAL += 1\n    return TOTAL\n", vars(module))
    sys.modules[module.__name__] = module

    def program(x):
        import settings_of_a_test as settings

        settings.TOTAL += 1
        return x * settings.TOTAL

    return program, "TOTAL", lambda: module.TOTAL


@holder
def variable_of_the_module_of_a_helper():
    namespace = {}
    exec("TOTAL = 0\ndef count():\n    global TOTAL\n    TOTAL += 1\n    return TOTAL\n", namespace)
    count = namespace["count"]

    def program(x):
        return x * count()

    return program, "TOTAL", lambda: namespace["TOTAL"]


@holder
def dictionary_of_globals():
    namespace = {"X": 1.0}
    exec("def program(x):\n    globals()['SEEN'] = 2.0\n    return x * SEEN\n", namespace)
    return namespace["program"], "SEEN", lambda: "SEEN" in namespace


@holder
def list_in_the_keywords_of_a_partial():
    def trace(x, seen):
        seen.append(1.0)
        return x * len(seen)

    seen = []
    return functools.partial(trace, seen=seen), "seen", lambda: list(seen)


@holder
def counter_of_a_decorator():
    def counted(function):
        @functools.wraps(function)
        def call(*args):
            call.calls += 1
            return function(*args)

        call.calls = 0
        return call

    @counted
    def program(x):
        return x * 2

    return program, r"call|calls", lambda: program.calls


@holder
def default_of_a_keyword():
    def program(x, *, seen=[]):  # noqa: B006
        seen.append(1.0)
        return x * len(seen)

    return program, "seen", lambda: list(program.__kwdefaults__["seen"])


@holder
def buffer_that_is_replaced():
    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", dynarl.zeros(2))

        def forward(self, x):
            self.count = self.count + 1
            return x * self.count

    program = Program()
    return program, "count", lambda: program.count.tolist()


@holder
def buffer_through_its_array():
    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", dynarl.zeros(2))

        def forward(self, x):
            self.count.numpy()[0] += 1
            return x * self.count

    program = Program()
    return program, "count", lambda: program.count.tolist()


@holder
def dict_of_a_module():
    class Program(nn.Module):
        def forward(self, x):
            self.__dict__["n"] = self.__dict__.get("n", 0) + 1
            return x * self.n

    program = Program()
    return program, r"self\.n", lambda: "n" in vars(program)


@holder
def attribute_set_past_the_module():
    class Program(nn.Module):
        n = 0

        def forward(self, x):
            object.__setattr__(self, "n", self.n + 1)
            return x * self.n

    program = Program()
    return program, r"self\.n", lambda: program.n


@holder
def setattr_of_a_module():
    class Program(nn.Module):
        def forward(self, x):
            setattr(self, "seen_" + str(int(x.argmax())), True)
            return x

    program = Program()
    return program, "seen_", lambda: sorted(vars(program))


@holder
def hook_that_is_registered():
    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2).double()

        def forward(self, x):
            self.layer.register_forward_hook(lambda module, args, out: out * 2)
            return self.layer(x)

    program = Program()
    return program, "layer", lambda: program.layer._hooks is None


@holder
def requires_grad_of_a_parameter():
    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2).double()

        def forward(self, x):
            y = self.layer(x)
            self.layer.requires_grad_(False)
            return y

    program = Program()
    return program, "weight|bias", lambda: [p.requires_grad for p in program.parameters()]


@holder
def array_that_is_sorted():
    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.order = np.array([3.0, 1.0, 2.0])

        def forward(self, x):
            y = x * float(self.order[0])
            self.order[:2].sort()
            return y

    program = Program()
    return program, "order", lambda: program.order.tolist()


@holder
def result_written_into_an_array():
    total = np.zeros(2)

    def program(x):
        np.add(total, 1.0, out=total)
        return x * float(total[0])

    return program, "total", lambda: total.tolist()


@holder
def array_of_the_standard_library():
    numbers = array.array("d", [1.0, 2.0])

    def program(x):
        numbers[0] += 1.0
        return x * numbers[0]

    return program, "numbers", lambda: list(numbers)


@holder
def bytes_that_change():
    flags = bytearray(2)

    def program(x):
        flags[int(x.argmax())] = 1
        return x * sum(flags)

    return program, "flags", lambda: bytes(flags)


@holder
def simple_namespace():
    state = types.SimpleNamespace(n=0)

    def program(x):
        state.n += 1
        return x * state.n

    return program, r"state\.n", lambda: state.n


@holder
def namespace_of_arguments():
    options = argparse.Namespace(rate=1.0)

    def program(x):
        options.rate *= 0.5
        return x * options.rate

    return program, r"options\.rate", lambda: options.rate


@holder
def user_dict():
    memory = collections.UserDict(n=0)

    def program(x):
        memory["n"] += 1
        return x * memory["n"]

    return program, "memory", lambda: dict(memory)


@holder
def chain_of_maps():
    scopes = collections.ChainMap({"n": 0}, {"m": 1})

    def program(x):
        scopes["n"] += 1
        return x * scopes["n"]

    return program, "scopes", lambda: dict(scopes)


@holder
def list_with_attributes():
    class Trace(list):
        total = 0.0

    trace = Trace()

    def program(x):
        trace.total += 1.0
        return x * trace.total

    return program, "trace", lambda: trace.total


@holder
def variable_of_a_thread():
    local = threading.local()
    local.n = 0

    def program(x):
        local.n += 1
        return x * local.n

    return program, "local", lambda: local.n


@holder
def variable_of_a_context():
    depth = contextvars.ContextVar("depth", default=0)

    def program(x):
        depth.set(depth.get() + 1)
        return x * depth.get()

    return program, "depth", lambda: depth.get()


@holder
def function_that_is_replaced():
    def scale(x):
        return x * 2

    def program(x):
        nonlocal scale
        y = scale(x)
        scale = abs
        return y

    return program, "scale", lambda: scale


class Tally:
    """A callable object, and a class with methods of every kind."""

    total = 0

    def __init__(self):
        self._n = 0
        self.parts = [Slotted()]

    @property
    def n(self):
        return self._n

    @n.setter
    def n(self, value):
        self._n = value

    @classmethod
    def count(cls):
        cls.total += 1

    def act(self, x):
        self.n = self.n + 1
        return x * self.n

    def descend(self, x):
        self.parts[0].add()
        return x

    def by_class(self, x):
        self.count()
        return x * self.total


@holder
def object_of_a_bound_method():
    tally = Tally()
    return tally.act, r"self\._n of Tally|_n`? of Tally|_n", lambda: tally._n


@holder
def object_in_a_list_of_a_bound_method():
    tally = Tally()
    return tally.descend, r"parts\[0\]\.n", lambda: tally.parts[0].n


@holder
def class_by_a_class_method():
    return Tally().by_class, r"Tally\.total", lambda: Tally.total


class Countdown:
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return self

    def __next__(self):
        self.n -= 1
        return self.n


@holder
def iterator_of_a_class():
    numbers = Countdown(9)

    def program(x):
        return x * next(numbers)

    return program, "numbers", lambda: numbers.n


@holder
def iterator_behind_an_enumeration():
    items = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    numbers = iter(items)
    pairs = enumerate(numbers)

    def program(x):
        return x * next(pairs)[1]

    return program, "pairs|numbers", lambda: numbers.__reduce__()[2]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("build", HOLDERS.values(), ids=HOLDERS)
def test_a_change_is_refused_with_its_line_and_undone(build, mode):
    program, name, look = build()
    before = look()
    with pytest.raises(PerSampleError, match=r":\d+ in \w+") as caught:
        batched(program, mode=mode)(X)
    assert re.search(name, str(caught.value)), str(caught.value)
    assert look() == before
    with pytest.raises(PerSampleError):  # nor does it work the second time
        batched(program, mode=mode)(X)
    assert look() == before


@pytest.mark.parametrize("iterator", [itertools.count, lambda: (i for i in range(99))])
def test_what_cannot_be_undone_is_refused_all_the_same(iterator):
    numbers = iterator()

    def program(x):
        return x * next(numbers)

    with pytest.raises(PerSampleError, match=r"`numbers` .* could not be undone"):
        batched(program)(X)


# -- what is no change ------------------------------------------------------------------------------------------------

ALLOWED = {}


def allowed(build):
    """Collect a function that returns a program that changes nothing around it."""
    ALLOWED[build.__name__] = build
    return build


@allowed
def objects_that_the_program_makes():
    def program(x):
        trace, tally, seen = [], Tally(), collections.defaultdict(list)
        trace.append(1.0)
        tally.n = len(trace)
        tally.parts.append(trace)
        seen["n"].append(tally.n)
        return x * tally.n

    return program


@allowed
def modules_that_the_program_makes():
    class Scale(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def forward(self, x):
            return x * self.factor

    def program(x):
        scale = Scale(3.0)
        scale.factor = 4.0
        scale.eval()
        return scale(x)

    return program


@allowed
def caches_of_what_does_not_differ():
    class Table:
        @functools.cached_property
        def weights(self):
            return [1.0, 2.0]

    table = Table()

    @functools.lru_cache
    def power(n):
        return 2.0**n

    def program(x):
        return x * table.weights[1] * power(3)

    return program


@allowed
def the_same_value_again():
    state = types.SimpleNamespace(scale=2.0)

    def program(x):
        state.scale = float("2.0")
        return x * state.scale

    return program


@allowed
def a_mode_that_is_set_already():
    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            self.drop.eval()
            return self.drop(x) * 2

    return Program().eval()


@allowed
def plans_of_a_sequential():
    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2))

        def forward(self, x):
            return self.net(x)

    return Program().double()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("build", ALLOWED.values(), ids=ALLOWED)
def test_what_changes_nothing_outside_runs(build, mode):
    program = build()
    want = np.stack([program(dynarl.tensor(row)).detach().numpy() for row in X])
    run = batched(program, mode=mode)
    for _ in range(2):
        np.testing.assert_allclose(run(X).detach().numpy(), want)


# -- between calls ----------------------------------------------------------------------------------------------------


def test_the_caller_may_change_everything_between_calls():
    """The guard compares with what it finds at the beginning of each call, also in objects that are new since."""
    state = types.SimpleNamespace(scales=[2.0], grow=False)

    def program(x):
        if state.grow:
            state.scales.append(1.0)
        return x * state.scales[0]

    run = batched(program)
    np.testing.assert_allclose(run(X).numpy(), X * 2)
    state.scales = [3.0]
    np.testing.assert_allclose(run(X).numpy(), X * 3)
    state.grow = True
    with pytest.raises(PerSampleError, match=r"`state\.scales`"):
        run(X)
    assert state.scales == [3.0]
    state.grow = False
    state.scales[0] = 4.0
    np.testing.assert_allclose(run(X).numpy(), X * 4)


def test_an_error_of_the_program_goes_through_and_its_changes_do_not_stay():
    seen = []

    def program(x):
        seen.append(1)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        batched(program)(X)
    assert seen == []
    assert any("seen" in note and "undone" in note for note in caught.value.__notes__)


def test_objects_of_the_samples_are_their_own():
    def program(x, meter):
        meter["n"] += 1
        return x * meter["n"]

    meters = [{"n": i} for i in range(len(X))]
    got = batched(program)(X, ObjectBatch(meters)).numpy()
    np.testing.assert_allclose(got, X * np.arange(1, len(X) + 1)[:, None])
    assert [meter["n"] for meter in meters] == list(range(len(X)))


def test_the_guard_costs_little():
    """Two comparisons a call for a policy of ten Modules: 12 us on a quiet machine."""
    import time

    class Policy(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(2, 2) for _ in range(6)])
            self.net, self.head = nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 1)

        def forward(self, x):
            return self.head(self.net(self.layers[int(x.argmax())](x)))

    run = batched(Policy())
    run(X.astype(np.float32))
    guard, last = run.run._guard, run.run.last
    took = []
    for _ in range(200):
        start = time.perf_counter()
        guard.begin(last, [])
        guard.undo()
        took.append(time.perf_counter() - start)
    assert min(took) < 60e-6
