"""What batching cannot follow is refused, with the user's line; nothing hangs and nothing is silently wrong."""

import itertools
import random
import sys
import threading
import traceback
from pathlib import Path

import numpy as np
import pytest

import dynarl
from dynarl import nn
from dynarl.batching import PerSampleError, Ragged, batched, per_sample

X = np.array([[1.0, 2.0], [-1.0, 0.5], [0.3, -0.2], [-2.0, 4.0]], np.float32)


BATCHED = batched
SPLITS = (
    "replay", "swallowed", "runaway", "no_groups", "name_the_samples", "keep_their_line", "whole_batch",
    "masks_as_index", "backward_inside", "raw_arrays", "weights_of_a_sample", "one_hot_needs", "looked_at",
    "state_on_a_module", "outlives", "another_branch",
)  # fmt: skip
"""Tests, by a part of their names, of what happens only where samples run together."""


@pytest.fixture(autouse=True, params=["eager", "lockstep", "loop"])
def every_mode(request, monkeypatch):
    """Let `batched` of this file mean each mode in turn, where a test names none."""
    mode = request.param
    if mode == "loop" and any(part in request.node.name for part in SPLITS):
        pytest.skip("samples run one by one")
    monkeypatch.setattr(sys.modules[__name__], "batched", lambda f, **options: BATCHED(f, **{"mode": mode, **options}))


def line_with(text):
    """The line of this file that holds a text first."""
    with Path(__file__).open() as source:
        return next(i for i, line in enumerate(source, 1) if text in line and "line_with" not in line)


def test_python_randomness_is_traced_to_its_line():
    def program(x):
        y = x * 2
        noise = random.random()  # draws for Python
        return y + noise

    with pytest.raises(
        PerSampleError, match=f"test_errors.py:{line_with('# draws for Python')} in program, one draw for all"
    ):
        batched(program)(X)


def test_numpy_randomness_is_traced_to_its_line():
    def inner(x):
        return x + float(np.random.rand())  # draws for NumPy

    def program(x):
        return inner(x) if x[0] > 0 else x

    with pytest.raises(PerSampleError, match=f"test_errors.py:{line_with('# draws for NumPy')} in inner"):
        batched(program)(X)


RNG, STREAM = np.random.default_rng(0), random.Random(0)


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(0)

    def forward(self, x):
        return x + self.rng.random()  # draws for a Module


def draws_globally(x):
    def inner():
        return RNG.normal() + STREAM.random()  # draws for a global

    return x * inner()


@pytest.mark.parametrize(
    ("program", "line"), [(Noisy(), "# draws for a Module"), (draws_globally, "# draws for a global")]
)
def test_generators_are_traced_to_their_line(program, line):
    with pytest.raises(PerSampleError, match=rf"test_errors.py:{line_with(line)} in \w+, one draw for all"):
        batched(program)(X)


@pytest.mark.parametrize(
    "draw", [lambda: dynarl.randn(2, generator=dynarl.Generator()), lambda: dynarl.zeros(2).uniform_()]
)
def test_draws_of_a_generator_of_the_engine(draw):
    with pytest.raises(
        RuntimeError, match=r"generator \(used at .*test_errors.py:\d+ in .*\) would give all samples the same"
    ):
        batched(lambda x: x + draw())(X)


def test_draws_that_are_refused():
    with pytest.raises(PerSampleError, match="randperm: not offered inside a per-sample program"):
        batched(lambda x: x[dynarl.randperm(2)])(X)


def test_state_on_a_module():
    class Keeps(nn.Module):
        def forward(self, x):
            self.last = x * 2
            return x

    with pytest.raises(RuntimeError, match=r"Keeps\.last: a per-sample tensor cannot be stored on a Module"):
        batched(Keeps())(X)


@pytest.mark.usefixtures("unguarded")
def test_a_tensor_that_outlives_its_call():
    kept = []

    def program(x):
        kept.append(x * 2)
        return x

    batched(program)(X)
    with pytest.raises(PerSampleError, match="used after its call had ended"):
        kept[0] + 1
    with pytest.raises(PerSampleError, match="read after its call had ended"):
        float(kept[0])
    with pytest.raises(PerSampleError, match="outside the call or the branch"):
        batched(lambda x: x + kept[0])(X)


@pytest.mark.usefixtures("unguarded")
def test_a_tensor_of_another_branch():
    seen = []

    def program(x):
        if x[0] > 0:
            seen.append(x * 1)
            return x
        return x + seen[0] if seen else x

    with pytest.raises(PerSampleError, match="outside the call or the branch"):
        batched(program)(X)


@pytest.mark.usefixtures("unguarded")
def test_nondeterministic_replay():
    clock = itertools.count()

    def program(x):
        y = x.tanh() if next(clock) == 0 else x.exp()
        if x[0] > 0:
            return y
        return y * 2

    with pytest.raises(
        PerSampleError, match=r"did not repeat itself: .* exp came at .*test_errors.py:\d+ in program where tanh"
    ):
        batched(program)(X)


@pytest.mark.usefixtures("unguarded")
def test_a_program_that_ends_before_its_replay():
    clock = itertools.count()

    def program(x):
        if next(clock) > 0:
            return x
        if x[0] > 0:
            return x
        return x * 2

    with pytest.raises(PerSampleError, match="did not repeat itself"):
        batched(program)(X)


@pytest.mark.usefixtures("unguarded")
def test_an_engine_error_cannot_be_swallowed():
    clock = itertools.count()

    def program(x):
        try:
            y = x.tanh() if next(clock) == 0 else x.exp()
        except RuntimeError:
            y = x
        if x[0] > 0:
            return y
        return y * 2

    with pytest.raises(PerSampleError, match="did not repeat itself"):
        batched(program)(X)


def test_runaway_splitting_names_the_line():
    def program(x):
        for _ in range(50):
            x = x * {}.get(float(x[0]), 0.5)  # a path for every sample
        return x

    rng = np.random.default_rng(0)
    with pytest.raises(
        PerSampleError, match=f"max_groups=20 groups, most often at .*:{line_with('# a path for every')} in program"
    ):
        batched(program, max_groups=20)(rng.standard_normal((64, 2)))


def test_calls_of_modules_are_no_groups():
    class Twice(nn.Module):
        def forward(self, x):
            return x * 2 if x[0] > 0 else x

    twice = Twice()

    def program(x):
        for _ in range(30):
            x = twice(x) * 0.5
        return x

    call = batched(program, max_groups=200)
    call(X)
    assert call.last.groups <= 60


@pytest.mark.parametrize("inside", ["operation", "module"])
def test_endless_loops(inside):
    class Step(nn.Module):
        def forward(self, x):
            return x * 0.5

    step = Step()

    def program(x):
        while True:
            x = x * 0.5 if inside == "operation" else step(x)

    with pytest.raises(
        PerSampleError,
        match=r"max_steps=500 operations .* stands at .*test_errors.py:\d+ in .*a loop that does not end",
    ):
        batched(program, max_steps=500)(X)


def test_structures_that_differ():
    with pytest.raises(PerSampleError, match="different structures on different paths"):
        batched(lambda x: (x, x) if x[0] > 0 else x)(X)


def test_shapes_that_differ():
    with pytest.raises(PerSampleError, match=r"different shapes \[\(1,\), \(2,\)\]"):
        batched(lambda x: x if x[0] > 0 else x[:1])(X)


def test_shapes_that_differ_only_in_between():
    def program(x):
        if x[0] > 0:
            y = x
        else:
            y = x[:1]
        return y.sum()

    np.testing.assert_allclose(batched(program)(X).array, [3.0, -1.0, 0.1, -2.0], rtol=1e-6)


@pytest.mark.parametrize("view", [lambda b: b, lambda b: b[:, :1], lambda b: b.reshape(4, 1, 2), lambda b: b[:, None]])
@pytest.mark.parametrize("array", [True, False])
def test_the_whole_batch_beside_a_sample(array, view):
    batch = X if array else dynarl.tensor(X)
    other = view(batch)

    def program(x):
        return x + other  # the whole batch

    with pytest.raises(
        PerSampleError, match=f"add: the whole batch is used .*:{line_with('# the whole batch')} in program"
    ):
        batched(program)(batch)


def test_one_row_of_the_batch_is_a_constant_like_others():
    batch = dynarl.tensor(X)
    np.testing.assert_allclose(batched(lambda x: x - batch[0])(batch).array, X - X[0])
    table = dynarl.tensor(np.arange(12.0).reshape(6, 2))
    rows = batched(lambda x: (x + table).sum())(table[1:5])
    np.testing.assert_allclose(rows.array, (table.array[1:5, None] + table.array).sum((1, 2)))


def test_masks_as_index():
    with pytest.raises(PerSampleError, match=r"a mask would give each sample another shape; use where\(\)"):
        batched(lambda x: x[x > 0])(X)


def test_backward_inside():
    with pytest.raises(PerSampleError, match="backward: call it outside"):
        batched(lambda x: x.sum().backward())(X)


def test_raw_arrays():
    with pytest.raises(PerSampleError, match="reads a tensor's raw array"):
        batched(lambda x: np.sum(x.array))(X)


def test_weights_of_a_sample():
    with pytest.raises(PerSampleError, match="weights must be shared; use matmul"):
        batched(lambda x, w: nn.functional.linear(x, w))(X, np.zeros((4, 3, 2), np.float32))


def test_one_hot_needs_its_classes():
    with pytest.raises(ValueError, match="num_classes must be given"):
        batched(lambda k: nn.functional.one_hot(k))(np.arange(4))


def test_options():
    with pytest.raises(ValueError, match="mode must be one of"):
        batched(lambda x: x, mode="fast")
    with pytest.raises(ValueError, match="max_groups must be at least 1, got 0"):
        batched(lambda x: x, max_groups=0)


def test_arguments():
    with pytest.raises(ValueError, match="at least one argument must be a tensor"):
        batched(lambda x: x)(3)
    with pytest.raises(ValueError, match="the same leading axis of N samples"):
        batched(lambda x, y: x)(X, X[:2])
    with pytest.raises(ValueError, match="needs at least one sample"):
        batched(lambda x: x)(X[:0])
    with pytest.raises(ValueError, match="Ragged: needs at least one sequence"):
        Ragged([])
    with pytest.raises(ValueError, match="one element shape"):
        Ragged([np.zeros((2, 3)), np.zeros((2, 4))])
    with pytest.raises(ValueError, match="Ragged: lengths add up to 3 elements, got 4"):
        Ragged.packed(np.zeros((4, 2)), [1, 2])


def test_beyond_the_end_of_a_sequence():
    with pytest.raises(IndexError, match="beyond the end"):
        batched(lambda s: s[2])(Ragged([np.zeros((3, 2)), np.zeros((1, 2))]))


def test_errors_stand_on_the_program_s_line_and_name_the_samples():
    layer = nn.Linear(3, 1)

    def program(x):
        if x[0] > 0:
            return layer(x)  # wrong size
        return x[:1]

    with pytest.raises(ValueError, match="weight") as caught:
        batched(program)(X)
    frames = traceback.extract_tb(caught.value.__traceback__)
    mine = [frame for frame in frames if frame.filename == __file__]
    assert mine[-1].lineno == line_with("# wrong size")
    assert "for samples 0, 2 of the batch" in caught.value.__notes__[0]


def test_errors_inside_modules_keep_their_line():
    class Fails(nn.Module):
        def forward(self, x):
            if x[0] < 0:
                raise KeyError("no such thing")  # raised inside
            return x

    fails = Fails()
    with pytest.raises(KeyError, match="no such thing") as caught:
        batched(lambda x: fails(x) * 2)(X)
    mine = [f for f in traceback.extract_tb(caught.value.__traceback__) if f.filename == __file__]
    assert mine[-1].lineno == line_with("# raised inside")
    assert "for samples 1, 3 of the batch" in caught.value.__notes__[0]


def test_an_exception_caught_by_the_caller_is_for_its_samples_alone():
    @per_sample
    def root(x):
        if x[0] < 0:
            raise ValueError("negative")
        return x[0] ** 0.5

    def program(x):
        try:
            return root(x)
        except ValueError:
            return x[1]

    expected = [1.0, 0.5, 0.3**0.5, 4.0]
    for mode in ("auto", "loop"):
        np.testing.assert_allclose(batched(program, mode=mode)(X).array, expected, rtol=1e-6)


def test_a_list_changed_by_a_scope():
    @per_sample
    def push(stack, x):
        if x[0] > 0:
            stack.append(x * 2)
        stack.append(x)

    def program(x):
        stack = []
        push(stack, x)
        push(stack, x + 1)
        return dynarl.stack(stack).sum() * len(stack)

    expected = batched(program, mode="loop")(X).array
    np.testing.assert_allclose(batched(program)(X).array, expected, rtol=1e-6)


def test_arguments_that_a_path_changes():
    def program(items):
        first = items.pop()
        if first[0] > 0:
            items.append(first * 2)
        return sum(item.sum() for item in items)

    expected = batched(program, mode="loop")([X, X + 1]).array
    np.testing.assert_allclose(batched(program)([X, X + 1]).array, expected, rtol=1e-6)


def test_debuggers_see_the_program_s_frames():
    seen = []

    def watch(frame, event, argument):
        if frame.f_code.co_name == "program" and event == "line":
            seen.append((frame.f_code.co_filename, frame.f_lineno, "y" in frame.f_locals))
        return watch

    def program(x):
        y = x * 2
        return y.sum()  # watched

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        batched(program)(X)
    finally:
        sys.settrace(before)
    assert (__file__, line_with("# watched"), True) in seen


@pytest.mark.usefixtures("unguarded")
def test_samples_can_be_looked_at():
    shown = []

    def program(x):
        if x[0] > 0:
            shown.append((repr(x), x.sample(2)))
            with pytest.raises(IndexError, match="sample: 1 is not in this group"):
                (x * 1).sample(1)
        return x

    batched(program)(X)
    np.testing.assert_array_equal(shown[0][1], X[2])
    assert shown[0][0].startswith("per-sample tensor of samples [0")


def test_other_threads():
    found = []

    def work():
        found.append(batched(lambda x: x.softmax(-1) if x[0] > 0 else x)(X).array)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    np.testing.assert_allclose(found[0], batched(lambda x: x.softmax(-1) if x[0] > 0 else x)(X).array)


def test_renamed_names_are_refused_with_the_new_one():
    with pytest.raises(ValueError, match="mode 'merge' is now called 'lockstep'"):
        batched(lambda x: x, mode="merge")
    with pytest.raises(TypeError, match="'max_cohorts'; max_cohorts is now called max_groups"):
        batched(lambda x: x, max_cohorts=9)
    with pytest.raises(TypeError, match="batched: unknown option 'depth'"):
        batched(lambda x: x, depth=9)
    with pytest.raises(AttributeError, match=r"dynarl\.Each is now called dynarl\.ObjectBatch"):
        dynarl.Each  # noqa: B018
    with pytest.raises(AttributeError, match=r"dynarl\.batching\.Recorder is now called .*\.DecisionRecorder"):
        dynarl.batching.Recorder  # noqa: B018
    with pytest.raises(AttributeError, match="has no attribute 'Reader'"):
        dynarl.batching.Reader  # noqa: B018
