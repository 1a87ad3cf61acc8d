"""What an environment says holds after load as in the first run: masks, info fields, statistics of wrappers, seeds."""

from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import NormalizeObservation, NormalizeReward, TimeLimit
from gymnasium.wrappers import vector as vector_wrappers
from PIL import Image

from dynarl import nn
from dynarl.agents import DQN, PPO, SAC
from dynarl.distributions import Categorical
from dynarl.envs.another import another
from dynarl.envs.env_group import EnvGroup
from dynarl.train.video import record_video

SMALL = {
    "ppo": (PPO, {"num_envs": 2, "num_steps": 32, "batch_size": 32, "num_epochs": 1}),
    "lstm": (PPO, {"num_envs": 2, "num_steps": 32, "batch_size": 32, "num_epochs": 1, "recurrent": "lstm"}),
    "dqn": (DQN, {"num_envs": 2, "learning_starts": 32, "buffer_size": 1000, "batch_size": 16}),
    "sac": (SAC, {"num_envs": 2, "learning_starts": 32, "buffer_size": 1000, "batch_size": 16, "hidden_sizes": (16,)}),
}


class Masked(gymnasium.Env):
    """Allows one of four actions at each step, and has no state that can be restored."""

    observation_space, action_space = spaces.Box(0, 1, (4,), np.float32), spaces.Discrete(4)
    forbidden = 0

    def _out(self):
        self.allowed = int(self.np_random.integers(4))
        mask = np.zeros(4, np.int8)
        mask[self.allowed] = 1
        return np.eye(4, dtype=np.float32)[self.allowed], {"action_mask": mask, "cost": 0.25}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._out()

    def step(self, action):
        Masked.forbidden += action != self.allowed
        self.t += 1
        obs, info = self._out()
        return obs, 1.0, self.t >= 20, False, info


def in_a_vector_environment():
    return gymnasium.vector.SyncVectorEnv([Masked, Masked])


@pytest.mark.parametrize("source", [Masked, in_a_vector_environment])
@pytest.mark.parametrize("name", SMALL)
def test_masks_hold_after_load(tmp_path, name, source):
    agent_class, settings = SMALL[name]
    agent_class(source, seed=1, **settings).learn(96).save(tmp_path / "a")
    Masked.forbidden = 0
    loaded = agent_class.load(tmp_path / "a", env=source)
    assert loaded.envs.action_mask.sum(1).tolist() == [1, 1]
    assert loaded.learn(96).evaluate(4).lengths.tolist() == [20] * 4
    assert Masked.forbidden == 0


class Costs(nn.Module):
    """Reads the cost that its environment reports and obeys the mask; written for one sample."""

    info_fields = ("cost",)

    def __init__(self, observation_space, action_space):
        super().__init__()
        self.actor, self.critic = nn.Linear(4, 4), nn.Linear(4, 1)

    def initial_state(self):
        return 0

    def forward(self, obs, state, feedback):
        value = self.critic(obs)[0]
        if feedback.info["cost"] > 0.1:
            value = value - feedback.info["cost"]
        allowed = feedback.action_mask.float()
        return Categorical(logits=self.actor(obs) + (allowed - 1.0) * 1e9), value, state


def test_info_fields_and_masks_of_a_per_sample_policy_hold_after_load(tmp_path):
    PPO(Masked, policy=Costs, **SMALL["ppo"][1]).learn(64).save(tmp_path / "a")
    Masked.forbidden = 0
    loaded = PPO.load(tmp_path / "a", env=Masked, policy=Costs)
    assert loaded.envs.info.now["cost"].tolist() == [0.25, 0.25]
    loaded.learn(64)
    assert Masked.forbidden == 0


class Drifting(gymnasium.Env):
    """Observations and rewards far from scale; its state cannot be restored."""

    observation_space, action_space = spaces.Box(-np.inf, np.inf, (3,), np.float32), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.normal(50, 7, 3).astype(np.float32), {}

    def step(self, action):
        self.t += 1
        obs = self.np_random.normal(50, 7, 3).astype(np.float32)
        return obs, float(self.np_random.normal(0, 30)), False, self.t >= 10, {}


def single():
    return NormalizeReward(NormalizeObservation(Drifting()))


def restorable():
    return NormalizeReward(NormalizeObservation(gymnasium.make("Acrobot-v1", max_episode_steps=30)))


def in_sync_vector():
    return gymnasium.vector.SyncVectorEnv([single, single])


def vector_wrapped():
    return vector_wrappers.NormalizeReward(
        vector_wrappers.NormalizeObservation(gymnasium.vector.SyncVectorEnv([Drifting, Drifting]))
    )


def moments(envs):
    """Return (mean, variance, count) of all wrappers' statistics."""
    found = []
    for env in envs.members:
        while hasattr(env, "env"):
            for name in {"obs_rms", "return_rms"} & vars(env).keys():
                rms = vars(env)[name]
                found.append([np.mean(rms.mean), np.mean(rms.var), rms.count])
            env = env.env
    return np.array(found)


SOURCES = [single, restorable, in_sync_vector, vector_wrapped]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_statistics_of_wrappers_hold_after_load(tmp_path, name, source):
    agent_class, settings = SMALL[name]
    agent = agent_class(source, **settings).learn(256)
    before = moments(agent.envs)
    agent.save(tmp_path / "a")
    after = moments(agent_class.load(tmp_path / "a", env=source).envs)
    assert len(before) >= 2
    # a state that cannot be restored begins with a reset, which observations count
    np.testing.assert_allclose(after[:, 2], before[:, 2], atol=0 if source is restorable else 2)
    np.testing.assert_allclose(after[:, :2], before[:, :2], rtol=0 if source is restorable else 0.3)


def test_statistics_hold_with_another_number_of_environments(tmp_path):
    agent = PPO(single, **SMALL["ppo"][1]).learn(256)
    agent.save(tmp_path / "a")
    loaded = PPO.load(tmp_path / "a", env=single, num_envs=3)
    assert (moments(loaded.envs)[:, 2] > 100).all()


@pytest.mark.parametrize("source", SOURCES)
def test_evaluation_scales_as_training_does_and_changes_nothing(source):
    agent = PPO(source, **SMALL["ppo"][1]).learn(256)
    before = moments(agent.envs)
    seen = []
    act = agent.actor.predict_stored
    agent.actor.predict_stored = lambda obs, *rest, **named: (seen.append(obs), act(obs, *rest, **named))[1]
    first = agent.evaluate(4)
    np.testing.assert_array_equal(first.returns, agent.evaluate(4).returns)
    np.testing.assert_array_equal(moments(agent.envs), before)
    assert np.abs(np.concatenate(seen)).max() < 25  # statistics that begin with the evaluation would give about 50


def test_statistics_of_workers_are_named():
    group = EnvGroup(env=single, env_ids=(0, 1), here=False)
    agent = PPO(group, **SMALL["ppo"][1])
    with pytest.raises(ValueError, match=r"NormalizeReward, NormalizeObservation.*normalize_obs=True"):
        agent.evaluate(2)


# ------------------------------------------------------------------------------- the same environment, once more


def lengths(agent_class, source, **settings):
    return agent_class(source, **{**SMALL["ppo"][1], **settings}).evaluate(6).lengths.tolist()


def short():
    return gymnasium.make("CartPole-v1", max_episode_steps=7)


VECTORS = {
    "sync": lambda: gymnasium.make_vec("CartPole-v1", 2, "sync", max_episode_steps=7),
    "entry point": lambda: gymnasium.make_vec("CartPole-v1", 2, "vector_entry_point", max_episode_steps=7),
    "wrappers": lambda: gymnasium.make_vec("CartPole-v1", 2, "sync", wrappers=[lambda env: TimeLimit(env, 7)]),
    "own functions": lambda: gymnasium.vector.SyncVectorEnv([short, short]),
    "vector wrapper": lambda: vector_wrappers.NormalizeObservation(VECTORS["sync"]()),
}


@pytest.mark.parametrize("name", VECTORS)
def test_evaluation_keeps_time_limits_of_vector_environments(name):
    assert lengths(PPO, VECTORS[name]()) == [7] * 6
    assert lengths(PPO, VECTORS[name]) == [7] * 6  # a function that makes it


def test_evaluation_keeps_arguments_wrappers_and_limits_of_one_environment():
    env = TimeLimit(gymnasium.make("Pendulum-v1", g=2.0), 5)
    agent = PPO(env, num_envs=1, num_steps=32, batch_size=32)
    assert agent.evaluate(3).lengths.tolist() == [5, 5, 5]
    assert another(env)().unwrapped.g == 2.0


class Own(gymnasium.RewardWrapper):
    def reward(self, reward):
        return reward


def test_what_cannot_be_made_again_is_named_with_the_remedy():
    for env in (Own(gymnasium.make("CartPole-v1")), Drifting()):
        agent = PPO(env, num_envs=1, num_steps=32, batch_size=32)
        with pytest.raises(ValueError, match=r"(wrapper Own|Drifting was not made).*give the agent a function"):
            agent.evaluate(2)
        other = gymnasium.make("CartPole-v1") if isinstance(env, Own) else Drifting()
        assert len(agent.evaluate(2, env=other).returns) == 2
        assert len(agent.learn(32).evaluate(3, env=env).returns) == 3  # the simulator that exists once
        agent.learn(32)


def test_evaluation_in_the_environment_of_training_ends_open_episodes_in_the_replay():
    env = Drifting()
    agent = DQN(env, **{**SMALL["dqn"][1], "num_envs": 1}).learn(45)
    agent.evaluate(1, env=env)
    agent.learn(40)
    starts = agent.envs.episode_start
    assert starts.shape == (1,)
    batch = agent.replay.sample(64, np.random.default_rng(0))
    assert (batch["discount"] >= 0).all()


def test_evaluation_refuses_other_spaces_and_counts():
    agent = PPO("CartPole-v1", **SMALL["ppo"][1])
    with pytest.raises(ValueError, match="evaluate: env must have the agent's observation_space"):
        agent.evaluate(1, env="Acrobot-v1")
    with pytest.raises(ValueError, match="num_envs must be at least 1, got 0"):
        agent.evaluate(1, num_envs=0)


class Licensed(Drifting):
    """A simulator of which two may exist."""

    count = 0

    def __init__(self):
        if Licensed.count >= 2:
            raise RuntimeError("no more than 2")
        Licensed.count += 1

    def close(self):
        Licensed.count -= 1


def test_simulators_that_exist_a_few_times():
    agent = PPO(Licensed, num_envs=1, num_steps=32, batch_size=32)
    assert len(agent.evaluate(5, num_envs=1).returns) == 5
    with pytest.warns(UserWarning, match=r"1 of 5 environments were made.*num_envs=1"):
        assert len(agent.evaluate(5).returns) == 5
    agent.envs.close()
    assert Licensed.count == 0


class Window(Drifting):
    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 30}
    opened = []

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        Window.opened.append(render_mode)

    def render(self):
        return np.full((8, 8, 3), 20 * self.t, np.uint8)


def test_evaluation_opens_no_window():
    gymnasium.register("Window-v0", Window)
    try:
        for source in (gymnasium.make("Window-v0", render_mode="human"), partial(Window, render_mode="human")):
            agent = PPO(source, num_envs=1, num_steps=32, batch_size=32)
            Window.opened.clear()
            agent.evaluate(4)
            assert Window.opened == [None] * 4
    finally:
        del gymnasium.registry["Window-v0"]


def gravity(agent):
    return [env.unwrapped.g for env in agent.envs.members]


def test_load_makes_the_environment_with_its_arguments_and_limit(tmp_path):
    for i, env in enumerate(
        (
            gymnasium.make("Pendulum-v1", g=2.0, max_episode_steps=9),
            partial(gymnasium.make, "Pendulum-v1", g=2.0, max_episode_steps=9),
            gymnasium.make_vec("Pendulum-v1", 2, "sync", g=2.0, max_episode_steps=9),
        )
    ):
        PPO(env, num_envs=1 if i == 0 else 2, num_steps=32, batch_size=32).learn(32).save(tmp_path / str(i))
        loaded = PPO.load(tmp_path / str(i))
        assert set(gravity(loaded)) == {2.0}
        assert loaded.evaluate(2).lengths.tolist() == [9, 9]


def test_load_names_what_a_checkpoint_cannot_say(tmp_path):
    for i, env in enumerate((single, Own(gymnasium.make("Pendulum-v1")), VECTORS["wrappers"]())):
        number = {} if i == 0 else {"num_envs": env.num_envs if i == 2 else 1}
        PPO(env, num_steps=32, batch_size=32, **number).learn(32).save(tmp_path / str(i))
        with pytest.raises(ValueError, match=r"does not say how its environment is made.*pass env="):
            PPO.load(tmp_path / str(i))


def test_videos_are_of_the_same_environment(tmp_path):
    gymnasium.register("Window-v0", Window)
    try:
        env = TimeLimit(gymnasium.make("Window-v0", render_mode="human"), 7)
        path = record_video(PPO(env, num_envs=1, num_steps=32, batch_size=32), tmp_path / "a.gif")
    finally:
        del gymnasium.registry["Window-v0"]
    with Image.open(path) as image:
        assert image.n_frames == 7


# ------------------------------------------------------------------------------------------------ another one


class Counted(Drifting):
    steps = 0

    def step(self, action):
        type(self).steps += 1
        return super().step(action)


@pytest.mark.parametrize("name", ["ppo", "lstm", "dqn"])
def test_set_env(name):
    agent_class, settings = SMALL[name]
    agent = agent_class(Drifting, **settings).learn(128)
    with pytest.raises(ValueError, match="set_env: env must have the agent's observation_space"):
        agent.set_env("CartPole-v1")
    with pytest.raises(ValueError, match="set_env: env must be 2 environments, got 1; save the agent"):
        agent.set_env(Drifting())
    assert agent.learn(128).source is Drifting  # nothing changed
    Counted.steps, steps = 0, agent.env_steps
    agent.set_env(Counted)
    agent.learn(128)
    assert Counted.steps == agent.env_steps - steps > 0
    assert agent.evaluate(2).lengths.tolist() == [10, 10]
    if name == "dqn":  # no transition leads from an episode of the first environment into one of the second
        index = np.concatenate([agent.replay.history(env) for env in range(2)])
        assert agent.replay.ends(index)[1].sum() >= 2


def test_set_env_is_refused_with_workers():
    agent = PPO(EnvGroup(env=Drifting, env_ids=(0, 1), here=False), **SMALL["ppo"][1])
    with pytest.raises(RuntimeError, match="set_env: the environments of this agent are in its workers"):
        agent.set_env(Drifting)


def test_close():
    agent = PPO(Licensed, num_envs=2, num_steps=32, batch_size=32)
    assert Licensed.count == 2
    agent.close()
    assert Licensed.count == 0
    agent.predict(np.zeros(3, np.float32))
