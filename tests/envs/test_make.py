"""From ids, callables and ready environments to Environments, and what is refused."""

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from dynarl.envs import SyncEnvironments, VectorEnvironments, make
from dynarl.envs.observations import observation_layout


def drive(envs, steps=60, seed=0):
    """Observations, rewards and flags under fixed random actions."""
    rng = np.random.default_rng(seed)
    out = [envs.reset().copy()]
    for _ in range(steps):
        space = envs.action_space
        shape = (envs.num_envs, *(space.shape or ()))
        action = rng.normal(size=shape).astype(np.float32) if hasattr(space, "low") else rng.integers(0, 2, shape)
        out.extend(envs.step(action)[:4])
        out.append(envs.obs.copy())
    envs.close()
    return out


@pytest.mark.parametrize(
    ("source", "num_envs", "kind"),
    [
        ("CartPole-v1", 3, VectorEnvironments),
        ("Pendulum-v1", 3, SyncEnvironments),
        (lambda: gymnasium.make("Pendulum-v1"), 3, SyncEnvironments),
        (lambda: gymnasium.make_vec("CartPole-v1", 3), None, VectorEnvironments),
        (lambda: CartPoleEnv(), None, SyncEnvironments),
    ],
)
def test_what_is_accepted(source, num_envs, kind):
    envs = make(source, num_envs, seed=1)
    assert type(envs) is kind
    assert envs.num_envs == (num_envs or envs.obs.shape[0])
    drive(envs, 5)


def test_ready_made_environments():
    single = make(gymnasium.make("Acrobot-v1"))
    assert single.num_envs == 1
    drive(single, 3)
    vector = make(gymnasium.make_vec("CartPole-v1", 4), 4)
    assert vector.num_envs == 4
    drive(vector, 3)


def test_env_kwargs_and_time_limit():
    for vectorization in ("sync", "vector"):
        envs = make("CartPole-v1", 1, vectorization=vectorization, env_kwargs={"max_episode_steps": 3})
        envs.reset()
        truncated = [bool(envs.step(np.array([i % 2])).truncated[0]) for i in range(6)]
        assert truncated == [False, False, True] * 2


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        ("os:CartPole-v1", {}, "env: must be an id without ':', got 'os:CartPole-v1': gymnasium imports"),
        ("CartPole-v1", {"num_envs": 0}, "num_envs: must be at least 1, got 0"),
        ("CartPole-v1", {"vectorization": "fast"}, "vectorization: must be one of"),
        ("Pendulum-v1", {"vectorization": "vector"}, "Pendulum-v1 has no registered vector form"),
        (CartPoleEnv(), {"num_envs": 2}, "num_envs: must be 1 for one existing environment, got 2; pass a callable"),
        (CartPoleEnv(), {"vectorization": "vector"}, "'vector' needs an env id or a VectorEnv"),
        (CartPoleEnv(), {"env_kwargs": {"a": 1}}, r"must be empty for an existing environment, got \['a'\]"),
        (
            gymnasium.make_vec("CartPole-v1", 2),
            {"num_envs": 3},
            "the VectorEnv has 2 environments, got num_envs=3",
        ),
        (gymnasium.make_vec("CartPole-v1", 2), {"vectorization": "sync"}, "'sync' steps single environments"),
        ("CartPole-v1", {"num_envs": 2, "env_ids": [1, 1]}, "env_ids: must be 2 distinct non-negative integers"),
        ("CartPole-v1", {"num_envs": 2, "env_ids": [1]}, "env_ids: must be 2 distinct non-negative integers"),
    ],
)
def test_refusals(source, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(source, **arguments)


def test_wrong_types():
    with pytest.raises(TypeError, match=r"env: must be an env id, a callable, a gymnasium.Env or .* got int"):
        make(3)
    with pytest.raises(TypeError, match=r"the callable must return a gymnasium.Env or VectorEnv, got int"):
        make(lambda: 3)
    one = CartPoleEnv()
    with pytest.raises(ValueError, match="envs: must be distinct objects, got one twice"):
        make(lambda: one, 2)
    with pytest.raises(gymnasium.error.NameNotFound):
        make("NoSuchEnv-v0")


def test_autoreset_wrapper_and_different_spaces():
    with pytest.raises(ValueError, match="has gymnasium's Autoreset wrapper, which hides where episodes end"):
        make(gymnasium.wrappers.Autoreset(CartPoleEnv()))
    with pytest.raises(ValueError, match=r"environment 1: observation_space .* differs from environment 0's"):
        SyncEnvironments([CartPoleEnv(), gymnasium.make("Acrobot-v1")])


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "dynarl/IdentityMultiDiscrete-v0"])
def test_episodes_do_not_depend_on_the_split(env_id):
    whole = make(env_id, 4, seed=3)
    parts = [make(env_id, 2, seed=3, env_ids=ids) for ids in ([0, 1], [2, 3])]
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(whole.reset(), np.concatenate([part.reset() for part in parts]))
    for _ in range(100):
        shape = (4, *(whole.action_space.shape or ()))
        action = rng.integers(0, 2, shape)
        action = action.astype(np.float32) if env_id == "Pendulum-v1" else action
        step = whole.step(action)
        halves = [part.step(action[2 * i : 2 * i + 2]) for i, part in enumerate(parts)]
        for k in range(5):
            np.testing.assert_array_equal(step[k], np.concatenate([half[k] for half in halves]))


def test_seeds_and_purposes_differ():
    starts = [make("CartPole-v1", 8, seed=s, purpose=p).reset() for s in (0, 1) for p in ("reset", "evaluation")]
    values = np.concatenate([start[:, 0] for start in starts])
    assert len(set(values.tolist())) == 32


def test_vector_cartpole_is_the_single_one():
    """Same seeds, same starts to the bit; same physics, time limit, rewards and ends."""
    kwargs = {"num_envs": 5, "seed": 7, "env_kwargs": {"max_episode_steps": 30}}
    runs = [drive(make("CartPole-v1", vectorization=kind, **kwargs), 200) for kind in ("sync", "vector")]
    np.testing.assert_array_equal(runs[0][0], runs[1][0])
    for one, other in zip(*runs):
        if one.dtype == np.bool_:
            np.testing.assert_array_equal(one, other)
        else:
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert sum(flags.sum() for flags in runs[0][3::5]) > 10, "some episodes were terminated"
    assert sum(flags.sum() for flags in runs[0][4::5]) > 10, "some episodes were truncated"


def test_gymnasiums_own_vector_cartpole_against_the_single_one():
    """Its time limit, dummy rows and last observations, replayed in the single environment."""
    num_envs, limit = 4, 25
    vector = gymnasium.make_vec("CartPole-v1", num_envs, max_episode_steps=limit)
    envs = make(vector, seed=0)
    envs.reset()
    singles = [gymnasium.make("CartPole-v1", max_episode_steps=limit) for _ in range(num_envs)]
    rng = np.random.default_rng(0)
    ends = np.zeros(2, int)
    for _ in range(150):
        for i in np.flatnonzero(envs.episode_start):
            singles[i].reset()
            singles[i].unwrapped.state = vector.state[:, i].copy()
        action = rng.integers(0, 2, num_envs)
        step = envs.step(action)
        for i in np.flatnonzero(step.valid):
            obs, reward, terminated, truncated, _ = singles[i].step(action[i])
            np.testing.assert_allclose(step.next_obs[i], obs, rtol=1e-5, atol=1e-6)
            assert (step.reward[i], step.terminated[i], step.truncated[i]) == (reward, terminated, truncated)
            ends += (terminated, truncated)
    assert (ends > 3).all()


@pytest.mark.parametrize("mode", [AutoresetMode.DISABLED, AutoresetMode.SAME_STEP])
def test_wrapped_vector_environments_are_the_single_ones(mode):
    functions = [lambda: gymnasium.make("CartPole-v1", max_episode_steps=12)] * 3
    envs = make(SyncVectorEnv(functions, autoreset_mode=mode), seed=5)
    single = make(lambda: gymnasium.make("CartPole-v1", max_episode_steps=12), 3, seed=5)
    # In SAME_STEP the first episodes alone have our seeds.
    steps = 100 if mode is AutoresetMode.DISABLED else 8
    for one, other in zip(drive(envs, steps), drive(single, steps)):
        np.testing.assert_array_equal(one, other)


# Python 3.12 and later warn when a process with threads (BLAS, say) forks.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("copy", [True, False])
def test_async_and_shared_buffers(copy):
    functions = [lambda: gymnasium.make("Pendulum-v1", max_episode_steps=4)] * 2
    vector = AsyncVectorEnv(functions, copy=copy, autoreset_mode=AutoresetMode.DISABLED)
    single = make(lambda: gymnasium.make("Pendulum-v1", max_episode_steps=4), 2, seed=5)
    for one, other in zip(drive(make(vector, seed=5), 12), drive(single, 12)):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_dict_observations_in_vector_environments(mode):
    class Dictionary(gymnasium.ObservationWrapper):
        def __init__(self, env):
            super().__init__(env)
            self.observation_space = gymnasium.spaces.Dict(
                {"state": env.observation_space, "sign": gymnasium.spaces.Discrete(2)}
            )

        def observation(self, obs):
            return {"state": obs, "sign": int(obs[0] > 0)}

    functions = [lambda: Dictionary(gymnasium.make("CartPole-v1", max_episode_steps=5))] * 2
    vector = make(SyncVectorEnv(functions, autoreset_mode=mode), seed=1)
    single = make(functions[0], 2, seed=1)
    assert observation_layout(vector.observation_space).shape == (6,)
    for one, other in zip(drive(vector, 4), drive(single, 4)):
        np.testing.assert_array_equal(one, other)


def test_missing_autoreset_mode():
    env = gymnasium.make_vec("CartPole-v1", 2)
    env.metadata = {}
    with pytest.raises(ValueError, match=r"must declare its autoreset mode, metadata\['autoreset_mode'\] is None"):
        make(env)


def test_same_step_without_final_obs():
    class Forgetful(gymnasium.vector.VectorWrapper):
        def step(self, actions):
            return (*super().step(actions)[:4], {})

    functions = [lambda: gymnasium.make("Pendulum-v1", max_episode_steps=1)]
    envs = make(Forgetful(SyncVectorEnv(functions, autoreset_mode=AutoresetMode.SAME_STEP)))
    envs.reset()
    with pytest.raises(ValueError, match=r"environment 0, step 0: infos\['final_obs'\] must have the last observation"):
        envs.step(np.zeros((1, 1), np.float32))


def test_nothing_of_a_dummy_row_is_believed():
    """Whatever a NEXT_STEP environment says in the step that resets."""

    class Noisy(gymnasium.vector.VectorWrapper):
        resetting = np.zeros(2, bool)

        def step(self, actions):
            obs, reward, terminated, truncated, info = super().step(actions)
            reward = np.where(self.resetting, np.nan, reward)
            out = terminated | self.resetting, truncated | self.resetting
            self.resetting = terminated | truncated
            return (obs, reward, *out, info)

    def functions():
        return [lambda: gymnasium.make("CartPole-v1", max_episode_steps=3)] * 2

    noisy, plain = (make(wrap(SyncVectorEnv(functions()))) for wrap in (Noisy, lambda env: env))
    for one, other in zip(drive(noisy, 20), drive(plain, 20)):
        np.testing.assert_array_equal(one, other)


def test_rows_that_were_not_reset_are_not_taken_from_the_reset():
    class Blank(gymnasium.vector.VectorWrapper):
        def reset(self, *, seed=None, options=None):
            mask = None if options is None else options["reset_mask"].copy()
            obs, info = super().reset(seed=seed, options=options)
            if mask is not None:
                obs[~mask] = np.nan
            return obs, info

    functions = [lambda: gymnasium.make("CartPole-v1", max_episode_steps=30)] * 3
    envs = [
        make(wrap(SyncVectorEnv(functions, autoreset_mode=AutoresetMode.DISABLED))) for wrap in (Blank, lambda e: e)
    ]
    blank, plain = (drive(e, 60) for e in envs)
    assert all(np.isfinite(array).all() for array in blank)
    for one, other in zip(blank, plain):
        np.testing.assert_array_equal(one, other)


def test_exceptions_of_vector_environments_say_where():
    envs = make("CartPole-v1", 2)
    envs.reset()
    with pytest.raises(AssertionError) as info:
        envs.step(np.array([0, 5]))
    assert info.value.__notes__ == ["in environments 0-1, step 0"]
