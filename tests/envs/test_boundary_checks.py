"""What environments and policies may not say, and how they are told."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from dynarl.envs import make
from dynarl.envs.bounds import stored_bounds


class Faulty(gymnasium.Env):
    """Right until step 2, then one thing wrong in the environment that is told so."""

    def __init__(self, fault=None, space=None):
        self.fault = fault or {}
        self.observation_space = space or spaces.Box(-10, 10, (2,), np.float32)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)
        self.count = 0

    def good(self):
        return np.zeros(self.observation_space.shape, self.observation_space.dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.fault.get("reset", self.good()), {}

    def step(self, action):
        out = {"obs": self.good(), "reward": 1.0, "terminated": False, "truncated": False}
        if self.count == 2:
            if "raise" in self.fault:
                raise RuntimeError("broken")
            out.update({k: v for k, v in self.fault.items() if k in out})
        self.count += 1
        return (*out.values(), {})


def run(fault, mode="single", space=None):
    made = iter([{}, fault, {}])
    if mode == "single":
        envs = make(lambda: Faulty(next(made), space), 3, env_ids=[10, 11, 12])
    else:
        functions = [lambda: Faulty(next(made), space)] * 3
        envs = make(SyncVectorEnv(functions, autoreset_mode=AutoresetMode[mode]), env_ids=[10, 11, 12])
    envs.reset()
    for _ in range(4):
        envs.step(np.zeros((3, 1), np.float32))


NAN = np.array([0, np.nan], np.float32)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            {"obs": NAN},
            r"environment 11, step 2: obs\[1\] must be finite, got nan \(episode 0, reset with seed \d+",
        ),
        (
            {"obs": np.array([np.inf, 0], np.float32)},
            r"environment 11, step 2: obs\[0\] must be finite, got inf",
        ),
        ({"reward": np.nan}, "environment 11, step 2: reward must be finite, got nan"),
        ({"reward": -np.inf}, "environment 11, step 2: reward must be finite, got -inf"),
        ({"reset": NAN}, r"environment 11, step 0: obs of reset\[1\] must be finite"),
    ],
)
@pytest.mark.parametrize("mode", ["single", "DISABLED", "SAME_STEP", "NEXT_STEP"])
def test_not_finite(mode, fault, message):
    with pytest.raises(ValueError, match=message):
        run(fault, mode)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            {"obs": np.zeros(3, np.float32)},
            r"environment 11, step 2: obs must have shape \(2,\) .*, got \(3,\)",
        ),
        (
            {"obs": np.zeros(1, np.float32)},
            r"environment 11, step 2: obs must have shape \(2,\) .*, got \(1,\)",
        ),
        (
            {"obs": np.zeros(2, np.complex64)},
            "environment 11, step 2: obs must have dtype float32, got complex64",
        ),
        ({"obs": None}, r"environment 11, step 2: obs must have shape \(2,\) .*, got \(\)"),
        ({"reset": np.zeros(3)}, r"environment 11, step 0, reset: obs must have shape \(2,\)"),
        ({"reward": None}, "environment 11, step 2: reward must be one number, got None"),
        ({"reward": "a"}, "environment 11, step 2: reward must be one number, got 'a'"),
        ({"reward": np.zeros(1)}, r"environment 11, step 2: reward must be one number, got array"),
        ({"terminated": 1}, "environment 11, step 2: terminated must be a bool, got 1"),
        ({"truncated": None}, "environment 11, step 2: truncated must be a bool, got None"),
    ],
)
def test_wrong_kind(fault, message):
    with pytest.raises(ValueError, match=message):
        run(fault)


def test_outside_a_discrete_space():
    with pytest.raises(ValueError, match=r"environment 11, step 2: obs must lie in Discrete\(3\), got 3"):
        run({"obs": 3}, space=spaces.Discrete(3))
    with pytest.raises(ValueError, match=r"environment 11, step 2: obs must have dtype int64, got float64"):
        run({"obs": 0.5}, space=spaces.Discrete(3))


def test_dict_observation_that_does_not_fit():
    space = spaces.Dict({"a": spaces.Box(-1, 1, (2,)), "b": spaces.Discrete(2)})
    good = {"a": np.zeros(2, np.float32), "b": 0}

    class Faulty2(Faulty):
        def good(self):
            return good

    for bad, message in [
        ({"a": np.zeros(2)}, r"step 0: obs does not fit its space: obs\['b'\] is missing, obs must lie in Dict"),
        ({"a": np.zeros(1), "b": 0}, r"obs\['a'\]: must have shape \(2,\), got \(1,\)"),
        ({"a": np.zeros(2), "b": 2}, r"obs\['b'\]: encode: values must lie in"),
    ]:
        env = Faulty2({"obs": bad}, space)
        env.count = 2
        envs = make(env)
        envs.reset()
        with pytest.raises(ValueError, match=message):
            envs.step(np.zeros((1, 1), np.float32))


def test_float64_observations_and_huge_numbers_are_fine():
    run({"obs": np.ones(2, np.float64)})
    run({"obs": np.full(2, 1e30, np.float32)}, space=spaces.Box(-np.inf, np.inf, (2,), np.float32))
    run({"obs": np.full(2, 6e4, np.float16)}, space=spaces.Box(-6.5e4, 6.5e4, (2,), np.float16))
    run({"reward": 10**200})
    run({"reward": np.float32(1)})


def test_an_environments_own_exception_says_where():
    with pytest.raises(RuntimeError, match="broken") as info:
        run({"raise": True})
    note = info.value.__notes__[0]
    assert note.startswith("in environment 11, step 2, episode 0, which was reset with seed ")


@pytest.mark.parametrize("vectorization", ["sync", "vector"])
def test_actions(vectorization):
    envs = make("CartPole-v1", 2, vectorization=vectorization)
    envs.reset()
    with pytest.raises(ValueError, match=r"step: actions must have shape \(2,\), got \(2, 1\)"):
        envs.step(np.zeros((2, 1), np.int64))
    with pytest.raises(ValueError, match="step: actions of this space must be integers, got dtype float32"):
        envs.step(np.zeros(2, np.float32))


def test_nan_actions():
    envs = make("Pendulum-v1", 2)
    envs.reset()
    with pytest.raises(ValueError, match=r"environment 1, step 0: action\[0\] must be finite, got nan"):
        envs.step(np.array([[0], [np.nan]], np.float32))


def test_vector_environment_of_wrong_kinds():
    class Wrong(gymnasium.vector.VectorWrapper):
        fault: dict = {}

        def step(self, actions):
            names = ("obs", "reward", "terminated", "truncated", "info")
            out = dict(zip(names, super().step(actions)))
            return tuple({**out, **self.fault}.values())

    for fault, message in [
        (
            {"reward": np.zeros(3)},
            r"environments 0-1, step 0: reward must be numbers of shape \(2,\), got float64",
        ),
        ({"reward": np.array([None, 1])}, "reward must be numbers .* got object"),
        ({"terminated": np.zeros(2)}, "step 0: terminated must be bool of shape .* got float64"),
        ({"truncated": np.zeros((2, 1), bool)}, r"truncated must be bool .* got bool of shape \(2, 1\)"),
        ({"obs": np.zeros((2, 5), np.float32)}, r"environments 0-1, step 0: obs must have shape \(2, 4\)"),
    ]:
        env = Wrong(gymnasium.make_vec("CartPole-v1", 2))
        env.fault = fault
        envs = make(env)
        envs.reset()
        with pytest.raises(ValueError, match=message):
            envs.step(np.zeros(2, np.int64))


NESTED = spaces.Dict(
    arm=spaces.Box(-1, 1, (2, 2), np.float32),
    more=spaces.Tuple((spaces.Discrete(3), spaces.MultiBinary(2))),
    word=spaces.Text(3),
)


def nested(**changes):
    good = {"arm": np.zeros((2, 2), np.float32), "more": (0, np.zeros(2, np.int8)), "word": "a"}
    return {**good, **changes}


OUTSIDE = [
    (spaces.Box(-1, 1, (3,), np.float32), np.zeros(3, np.float32), np.array([0, 5, 0], np.float32),
     r"obs\[1\] is 5.0, outside its space, which goes from -1.0 to 1.0"),
    (spaces.Box(0, 9, (2, 2), np.int32), np.zeros((2, 2), np.int32), np.array([[3, 3], [12, 0]], np.int32),
     r"obs\[1, 0\] is 12, outside its space, which goes from 0 to 9"),
    (NESTED, nested(), nested(arm=np.array([[0, 0], [-7, 0]], np.float32)), r"obs\['arm'\]\[1, 0\] is -7.0, outside"),
    (NESTED, nested(), nested(more=(0, np.array([0, 2], np.int8))), r"obs\['more'\]\[1\]\[1\] is 2.0, outside"),
]  # fmt: skip
MISFITS = [
    (nested(more=(3, np.zeros(2, np.int8))), r"obs\['more'\]\[0\]: encode: values must lie in"),
    (nested(word="abcd"), r"obs\['word'\]: a text must lie in Text"),
    (nested(arm=np.full((2, 2), np.nan, np.float32)), r"obs\['arm'\]\[0, 0\] must be finite, got nan"),
]


def in_second_of_two(space, good, bad, at, *, vector):
    """Two environments, the second with `bad` at its reset (`at` 0) or its second step (`at` 2)."""

    class One(gymnasium.Env):
        action_space = spaces.Discrete(2)
        observation_space = space

        def __init__(self, fault):
            self.fault = fault

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.at = 0
            return (bad if self.fault and at == 0 else good), {}

        def step(self, action):
            self.at += 1
            return (bad if self.fault and self.at == at else good), 0.0, False, False, {}

    faults = iter([False, True] * 3)
    make_one = lambda: One(next(faults))  # noqa: E731
    envs = make(SyncVectorEnv([make_one] * 2)) if vector else make(make_one, 2, vectorization="sync")
    envs.reset()
    for _ in range(4):
        envs.step(np.zeros(2, np.int64))


@pytest.mark.parametrize("vector", [False, True])
@pytest.mark.parametrize("at", [0, 2])
@pytest.mark.parametrize(("space", "good", "bad", "message"), OUTSIDE)
def test_numbers_outside_their_space_are_named_once(space, good, bad, message, at, vector):
    with pytest.warns(UserWarning, match=f"environment 1, step {max(at - 1, 0)}: {message}") as said:
        in_second_of_two(space, good, bad, at, vector=vector)
    assert len([w for w in said if "outside its space" in str(w.message)]) == 1


@pytest.mark.parametrize("vector", [False, True])
@pytest.mark.parametrize(("bad", "message"), MISFITS)
def test_a_part_that_does_not_fit_is_named(bad, message, vector):
    with pytest.raises(ValueError, match=rf"environment 1, step 1: (obs does not fit its space: )?{message}"):
        in_second_of_two(NESTED, nested(), bad, 2, vector=vector)


def test_no_bounds_no_looking():
    for space in (spaces.Box(-np.inf, np.inf, (3,)), spaces.Box(0, 255, (4, 4, 3), np.uint8), spaces.Discrete(3)):
        assert stored_bounds(space) is None
    parts = {"a": spaces.Discrete(2), "b": spaces.Box(0, 255, (1,), np.uint8), "c": spaces.Text(1)}
    assert stored_bounds(spaces.Dict(parts)) is None
