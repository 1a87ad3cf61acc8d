"""What environments and policies may not say, and how they are told."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from dynarl.envs import make


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
        ({"a": np.zeros(2)}, "step 0: obs does not fit its space: 'b'"),
        ({"a": np.zeros(1), "b": 0}, r"a part of the observation must have shape \(2,\), got \(1,\)"),
        ({"a": np.zeros(2), "b": 2}, "encode: values must lie in"),
    ]:
        env = Faulty2({"obs": bad}, space)
        env.count = 2
        envs = make(env)
        envs.reset()
        with pytest.raises(ValueError, match=message):
            envs.step(np.zeros((1, 1), np.float32))


def test_float64_observations_and_huge_numbers_are_fine():
    run({"obs": np.ones(2, np.float64)})
    run({"obs": np.full(2, 1e30, np.float32)})
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
