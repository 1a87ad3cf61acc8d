"""Going on from a saved state: to the bit where that is promised, with fresh episodes elsewhere."""

import json

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from dynarl.envs import action_layout, make
from dynarl.envs.exact_state import has_exact_state
from dynarl.ragged_rows import from_arrays, to_arrays

KNOWN = [env_id for env_id in gymnasium.registry if env_id.startswith("dynarl/")]
CLASSIC = ["CartPole-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1"]


def limited(env_id):
    return lambda: gymnasium.make(env_id, max_episode_steps=17)


def synced(mode, env_id="CartPole-v1"):
    return lambda: make(SyncVectorEnv([limited(env_id)] * 3, autoreset_mode=AutoresetMode[mode]), seed=4)


CASES = {
    **{env_id: (lambda env_id=env_id: make(env_id, 3, seed=4, vectorization="sync")) for env_id in CLASSIC + KNOWN},
    **{f"{env_id} short": (lambda env_id=env_id: make(limited(env_id), 3, seed=4)) for env_id in CLASSIC},
    "CartPole-v1 vector": lambda: make("CartPole-v1", 3, seed=4, vectorization="vector"),
    "CartPole-v1 gymnasium's vector": lambda: make(gymnasium.make_vec("CartPole-v1", 3), seed=4),
    "statistics wrapper": lambda: make(lambda: gymnasium.wrappers.RecordEpisodeStatistics(limited("Pendulum-v1")()), 2),
    **{f"SyncVectorEnv {mode}": synced(mode) for mode in AutoresetMode.__members__},
    "SyncVectorEnv Pendulum": synced("NEXT_STEP", "Pendulum-v1"),
}


def actions(envs, steps, seed):
    rng = np.random.default_rng(seed)
    space = envs.action_space
    shape, dtype = action_layout(space)
    for _ in range(steps):
        if envs.action_mask is not None:
            yield (envs.action_mask * rng.random(envs.action_mask.shape)).argmax(axis=1)
        elif isinstance(space, gymnasium.spaces.Box):
            yield rng.normal(size=(envs.num_envs, *shape)).astype(np.float32)
        else:
            yield rng.integers(0, 2, (envs.num_envs, *shape)).astype(dtype)


def trace(envs, steps, seed):
    out = [as_bytes(envs.obs), as_bytes(envs.episode_start)]
    for action in actions(envs, steps, seed):
        step = envs.step(action)
        out += [as_bytes(array) for array in (*step[:5], *step.info.values(), envs.obs, envs.episode_start)]
    return out


def as_bytes(array):
    if array.dtype == object:
        return [part.tobytes() for row in array for part in row.parts]
    return array.tobytes()


def through_files(value):
    """JSON for scalars, bytes for arrays, as a checkpoint does."""
    if isinstance(value, dict):
        return {key: through_files(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [through_files(item) for item in value]
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            return from_arrays(through_files(to_arrays(value)))
        return np.frombuffer(value.tobytes(), value.dtype).reshape(value.shape).copy()
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("cut", [0, 1, 16, 17, 18, 60])
@pytest.mark.parametrize("name", CASES)
def test_exact(name, cut):
    envs, resumed = CASES[name](), CASES[name]()
    assert envs.exact_state
    envs.reset()
    for action in actions(envs, cut, 1):
        envs.step(action)
    state = through_files(envs.state_dict())
    expected = trace(envs, 80, 2)
    resumed.load_state_dict(state)
    assert trace(resumed, 80, 2) == expected
    # A state can be taken and loaded again in environments that are under way.
    resumed.load_state_dict(state)
    again = resumed.state_dict()
    assert trace(resumed, 80, 2) == expected
    envs.load_state_dict(again)
    assert trace(envs, 80, 2) == expected


class Custom(gymnasium.Env):
    """Offers no state."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.uniform(-1, 1, 1).astype(np.float32), {}

    def step(self, action):
        return self.np_random.uniform(-1, 1, 1).astype(np.float32), 0.0, False, False, {}


def test_fresh_episodes_where_the_state_is_unknown():
    envs, resumed = make(Custom, 2), make(Custom, 2)
    assert not envs.exact_state
    first = envs.reset()
    envs.step(np.zeros(2, np.int64))
    state = envs.state_dict()
    assert "envs" not in state and not state["exact"]
    resumed.load_state_dict(state)
    assert resumed.episode_start.all()
    assert not np.array_equal(resumed.obs, first)
    np.testing.assert_array_equal(resumed.obs, envs.reset())  # the episode after


@pytest.mark.parametrize(("saved", "loaded"), [("sync", "vector"), ("vector", "sync")])
def test_fresh_episodes_where_the_form_is_another(saved, loaded):
    """A state of single environments cannot be given to a vector environment, nor the other way round."""
    envs, resumed = (make("CartPole-v1", 2, seed=4, vectorization=form) for form in (saved, loaded))
    envs.reset()
    envs.step(np.zeros(2, np.int64))
    resumed.load_state_dict(envs.state_dict())
    assert resumed.episode_start.all()
    np.testing.assert_array_equal(resumed.obs, envs.reset())  # the episodes after


def test_unknown_wrappers_and_subclasses_are_not_exact():
    class Windy(gymnasium.Wrapper):
        pass

    from gymnasium.envs.classic_control import CartPoleEnv

    class Changed(CartPoleEnv):
        pass

    assert has_exact_state(CartPoleEnv())
    assert not has_exact_state(Windy(CartPoleEnv()))
    assert not has_exact_state(Changed())
    assert not make(Windy(CartPoleEnv())).exact_state


@pytest.mark.parametrize("vectorization", ["sync", "vector"])
def test_another_number_of_environments(vectorization):
    envs = make("CartPole-v1", 2, vectorization=vectorization)
    envs.reset()
    with pytest.raises(ValueError, match="these are 3 environments, the state is of 2"):
        make("CartPole-v1", 3, vectorization=vectorization).load_state_dict(envs.state_dict())


@pytest.mark.parametrize("vectorization", ["sync", "vector"])
def test_before_the_first_reset(vectorization):
    envs = make("CartPole-v1", 2, vectorization=vectorization)
    with pytest.raises(RuntimeError, match="state_dict: the environments have no state yet"):
        envs.state_dict()
    with pytest.raises(RuntimeError, match=r"step: call reset\(\) before the first step"):
        envs.step(np.zeros(2, np.int64))
