"""`check` finds what is wrong with broken environments and nothing in good ones."""

import itertools

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from dynarl.envs.checker import check


class Good(gymnasium.Env):
    """A random walk of random length with nothing wrong; the broken ones change one thing."""

    metadata = {"render_modes": [], "render_fps": 30}

    def __init__(self):
        self.observation_space = spaces.Box(-10, 10, (2,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count, self.state = 0, self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.state.copy(), {}

    def step(self, action):
        self.count += 1
        self.state = np.clip(self.state + self.np_random.normal(size=2) * 0.3, -10, 10).astype(np.float32)
        ended = bool(self.np_random.random() < 0.1)
        return self.state.copy(), 1.0, ended, False, {}


def broken(**changes):
    """Make an environment whose step() or reset() results are changed by functions of the good ones."""

    class Broken(Good):
        def __init__(self):
            super().__init__()
            for name in ("observation_space", "action_space", "metadata", "render_mode"):
                if name in changes:
                    setattr(self, name, changes[name])

        def reset(self, *, seed=None, options=None):
            result = super().reset(seed=seed)
            return changes["reset"](self, seed, *result) if "reset" in changes else result

        def step(self, action):
            result = super().step(action)
            return changes["step"](self, *result) if "step" in changes else result

    return Broken


def names(env, **kwargs):
    return {(one.level, one.name) for one in check(env, show=False, **kwargs)}


def test_nothing_is_wrong_with_a_good_one(capsys):
    assert check(Good) == []
    assert capsys.readouterr().out == "Good: nothing found\n"
    assert not names("MountainCar-v0") and not names("dynarl/IdentityMultiDiscrete-v0")


def test_what_is_printed(capsys):
    findings = check(broken(step=lambda env, obs, *rest: (obs, *rest, "more")))
    assert str(findings[0]) in capsys.readouterr().out
    assert findings[0].what.startswith(
        "step() must return (obs, reward, terminated, truncated, info), got a tuple of 6"
    )
    assert "instead of done" in findings[0].fix
    with pytest.raises(AttributeError, match="mend is now called fix"):
        findings[0].mend  # noqa: B018


def flat(change):
    return lambda env, *result: change(*result)


def longer(env, obs, reward, terminated, truncated, info):
    """Five steps to an episode."""
    return obs, reward, env.count == 5, False, info


counter = itertools.count()
STEPS = {
    "obs shape": ("error", flat(lambda o, *rest: (o[:1], *rest))),
    "obs dtype": ("error", flat(lambda o, *rest: (o.astype(complex), *rest))),
    "obs not finite": ("error", flat(lambda o, *rest: (np.array([0, np.nan], np.float32), *rest))),
    "obs bounds": ("warning", flat(lambda o, *rest: (o + 20, *rest))),
    "obs type": ("warning", flat(lambda o, *rest: (o.tolist(), *rest))),
    "reward type": ("error", flat(lambda o, r, *rest: (o, np.ones(1), *rest))),
    "reward not finite": ("error", flat(lambda o, r, *rest: (o, np.inf, *rest))),
    "reward scale": ("hint", flat(lambda o, r, *rest: (o, 1e4, *rest))),
    "terminated type": ("error", flat(lambda o, r, t, u, i: (o, r, int(t), u, i))),
    "truncated type": ("error", flat(lambda o, r, t, u, i: (o, r, t, None, i))),
    "info type": ("error", flat(lambda o, r, t, u, i: (o, r, t, u, None))),
    "info keys": ("warning", flat(lambda o, r, t, u, i: (o, r, t, u, {1: 2}))),
    "action mask": ("error", flat(lambda o, r, t, u, i: (o, r, t, u, {"action_mask": [False, False]}))),
    "seed ignored": ("error", flat(lambda o, r, *rest: (o, float(next(counter)), *rest))),
    "limit terminates": ("warning", longer),
    "termination truncates": ("warning", flat(lambda o, r, t, u, i: (o, r, False, t, i))),
    "no end": ("hint", flat(lambda o, r, t, u, i: (o, r, False, False, i))),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_broken_step(name):
    level, change = STEPS[name]
    found = names(broken(step=change))
    assert (level, name) in found
    assert len(found) <= 2


def test_a_float64_observation_of_a_float32_space_is_a_warning():
    assert names(broken(step=flat(lambda o, *rest: (o.astype(float), *rest)))) == {("warning", "obs dtype")}


def test_resets():
    assert names(broken(reset=lambda env, seed, obs, info: obs)) == {("error", "reset result")}
    unseeded = np.random.default_rng()
    random = broken(reset=lambda env, seed, obs, info: (unseeded.uniform(-1, 1, 2).astype(np.float32), info))
    assert ("error", "seed ignored") in names(random)

    class Old(Good):
        def reset(self):
            return super().reset()

    assert names(Old) == {("error", "reset signature")}

    class Fixed(Good):
        def reset(self, *, seed=None, options=None):
            return super().reset(seed=7 if seed is None else seed)

    assert names(Fixed) == {("error", "same episode")}

    class Unpassed(Good):
        def reset(self, *, seed=None, options=None):
            return super().reset(seed=None if seed is None else seed + 1)

    assert names(Unpassed) == {("warning", "seed not passed on")}


def test_state_left_over_from_the_episode_before():
    class Leaking(Good):
        bonus = 0.0

        def step(self, action):
            self.bonus += 1.0
            obs, _, *rest = super().step(action)
            return (obs, self.bonus % 100, *rest)

    assert names(Leaking) == {("error", "seed ignored")}


def test_a_reused_observation():
    class Reusing(Good):
        def step(self, action):
            obs, *rest = super().step(action)
            self.buffer[:] = obs
            return (self.buffer, *rest)

        def reset(self, *, seed=None, options=None):
            obs, info = super().reset(seed=seed)
            self.buffer = obs
            return obs, info

    assert names(Reusing) == {("warning", "obs reused")}


def test_a_changed_action():
    class Changing(Good):
        def __init__(self):
            super().__init__()
            self.action_space = spaces.Box(-1, 1, (2,), np.float32)

        def step(self, action):
            action *= 2
            return super().step(0)

    assert names(Changing) == {("warning", "action changed")}


def test_a_time_limit_that_terminates():
    """The limit is known from the wrapper, and what ends there says it terminated."""

    class Limited(gymnasium.Wrapper):
        def step(self, action):
            obs, reward, terminated, truncated, info = self.env.step(action)
            return obs, reward, terminated or truncated, False, info

    endless = broken(step=flat(lambda o, r, t, u, i: (o, r, False, False, i)))
    inner = gymnasium.wrappers.TimeLimit(endless(), 20)
    assert names(Limited(inner)) == {("error", "limit terminates")}
    assert names(inner) == set()


SPACES = {
    "float64": ("hint", {"observation_space": spaces.Box(-10, 10, (2,), np.float64)}),
    "obs scale": ("hint", {"observation_space": spaces.Box(-np.inf, np.inf, (2,), np.float32)}),
    "image": ("warning", {"observation_space": spaces.Box(0, 255, (8, 8, 3), np.float32)}),
    "image channels": ("warning", {"observation_space": spaces.Box(0, 255, (64, 3, 64), np.uint8)}),
    "bounds": ("warning", {"observation_space": spaces.Box(np.array([0, 1]), np.array([1, 1]), dtype=np.float32)}),
    "unbounded actions": ("warning", {"action_space": spaces.Box(-np.inf, np.inf, (2,), np.float32)}),
    "action scale": ("hint", {"action_space": spaces.Box(0, 1, (2,), np.float32)}),
    "discrete start": ("hint", {"action_space": spaces.Discrete(2, start=1)}),
    "action space": ("error", {"action_space": spaces.Box(0, 9, (2,), np.int64)}),
    "observation space": ("error", {"observation_space": spaces.OneOf([spaces.Discrete(2)])}),
    "observation_space": ("error", {"observation_space": None}),
    "render modes": ("warning", {"metadata": {}}),
    "render fps": ("hint", {"metadata": {"render_modes": ["rgb_array"]}}),
}


@pytest.mark.parametrize("name", SPACES)
def test_spaces(name):
    level, change = SPACES[name]
    assert (level, name) in names(broken(**change))


def test_parts_of_an_observation_are_named():
    space = spaces.Dict({"a": spaces.Box(-10, 10, (2,), np.float32), "b": spaces.Discrete(3)})
    env = broken(
        observation_space=space,
        reset=lambda env, seed, obs, info: ({"a": obs, "b": 1}, info),
        step=flat(lambda o, *rest: ({"a": o + 20}, *rest)),
    )
    found = check(env, show=False)
    assert [one.name for one in found] == ["obs keys", "obs bounds"]
    assert "obs must have 'b'" in found[0].what and "obs['a'][0] = " in found[1].what


def test_vector_environments():
    good = gymnasium.make_vec("MountainCar-v0", 2, "sync")
    assert names(good) == set()

    class Silent(gymnasium.vector.SyncVectorEnv):
        metadata = {}

    silent = Silent([Good, Good])
    silent.metadata = {}
    assert names(silent) == {("error", "autoreset")}

    class Lossy(gymnasium.vector.SyncVectorEnv):
        def step(self, action):
            *result, infos = super().step(action)
            infos.pop("final_obs", None)
            return (*result, infos)

    lossy = Lossy([Good, Good], autoreset_mode=AutoresetMode.SAME_STEP)
    assert names(lossy) == {("error", "final obs")}

    class Unmasked(gymnasium.vector.SyncVectorEnv):
        def reset(self, *, seed=None, options=None):
            if options:
                raise ValueError("no options")
            return super().reset(seed=seed)

        def step(self, action):
            return super().step(action)

    unmasked = Unmasked([Good, Good], autoreset_mode=AutoresetMode.DISABLED)
    assert names(unmasked) == {("error", "reset mask")}


def test_what_is_no_environment():
    with pytest.raises(TypeError, match="check: must be a gymnasium environment, got int"):
        check(lambda: 3)


def test_an_environment_made_here_is_closed():
    closed = []

    class Closing(Good):
        def close(self):
            closed.append(self)

    check(Closing, show=False)
    check(Closing(), show=False)
    assert len(closed) == 1
