"""Names of other libraries: the error gives the name here, in Python, in YAML and on the command line."""

import dataclasses
import re

import numpy as np
import pytest

from dynarl.agents import DQN, PPO, SAC, DQNConfig, PPOConfig, SACConfig
from dynarl.config import ConfigError, RunConfig, from_mapping
from dynarl.config.other_names import LEARN_ARGUMENTS, OTHER_NAMES
from dynarl.train.command import main

CONFIGS = {"ppo": PPOConfig, "dqn": DQNConfig, "sac": SACConfig}
FIELDS = {name: {f.name for c in (cls, RunConfig) for f in dataclasses.fields(c)} for name, cls in CONFIGS.items()}
NAMES = [(library, name) for library, names in OTHER_NAMES.items() for name in names]


@pytest.mark.parametrize(("library", "name"), NAMES)
def test_a_name_of_another_library_leads_to_a_field(library, name):
    other = OTHER_NAMES[library][name]
    for field in other.fields:
        assert any(field in fields and name not in fields for fields in FIELDS.values()), field
    assert other.fields or other.elsewhere


@pytest.mark.parametrize(
    ("algorithm", "name", "message"),
    [
        ("ppo", "n_steps", "Stable-Baselines3's n_steps is num_steps here"),
        ("dqn", "n_steps", "Stable-Baselines3's n_steps is n_step here"),
        ("ppo", "clip_coef", "CleanRL's clip_coef is clip_range here"),
        ("ppo", "target_kl", 'Stable-Baselines3\'s target_kl is kl_target here (with kl_action="stop_minibatch")'),
        ("dqn", "exploration_fraction", "is epsilon_steps here (environment steps: the fraction times total_steps)"),
        ("sac", "ent_coef", "Stable-Baselines3's ent_coef is alpha here (None, the default, learns it as 'auto' does"),
        ("sac", "q_lr", "CleanRL's q_lr is learning_rate here (one for actor and critics)"),
        ("dqn", "total_timesteps", "Stable-Baselines3's total_timesteps is total_steps here"),
    ],
)
def test_files_flags_and_keywords(tmp_path, capsys, algorithm, name, message):
    path = tmp_path / "c.yaml"
    path.write_text(f"{name}: 0.5\n")
    assert main(["train", algorithm, str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: config: {path}: unknown field {name!r}; ") and message in error
    flag = "--" + name.replace("_", "-")
    for argv in ([flag, "0.5"], [f"{flag}=0.5"]):
        assert main(["train", algorithm, *argv]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: config: {flag}: ") and message in error and error.count("\n") == 1
    if name != "total_timesteps":
        with pytest.raises(TypeError, match=re.escape(message)):
            CONFIGS[algorithm](**{name: 0.5})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SAC("Pendulum-v1", ent_coef="auto"), "SAC: unknown field 'ent_coef'; Stable-Baselines3's ent_coef is"),
        (lambda: DQN("CartPole-v1", exploration_fraction=0.1), "is epsilon_steps here"),
        (lambda: DQN("CartPole-v1", ent_coef=0.1), "unknown field 'ent_coef'; did you mean"),
        (lambda: PPO("CartPole-v1", total_timesteps=1), r"it is the argument of learn: agent.learn\(100_000\)"),
        (lambda: PPO("CartPole-v1", verbose=1), "runs of dynarl.train.run and of the command dynarl log and print"),
        (
            lambda: PPO("MlpPolicy", "CartPole-v1"),
            "PPO: the first argument is the environment; .* leave 'MlpPolicy' out",
        ),
        (lambda: SAC("MultiInputPolicy", object(), verbose=1), "SAC: the first argument is the environment"),
        (lambda: PPO("MlpLstmPolicy", "CartPole-v1"), 'recurrent="lstm" gives it a memory'),
    ],
)
def test_agents(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_a_policy_of_stable_baselines3_as_keyword():
    with pytest.raises(ValueError, match="policy: the observation space chooses the network here; leave 'CnnPolicy'"):
        PPO("CartPole-v1", policy="CnnPolicy")


def test_learn():
    agent = PPO("CartPole-v1", num_envs=2, num_steps=8, batch_size=16)
    with pytest.raises(TypeError, match=r"PPO.learn: total_timesteps is called total_steps here: learn\(100_000\)"):
        agent.learn(total_timesteps=100)
    for name, text in LEARN_ARGUMENTS.items():
        with pytest.raises(TypeError, match=re.escape(f"PPO.learn: {name} is {text}")):
            agent.learn(100, **{name: None})
    with pytest.raises(TypeError, match="foo is unknown; the arguments are total_steps, on_iteration and callbacks"):
        agent.learn(100, foo=1)
    with pytest.raises(ValueError, match="total_steps must be at least 1, got 0"):
        agent.learn()


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"agent": {"gamma": 0.9}}, "unknown section 'agent'; .* flat: .* `gamma: 0.9`, without 'agent' above it"),
        ({"CartPole-v1": {"n_envs": 8}}, "unknown section 'CartPole_v1'; configurations are flat"),
    ],
)
def test_nested_files_are_told_to_be_flat(tree, message):
    with pytest.raises(ConfigError, match=message):
        from_mapping(PPOConfig, tree, source="c.yaml")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": "a"}, "learning_rate: must be a number, got 'a'"),
        ({"learning_rate": True}, "learning_rate: must be a number, got True"),
        ({"num_envs": 8.5}, "num_envs: must be a whole number, got 8.5"),
        ({"num_envs": None}, "num_envs: must be a whole number, got None"),
        ({"clip_range_vf": "x"}, "clip_range_vf: must be a number or None, got 'x'"),
        ({"hidden_sizes": 64}, "hidden_sizes: must be a sequence, each a whole number, got 64"),
        ({"hidden_sizes": ("64",)}, r"hidden_sizes: must be a sequence, each a whole number, got \('64',\)"),
        ({"use_sde": "no"}, "use_sde: must be True or False, got 'no'"),
        ({"policy_kwargs": [1]}, r"policy_kwargs: must be a mapping, got \[1\]"),
    ],
)
def test_values_of_another_type(settings, message):
    with pytest.raises(TypeError, match=f"^{message}$"):
        PPOConfig(**settings)


def test_numbers_of_numpy_and_whole_floats_are_numbers():
    config = PPOConfig(learning_rate=np.float32(0.5), num_envs=np.int64(4), num_steps=1e2, gamma=1, batch_size=4)
    assert (config.learning_rate, config.num_envs, config.num_steps) == (0.5, 4, 100)
    assert type(config.num_steps) is int
