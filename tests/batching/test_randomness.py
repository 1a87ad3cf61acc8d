"""Random numbers and clocks, however a program reaches them: each sample's own, or refused by line."""

import datetime
import functools
import inspect
import random
import re
import secrets
import time
import types
import uuid
from functools import partial
from random import gauss as draw_a_number
from random import shuffle
from timeit import default_timer

import gymnasium
import numpy as np
import pytest
from numpy.random import rand as uniform

import dynarl
from dynarl import nn
from dynarl.autograd.random import default_generator
from dynarl.batching import PerSampleError, batched
from tests.helpers.plain_reference import MODES, X

SOURCES = {}
SECRETS = random.SystemRandom()
SEEDS = np.random.SeedSequence(3)


def source(build):
    """Collect a function that returns a program that draws one number for all samples."""
    SOURCES[build.__name__] = build
    return build


@source
def function_of_python_by_another_name():
    return lambda x: x + draw_a_number(0, 1)


@source
def function_of_numpy_by_another_name():
    return lambda x: x + float(uniform())


@source
def shuffle_of_an_argument():
    def program(x):
        order = [0, 1]
        shuffle(order)
        return x[order[0]]

    return program


@source
def method_that_is_bound():
    draw = np.random.default_rng(0).standard_normal
    return lambda x: x + float(draw())


@source
def method_of_python_that_is_bound():
    draw = random.Random(0).random
    return lambda x: x + draw()


@source
def method_in_a_table():
    rng = np.random.default_rng(0)
    table = {"noise": rng.normal, "none": lambda: 0.0}
    return lambda x: x + float(table["noise" if x[0] > 0 else "none"]())


@source
def legacy_generator():
    rng = np.random.RandomState(0)
    return lambda x: x + float(rng.randn())


@source
def bits_of_a_generator():
    bits = np.random.PCG64(0)
    return lambda x: x + float(bits.random_raw() % 7)


@source
def children_of_a_sequence_of_seeds():
    def program(x):
        (seed,) = SEEDS.spawn(1)
        return x + np.random.default_rng(seed).random()

    return program


@source
def children_of_a_generator():
    rng = np.random.default_rng(0)
    return lambda x: x + rng.spawn(1)[0].random()


@source
def partial_of_a_draw():
    draw = partial(np.random.default_rng(0).normal, 0.0, 1.0)
    return lambda x: x + float(draw())


@source
def noise_in_a_module_of_a_list():
    class Noise(nn.Module):
        def __init__(self):
            super().__init__()
            self.state = types.SimpleNamespace(rng=np.random.default_rng(0))

        def forward(self, x):
            return x + self.state.rng.random()

    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList([Noise(), Noise()])

        def forward(self, x):
            for part in self.parts:
                x = part(x)
            return x

    return Program()


class Exploring:
    rng = np.random.default_rng(0)

    @property
    def noise(self):
        return float(self.rng.random())

    @classmethod
    def draw(cls):
        return float(cls.rng.random())

    @functools.cached_property
    def own(self):
        return np.random.default_rng(1)


@source
def property_that_draws():
    exploring = Exploring()
    return lambda x: x + exploring.noise


@source
def class_method_that_draws():
    return lambda x: x + Exploring.draw()


@source
def generator_that_is_cached():
    exploring = Exploring()
    return lambda x: x + exploring.own.random()


@source
def space_that_samples():
    space = gymnasium.spaces.Box(-1, 1, (2,), np.float64)

    def program(x):
        return x + dynarl.tensor(space.sample())

    return program


@source
def space_with_a_seed():
    space = gymnasium.spaces.Discrete(5, seed=3)
    return lambda x: x + int(space.sample())


@source
def default_generator_of_the_engine():
    return lambda x: x + default_generator.numpy.random()


@source
def bound_method_of_the_system():
    return lambda x: x + SECRETS.random()


@source
def choice_of_secrets():
    from secrets import randbelow

    return lambda x: x + randbelow(999)


@source
def token_of_secrets():
    return lambda x: x + secrets.token_bytes(1)[0] / 7


@source
def identifier_by_time():
    return lambda x: x + uuid.uuid1().int % 97


@source
def import_inside():
    def program(x):
        import random as chance

        return x + chance.random()

    return program


@source
def import_of_a_function_inside():
    def program(x):
        from os import urandom

        return x + urandom(1)[0]

    return program


@source
def generator_without_a_seed_in_a_helper():
    def jitter(scale):
        return scale * np.random.default_rng(None).random()

    def program(x):
        y = x
        if x[0] > 0:
            y = x + jitter(2.0)
        return y

    return program


@source
def generator_of_entropy():
    return lambda x: x + np.random.Generator(np.random.PCG64()).random()


@source
def seed_of_the_clock():
    def program(x):
        rng = random.Random(time.time_ns())
        return x + rng.random()

    return program


@source
def timer_by_another_name():
    return lambda x: x + default_timer()


@source
def date_of_now():
    return lambda x: x + datetime.datetime.now().microsecond


@source
def attribute_that_is_set_later():
    state = types.SimpleNamespace(draw=None)

    def program(x):
        return x + float(state.draw())

    state.draw = np.random.default_rng(0).random
    return program


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("build", SOURCES.values(), ids=SOURCES)
def test_one_draw_for_all_is_refused_with_its_line(build, mode):
    first = build.__code__.co_firstlineno
    with pytest.raises(PerSampleError, match=r"drew|does not repeat itself|changes") as caught:
        batched(build(), mode=mode)(X)
    lines = [int(n) for n in re.findall(r"test_randomness\.py:(\d+)", str(caught.value))]
    helpers = inspect.getsourcelines(Exploring)[1]
    assert lines, str(caught.value)
    assert first <= lines[0] <= first + 20 or helpers <= lines[0] < helpers + 20, str(caught.value)


@pytest.mark.parametrize("mode", MODES)
def test_a_generator_given_to_a_program_that_worked_is_seen(mode):
    class Program(nn.Module):
        rng = None

        def forward(self, x):
            return x if self.rng is None else x + self.rng.random()

    program = Program()
    run = batched(program, mode=mode)
    run(X)
    program.rng = np.random.default_rng(0)
    before = program.rng.bit_generator.state
    with pytest.raises(PerSampleError, match=r"\(`self\.rng` of Program\)"):
        run(X)
    assert program.rng.bit_generator.state == before  # the draw was undone


@pytest.mark.parametrize("mode", MODES)
def test_a_clock_that_is_only_logged_is_allowed(mode, capsys):
    def program(x):
        start = time.perf_counter()
        y = x * 2
        print("took", time.perf_counter() - start >= 0)
        return y

    run = batched(program, mode=mode)
    for _ in range(3):
        np.testing.assert_array_equal(run(X).numpy(), X * 2)
    assert "took True" in capsys.readouterr().out


@pytest.mark.parametrize("mode", ["eager", "auto", "lockstep"])
def test_a_clock_on_a_path_that_comes_later_is_found(mode):
    def program(x):
        y = x
        if x[0] > 100:
            y = x + time.perf_counter()  # here
        return y

    run = batched(program, mode=mode)
    for _ in range(12):
        run(X)
    with pytest.raises(PerSampleError, match=r"does not repeat itself.*reads a clock at .*test_randomness\.py"):
        run(np.concatenate([X, [[200.0, 1.0]]]))


@pytest.mark.parametrize("mode", MODES)
def test_seeded_generators_of_the_program_are_plain_python(mode):
    def program(x):
        numbers = [random.Random(3).random(), np.random.default_rng(int(x.argmax())).random()]
        random.Random(1).shuffle(numbers)
        return x * numbers[0] + numbers[1]

    want = np.stack([program(dynarl.tensor(row)).numpy() for row in X])
    np.testing.assert_allclose(batched(program, mode=mode)(X).numpy(), want)


def test_draws_of_every_mode_are_those_of_plain_python():
    """Per-sample draws are keyed by seed and sample: a run of one sample alone has the same."""

    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)
            self.prior = nn.Parameter(dynarl.tensor(np.log([0.5, 0.3, 0.2])))

        def forward(self, x):
            k = dynarl.distributions.Categorical(logits=self.prior).sample()  # of a tensor that all samples share
            y = self.drop(x) * dynarl.rand(2, dtype=x.dtype) + dynarl.randn_like(x)
            if dynarl.bernoulli(x.sigmoid())[0] > 0:
                y = y + dynarl.normal(x, 0.1) + k
            return y, dynarl.distributions.Categorical(logits=x).sample(), k

    outputs = []
    for mode in MODES:
        dynarl.manual_seed(5)
        outputs.append([out.detach().numpy() for out in batched(Program(), mode=mode)(np.tile(X, (5, 1)))])
    for other in outputs[1:]:
        for got, want in zip(other, outputs[0]):
            np.testing.assert_allclose(got, want, rtol=1e-6)
    assert len(np.unique(outputs[0][2])) > 1  # a draw for each sample
