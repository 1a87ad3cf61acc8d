"""Values of NumPy are values, numbers that are not numbers stop, and wrong calls say what must be given."""

import pickle

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from dynarl.agents import DQN, PPO, SAC
from dynarl.callbacks import Callback, CheckpointCallback
from dynarl.envs import make

SMALL = {"num_envs": 2, "num_steps": 16, "batch_size": 16, "num_epochs": 1}
REPLAY = {"num_envs": 2, "learning_starts": 16, "buffer_size": 500, "batch_size": 8}
AGENTS = {
    "ppo": (PPO, "CartPole-v1", SMALL),
    "dqn": (DQN, "CartPole-v1", REPLAY),
    "sac": (SAC, "Pendulum-v1", {**REPLAY, "hidden_sizes": (8,)}),
}
BY_NAME = pytest.mark.parametrize("name", AGENTS)


def an_agent(name, **settings):
    agent_class, env, base = AGENTS[name]
    return agent_class(env, **{**base, **settings})


class Toy(gymnasium.Env):
    observation_space, action_space = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(3)
    result = staticmethod(lambda result: result)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.got = action
        return self.result((np.zeros(2, np.float32), 1.0, False, bool(self.np_random.random() < 0.1), {}))


@BY_NAME
def test_numpy_false_ends_training(name):
    for given in ({"callbacks": lambda agent, metrics: np.False_}, {"on_iteration": lambda metrics: np.bool_(0)}):
        assert an_agent(name).learn(2000, **given).iteration == 1
    assert an_agent(name).learn(64, callbacks=lambda agent, metrics: np.True_).env_steps >= 64
    assert an_agent(name).learn(64, callbacks=lambda agent, metrics: 0).env_steps >= 64


@BY_NAME
def test_numpy_scalars_are_settings(name, tmp_path):
    settings = {"batch_size": np.int64(16), "learning_rate": np.float32(1e-3), "hidden_sizes": (np.int64(8),)}
    agent = an_agent(name, **settings).learn(32)
    assert type(agent.config.batch_size) is int and type(agent.config.learning_rate) is float
    assert type(agent.config.hidden_sizes[0]) is int
    agent.save(tmp_path / "a")
    assert type(agent).load(tmp_path / "a").config == agent.config


def test_numpy_booleans_are_settings(tmp_path):
    agent = an_agent("ppo", normalize_obs=np.True_)
    assert agent.config.normalize_obs is True
    agent.save(tmp_path / "a")
    assert PPO.load(tmp_path / "a").config.normalize_obs is True


def test_discrete_actions_are_those_of_sample():
    env = Toy()
    PPO(env, num_envs=1, num_steps=16, batch_size=16).learn(16)
    assert type(env.got) is type(env.action_space.sample())
    envs = make(Toy, 2, rebuild=True)  # as workers make them
    envs.reset()
    envs.step(np.array([0, 2]))
    assert [type(one.unwrapped.got) for one in envs.members] == [np.int64, np.int64]


@BY_NAME
def test_parameters_that_are_no_numbers_stop_learning_and_are_not_saved(name, tmp_path):
    saves = CheckpointCallback(every=1, directory=tmp_path)
    agent = an_agent(name, **({"adam_eps": 1e-8} if name != "sac" else {}))
    agent.learn(32 if name == "ppo" else 300, callbacks=saves)
    kept = sorted(tmp_path.iterdir())[-1]
    parameter = next(iter(agent.networks().values())).parameters()
    next(iter(parameter)).array[...] = np.nan
    with np.errstate(all="ignore"), pytest.raises((FloatingPointError, ValueError), match=r"NaN|nan|finite"):
        agent.learn(600, callbacks=saves)
    assert sorted(tmp_path.iterdir())[-1] == kept
    type(agent).load(kept).learn(32)


def test_an_exploding_learning_rate_stops_learning():
    for name in ("ppo", "dqn"):
        with np.errstate(all="ignore"), pytest.raises((FloatingPointError, ValueError), match=r"NaN|nan|finite"):
            an_agent(name, learning_rate=1e30).learn(1000)


@BY_NAME
def test_predict_refuses_what_is_no_observation(name):
    agent = an_agent(name)
    space = agent.observation_space
    with pytest.raises(ValueError, match=r"predict: obs must be numbers, got NaN at \[0, "):
        agent.predict(np.full(space.shape, np.nan, np.float32))
    with pytest.raises(ValueError, match=r"predict: obs must be an observation, got a pair \(obs, info\)"):
        agent.predict(gymnasium.make(AGENTS[name][1]).reset())


@BY_NAME
@pytest.mark.parametrize("seed", [None, -1, 1.5, "0", True])
def test_seeds_are_whole_numbers(name, seed):
    with pytest.raises(TypeError, match="seed: must be a whole number of at least 0, got"):
        an_agent(name, seed=seed)


class Duck:
    def on_iteration(self, agent, metrics):
        return False


class Proper(Callback):
    pass


@BY_NAME
def test_callbacks_that_are_none_are_named(name):
    agent = an_agent(name)
    for given in (Duck(), [Duck()]):
        with pytest.raises(TypeError, match=r"callbacks: must be objects of a class derived from .*, got Duck"):
            agent.learn(64, callbacks=given)
    for given in (Proper, [Proper]):
        with pytest.raises(TypeError, match=r"callbacks: .* got the class Proper; give Proper\(\)"):
            agent.learn(64, callbacks=given)


class OldReset(Toy):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


class OldStep(Toy):
    result = staticmethod(lambda result: result[:4])


class UnpacksItself(Toy):
    def step(self, action):
        _a, _b = (1,)


@pytest.mark.parametrize("rebuild", [False, True])
def test_environments_of_the_old_api_are_named(rebuild):
    with pytest.raises(ValueError, match=r"reset: the environment's reset\(\) must return \(obs, info\)"):
        make(OldReset, 2, rebuild=rebuild).reset()
    envs = make(OldStep, 2, rebuild=rebuild)
    envs.reset()
    wanted = r"step: the environment's step\(\) must return \(obs, reward, terminated, truncated, info\)"
    if rebuild:  # a failing environment is replaced, and its failure recorded
        envs.step(np.zeros(2, np.int64))
        assert "step() must return (obs, reward" in envs.take_failures()[0].message
    else:
        with pytest.raises(ValueError, match=wanted):
            envs.step(np.zeros(2, np.int64))
        own = make(UnpacksItself, 1)
        own.reset()
        with pytest.raises(ValueError, match="not enough values to unpack"):
            own.step(np.zeros(1, np.int64))


@pytest.mark.parametrize("reward", ["1.5", b"1.5", np.str_("1.5"), None, [1.0]])
def test_rewards_are_numbers(reward):
    class Text(Toy):
        result = staticmethod(lambda result: (result[0], reward, *result[2:]))

    envs = make(Text, 2)
    envs.reset()
    with pytest.raises(ValueError, match="reward must be one number, got"):
        envs.step(np.zeros(2, np.int64))


@BY_NAME
def test_agents_can_be_pickled(name):
    agent = an_agent(name).learn(64)
    other = pickle.loads(pickle.dumps(agent))
    obs = agent.observation_space.sample()
    np.testing.assert_array_equal(agent.predict(obs, deterministic=True)[0], other.predict(obs, deterministic=True)[0])
    agent.learn(64)
    other.learn(64)
    for ours, theirs in zip(agent.networks().values(), other.networks().values()):
        for p, q in zip(ours.parameters(), theirs.parameters()):
            np.testing.assert_allclose(p.array, q.array, atol=1e-3)  # rounding: memory lies elsewhere


def test_defaults_fit_one_environment():
    agent = PPO(gymnasium.make("CartPole-v1"))
    assert (agent.config.num_envs, agent.config.batch_size) == (1, 128)
    assert dict((d.name, d.value) for d in agent.explain(show=False))["num_envs"] in (1, "1")
    agent.learn(256)
    assert PPO("CartPole-v1", num_envs=1).config.batch_size == 128
    assert PPO("CartPole-v1").config.batch_size == 256
    with pytest.raises(ValueError, match="batch_size: 300 is larger than the 128 transitions"):
        PPO("CartPole-v1", num_envs=1, batch_size=300)


@BY_NAME
def test_a_number_of_environments_beside_an_existing_one(name):
    agent_class, env, base = AGENTS[name]
    assert agent_class(gymnasium.make(env), **{**base, "num_envs": 1}).config.num_envs == 1
    with pytest.raises(ValueError, match="num_envs: the environment that was given counts as 1, got num_envs=3"):
        agent_class(gymnasium.make(env), **{**base, "num_envs": 3})
    many = gymnasium.make_vec(env, 3, "sync")
    without = {key: value for key, value in base.items() if key != "num_envs"}
    assert agent_class(many, **without).config.num_envs == 3


def test_a_callback_that_can_be_iterated_over_is_one_callback():
    class Rows(Callback):
        def __iter__(self):
            raise AssertionError("not a list of callbacks")

        def on_iteration(self, agent, metrics):
            return False

    assert an_agent("ppo").learn(200, callbacks=Rows()).iteration == 1


def test_an_exception_of_an_environment_keeps_its_context():
    class Failing(Toy):
        def step(self, action):
            try:
                raise KeyError("the first")
            except KeyError:
                raise OSError("the second")  # noqa: B904 - the context is what is tested

    envs = make(Failing, 1)
    envs.reset()
    with pytest.raises(OSError, match="the second") as caught:
        envs.step(np.zeros(1, np.int64))
    assert isinstance(caught.value.__context__, KeyError) and not caught.value.__suppress_context__
