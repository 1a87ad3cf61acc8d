"""A setting given on load or resume takes effect or is refused, and the logs say what is used."""

import dataclasses
import json

import gymnasium
import numpy as np
import pytest

from dynarl.agents import DQN, PPO, SAC
from dynarl.agents.loaded_settings import EFFECTS, Effect
from dynarl.config import ConfigError
from dynarl.optim import Optimizer
from dynarl.train.cli import main

REPLAY = {"num_envs": 4, "learning_starts": 16, "buffer_size": 400, "batch_size": 8, "train_freq": 1}
AGENTS = {
    "ppo": (PPO, "CartPole-v1", {"num_envs": 2, "num_steps": 16, "batch_size": 16, "num_epochs": 1}),
    "dqn": (DQN, "CartPole-v1", REPLAY),
    "sac": (SAC, "Pendulum-v1", {**REPLAY, "hidden_sizes": (8,)}),
}
BY_NAME = pytest.mark.parametrize("name", AGENTS)
OF_REPLAYS = pytest.mark.parametrize("name", ["dqn", "sac"])


@pytest.fixture
def saved(tmp_path):
    def save(name, **settings):
        agent_class, env, base = AGENTS[name]
        agent_class(env, **{**base, **settings}).learn(128).save(tmp_path / name)
        return lambda **changes: agent_class.load(tmp_path / name, **changes)

    return save


def groups(agent):
    optimizers = [part for part in vars(agent.learner).values() if isinstance(part, Optimizer)]
    return [group for optimizer in optimizers for group in optimizer.param_groups]


def test_every_field_has_an_effect():
    fields = {field.name for cls, _, _ in AGENTS.values() for field in dataclasses.fields(cls.config_class)}
    assert fields == EFFECTS.keys()


def other(config, name):
    """Return a valid value that differs from a config's."""
    value = getattr(config, name)
    choices = {
        "hidden_sizes": (16,), "encoder": "none", "activation": "tanh" if value == "relu" else "relu",
        "recurrent": "gru", "distributional": "qr", "policy": "options", "policy_kwargs": {"size": 3},
        "log_std_init": -1.0, "v_min": -20.0, "v_max": 20.0,
    }  # fmt: skip
    if name in choices:
        return choices[name]
    return (not value) if isinstance(value, bool) else value + 1


@BY_NAME
def test_what_the_networks_have_learned_with_is_refused(saved, name):
    load = saved(name)
    config = load().config
    fixed = [f.name for f in dataclasses.fields(config) if EFFECTS[f.name] in (Effect.NETWORKS, Effect.INITIAL)]
    assert len(fixed) >= 7
    for field in fixed:
        with pytest.raises((ConfigError, ValueError), match=field):
            load(**{field: other(config, field)})


@BY_NAME
def test_the_optimizers_step_with_the_given_rate(saved, name):
    load = saved(name, learning_rate=1e-3)
    assert {group["lr"] for group in groups(load())} == {1e-3}
    loaded = load(learning_rate=1e-30)
    assert {group["lr"] for group in groups(loaded)} == {1e-30}
    parameters = [p for group in groups(loaded) for p in group["params"]]
    before = [p.array.copy() for p in parameters]
    logged = []
    loaded.learn(32, callbacks=lambda agent, metrics: logged.append(metrics.get("train/learning_rate", 1e-30)) or None)
    assert max(np.abs(p.array - b).max() for p, b in zip(parameters, before)) < 1e-6
    assert set(logged) == {1e-30}
    assert dict(explained(loaded))["learning_rate"] == "1e-30"


def explained(agent):
    return [(detail.name, str(detail.value)) for detail in agent.explain(show=False)]


def test_epsilon_schedule_and_adaptive_rate(saved):
    load = saved("ppo", learning_rate_schedule="linear", learning_rate=1e-3)
    assert groups(load())[0]["lr"] < 1e-3  # the schedule's last value continues
    constant = load(learning_rate_schedule="constant")
    assert groups(constant)[0]["lr"] == 1e-3
    assert groups(load(adam_eps=1e-3))[0]["eps"] == 1e-3
    adapted = saved("ppo", kl_target=1e-9, kl_action="adapt_lr")
    assert groups(adapted())[0]["lr"] < 3e-4
    assert groups(adapted(kl_target=None))[0]["lr"] == 3e-4


@BY_NAME
def test_a_linear_schedule_decays_over_the_run_and_continues_after_load(saved, name):
    logged = []

    def note(agent, metrics):
        logged.append((agent.env_steps, metrics["train/learning_rate"], {group["lr"] for group in groups(agent)}))

    load = saved(name, learning_rate_schedule="linear", learning_rate=1e-3)
    before = groups(load())[0]["lr"]
    load().learn(1024, callbacks=note)
    done = [steps for steps, _, _ in logged]
    rates = [rate for _, rate, _ in logged]
    assert before < 1e-3 or name == "dqn"
    assert rates == sorted(rates, reverse=True) and 0 < rates[-1] < 0.35e-3
    assert all(of_groups == {rate} for _, rate, of_groups in logged)
    for steps, rate in zip(done, rates[1:]):  # set before an iteration, by the steps made until then
        assert rate == pytest.approx(1e-3 * (1 - steps / (load().env_steps + 1024)), rel=1e-9)
    constant = load(learning_rate_schedule="constant")
    assert {group["lr"] for group in groups(constant)} == {1e-3}


@OF_REPLAYS
@pytest.mark.parametrize("changes", [{"num_envs": 1}, {"num_envs": 7}, {"buffer_size": 2000}, {"buffer_size": 40}])
def test_the_replay_carries_over(saved, name, changes, capsys):
    load = saved(name)
    original = load()
    capsys.readouterr()
    loaded = load(**changes)
    said = capsys.readouterr().out
    held, kept = len(original.replay), len(loaded.replay)
    room = loaded.replay.capacity // loaded.replay.num_envs
    share = min(held // 4, max(1, room // -(-4 // loaded.replay.num_envs)))
    assert kept == 4 * share and f"replay: {kept:,} of {held:,} transitions are carried over" in said
    assert ("new episodes begin" in said) == ("num_envs" in changes)
    assert transitions(loaded.replay) <= transitions(original.replay)
    assert loaded.learn(64).replay.capacity == loaded.config.buffer_size // loaded.envs.num_envs * loaded.envs.num_envs


def transitions(replay):
    """Return the transitions of a replay as a set of bytes, but for whether the last ones of episodes were cut."""
    index = np.concatenate([replay.history(env) for env in range(replay.num_envs)])
    batch = replay.gather(index, np.ones(len(index), np.float32))
    fields = ("obs", "action", "reward", "next_obs")
    rows = zip(*(batch[field].reshape(len(index), -1).tolist() for field in fields))
    return {json.dumps(row) for row in rows}


def test_n_step_windows_end_where_carried_episodes_end(saved):
    load = saved("dqn")
    loaded = load(num_envs=1, n_step=3)
    index = loaded.replay.history(0)
    _, ended = loaded.replay.ends(index)
    batch = loaded.replay.gather(index, np.ones(len(index), np.float32))
    for i in range(len(index)):
        steps = next((k + 1 for k in range(3) if ended[i + k]), 3) if i + 3 <= len(index) else None
        if steps is not None:
            assert batch.reward[i] == pytest.approx(sum(0.99**k for k in range(steps)))


@OF_REPLAYS
def test_a_ready_environment_takes_the_place_of_several(saved, name):
    env = AGENTS[name][1]
    loaded = saved(name)(env=gymnasium.make(env), num_envs=1)
    assert loaded.learn(32).envs.num_envs == 1


@OF_REPLAYS
def test_without_the_replay(saved, name, tmp_path, capsys):
    load = saved(name)
    empty = load(replay=False)
    assert len(empty.replay) == 0
    assert "replay: the checkpoint has none, so it begins empty" in capsys.readouterr().out
    load().save(tmp_path / "small", replay=False)
    small = AGENTS[name][0].load(tmp_path / "small")
    assert len(small.replay) == 0 and small.grad_steps == load().grad_steps
    small.learn(64)
    size = {path.name: sum(f.stat().st_size for f in path.iterdir()) for path in tmp_path.iterdir()}
    assert size["small"] < size[name]


def test_ppo_has_no_replay_to_leave_out(saved):
    with pytest.raises(TypeError, match="PPO has no replay to leave out"):
        saved("ppo")(replay=False)
    with pytest.raises(TypeError, match="save: PPO has no replay to leave out"):
        PPO("CartPole-v1").save("nowhere", replay=False)


def test_prioritized_can_be_turned_on_and_off(saved):
    load = saved("dqn")
    on = load(prioritized=True, per_alpha=0.5).learn(64)
    assert on.replay.alpha == 0.5 and len(on.replay) > 128


def test_statistics(saved, capsys):
    load = saved("ppo")
    loaded = load(normalize_obs=True, normalize_reward=True)
    said = capsys.readouterr().out
    assert (
        "normalize_obs: the checkpoint has no statistics" in said and "normalize_reward: the checkpoint has no" in said
    )
    assert loaded.learn(32).learner.reward_normalizer is not None
    load = saved("ppo", normalize_obs=True, normalize_reward=True)
    with pytest.raises(ConfigError, match="normalize_obs of the stored agent is True and cannot become False"):
        load(normalize_obs=False)
    assert load(normalize_reward=False).learner.reward_normalizer is None


def test_temperature_of_sac_can_be_fixed_and_released(saved):
    load = saved("sac")
    fixed = load(alpha=0.3)
    assert fixed.alpha == 0.3 and fixed.learn(32).alpha == 0.3
    load = saved("sac", alpha=0.3)
    released = load(alpha=None)
    assert released.alpha == pytest.approx(0.3)
    assert released.learn(32).alpha != pytest.approx(0.3, abs=1e-6)


@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_resume_uses_what_it_announces(tmp_path, capsys, name):
    agent_class, env, _ = AGENTS[name]
    run = ["--run-dir", str(tmp_path / "r"), "--no-tensorboard", "--eval-every", "0", "--eval-episodes", "0"]
    small = ["--log-every", "0", "--learning-rate", "1e-3"] + (["--learning-starts", "100"] if name == "dqn" else [])
    assert main(agent_class, ["--env-id", env, "--total-steps", "1024", *run, *small]) == 0
    assert main(agent_class, ["--resume", *run[:2], "--total-steps", "2048", "--learning-rate", "1e-6"]) == 0
    assert "resume: learning_rate 0.001 -> 1e-06" in capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()]
    rates = [row["train/learning_rate"] for row in rows if "train/learning_rate" in row]
    assert rates[0] == 1e-3 and rates[-1] == 1e-6
    assert main(agent_class, ["--resume", *run[:2], "--total-steps", "3072", "--hidden-sizes", "8"]) == 2
    assert "hidden_sizes of the stored agent is (64, 64) and cannot become (8,)" in capsys.readouterr().err


def test_resume_with_another_buffer_carries_over(tmp_path, capsys):
    run = ["--run-dir", str(tmp_path / "r"), "--no-tensorboard", "--eval-every", "0", "--eval-episodes", "0"]
    assert main(DQN, ["--env-id", "CartPole-v1", "--total-steps", "512", "--learning-starts", "100", *run]) == 0
    assert main(DQN, ["--resume", *run[:2], "--total-steps", "1024", "--buffer-size", "300"]) == 0
    assert "resume: replay: 300 of 512 transitions are carried over" in capsys.readouterr().out
