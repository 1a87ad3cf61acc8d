"""Synchronous PPO over workers: equal bytes whoever runs the groups, in whatever order they deliver."""

import dataclasses
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest

from dynarl.agents import PPO
from dynarl.config import ConfigError, RunConfig
from dynarl.distributed import FlatLayout, LocalTransport, Recipe, WorkerPlan, cluster, nodes, plan_workers, setup
from dynarl.envs import make
from dynarl.envs.env_group import EnvGroup
from dynarl.train import run
from tests.helpers.differences import differences
from tests.helpers.in_process import Shuffled, attach_workers_here

SMALL = {"num_envs": 4, "num_steps": 16, "batch_size": 32, "num_epochs": 2}


def learned(num_workers, steps=192, *, transport=LocalTransport, each=1, load=None, said=None, **overrides):
    """Train over the groups, all in this process, and return the agent's state."""
    config = RunConfig(num_workers=0, envs_per_group=each)
    how = WorkerPlan(groups=SMALL["num_envs"] // each, envs_per_group=each, num_workers=num_workers)
    agent = PPO(how.env_group("CartPole-v1"), seed=3, **{**SMALL, **overrides})
    with attach_workers_here(agent, how, config, transport, report=[].append if said is None else said.append):
        if load is not None:
            agent.load_state_dict(load)
        agent.learn(steps)
        return agent.state_dict()


POLICIES = {
    "plain": {},
    "normalised": {"normalize_obs": True, "normalize_reward": True},
    "lstm": {"recurrent": "lstm", "recurrent_hidden_size": 8, "sequence_length": 8},
}


@pytest.mark.parametrize("policy", POLICIES)
def test_one_two_or_four_workers_and_any_order_give_the_same_bytes(policy):
    reference = learned(1, **POLICIES[policy])
    assert not differences(reference, learned(2, transport=Shuffled, **POLICIES[policy]))
    assert not differences(reference, learned(4, transport=Shuffled, **POLICIES[policy]))


@pytest.mark.parametrize("policy", POLICIES)
def test_one_group_is_the_agent_that_steps_its_own_environments(policy):
    alone = PPO("CartPole-v1", seed=3, **SMALL, **POLICIES[policy]).learn(192).state_dict()
    state = learned(1, each=4, **POLICIES[policy])
    inner = state.pop("collector")["groups"]["0"]["collector"]
    assert not differences(alone.pop("collector"), inner)
    assert not differences(alone, state)


@pytest.mark.parametrize("policy", POLICIES)
def test_resumes_exactly_with_another_number_of_workers(policy):
    whole = learned(2, 256, **POLICIES[policy])
    half = learned(4, 128, **POLICIES[policy])
    assert not differences(whole, learned(1, 128, load=half, **POLICIES[policy]))


def test_the_split_decides():
    assert differences(learned(1), learned(1, each=2))


def test_a_checkpoint_of_another_split_goes_on_with_new_episodes():
    half = learned(1, 128)
    said = []
    state = learned(1, 128, load=half, each=2, said=said)
    assert state["env_steps"] == 256
    assert said == ["the checkpoint has 4 groups of environments, this run 2: all environments start a new episode"]
    agent = PPO("CartPole-v1", seed=3, **SMALL)
    agent.load_state_dict(half)
    agent.learn(64)
    assert agent.env_steps == 192


def test_ray_actors_give_the_same_bytes(ray_cluster, tmp_path):
    states = []
    for workers in (2, 0):
        config = RunConfig(
            num_workers=workers,
            envs_per_group=2,
            cpus_per_worker=0,
            total_steps=192,
            eval_every=0,
            eval_episodes=2,
            log_every=0,
            run_dir=str(tmp_path / str(workers)),
        )
        summary = run(PPO, config, PPO.config_class(**SMALL))
        (path,) = (tmp_path / str(workers) / "checkpoints").iterdir()
        states.append(
            (summary["eval_mean"], (path / "arrays.safetensors").read_bytes(), (path / "state.json").read_text())
        )
    assert states[0] == states[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_workers": 3}, "num_workers: num_envs 4 must be a multiple of num_workers 3.*set num_envs to 6"),
        ({"envs_per_group": 3}, "envs_per_group: num_envs 4 must be a multiple of envs_per_group 3"),
        ({"num_workers": 3, "envs_per_group": 2}, "must be at most the number of groups, got 3 workers for 2 groups"),
        ({"num_workers": 8}, "set num_envs to 8"),
    ],
)
def test_splits_that_are_not_possible(options, message):
    with pytest.raises(ConfigError, match=message):
        plan_workers(RunConfig(**options), PPO, 4)


def test_without_ray_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install .*\[ray\]'"):
        plan_workers(RunConfig(num_workers=2), PPO, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_workers": -1}, "num_workers: must be at least 0"),
        ({"envs_per_group": 0}, "envs_per_group: must be at least 1 or None, got 0"),
        ({"cpus_per_worker": -1.0}, "cpus_per_worker: must be 0 or more"),
        ({"placement": "near"}, "placement: must be spread or pack, got 'near'"),
        ({"worker_timeout": 0.0}, "worker_timeout: must be positive"),
        ({"ray_address": "auto"}, "ray_address: requires num_workers >= 1, got num_workers 0"),
    ],
)
def test_options_that_no_run_can_have(options, message):
    with pytest.raises(ValueError, match=message):
        RunConfig(**options)


def test_one_group_without_workers_is_no_split():
    assert plan_workers(RunConfig(envs_per_group=4), PPO, 4) is None


def test_resources_that_the_cluster_never_has(ray_cluster):
    with pytest.raises(
        ConfigError, match=r"3 workers of 64 CPUs need 192 CPUs, the cluster has 4 on 1 node, enough for 0"
    ):
        setup.require_resources(3, 64.0, deadline=0.0)


def test_a_cluster_that_others_use(ray_cluster, monkeypatch):
    monkeypatch.setattr(setup, "_ROOM_SECONDS", 0.5)
    with (
        pytest.raises(ConfigError, match=r"placement: 2 workers of 3 CPUs found no free CPUs within 0\.5 s"),
        setup._packed(2, 3.0),
    ):
        pass
    monkeypatch.undo()
    with setup._packed(2, 1.0) as strategy:
        assert strategy.placement_group is not None


def test_agents_that_name_no_networks_to_act_with():
    agent = SimpleNamespace(algorithm="table")
    with pytest.raises(ConfigError, match="num_workers: table does not support workers; set it to 0"):
        plan_workers(RunConfig(num_workers=2), agent, 4)


def test_environments_of_workers_do_nothing_here():
    envs = make(EnvGroup(env="CartPole-v1", env_ids=(4, 5), here=False))
    assert envs.num_envs == 2 and envs.env_ids.tolist() == [4, 5] and envs.reset().shape == (2, 4)
    with pytest.raises(RuntimeError, match=r"environments are in its workers and cannot be stepped here"):
        envs.step([0, 0])
    with pytest.raises(ValueError, match="num_envs: the group has 2 environments, got num_envs=3"):
        make(EnvGroup(env="CartPole-v1", env_ids=(4, 5)), 3)


def test_ready_environments_cannot_be_sent():
    with pytest.raises(ValueError, match="workers require an env id or a function that makes the env"):
        make(EnvGroup(env=gymnasium.make("CartPole-v1"), env_ids=(0,)))


def test_weights_travel_as_one_buffer():
    arrays = {"a": np.arange(3, dtype=np.float32), "b": np.ones((2, 2)), "c": np.int64(7) * np.ones((), np.int64)}
    layout = FlatLayout(arrays)
    buffer = layout.pack(arrays)
    buffer.setflags(write=False)
    assert buffer.dtype == np.uint8
    assert not differences(arrays, layout.unpack(buffer))
    with pytest.raises(ValueError, match="weights: this process has networks of 56 bytes, got 55"):
        layout.unpack(buffer[:-1])


def test_a_node_reports_whether_it_can_make_the_environment():
    """The check that runs on every node of a cluster, without a cluster."""
    cloudpickle = pytest.importorskip("ray.cloudpickle")
    recipe = Recipe.of(PPO("CartPole-v1", seed=0, **SMALL), 1)
    assert nodes._tried(cloudpickle.dumps(recipe)) == ""
    missing = dataclasses.replace(recipe, source="Missing-v0", env_spec=None)
    assert "NameNotFound" in nodes._tried(cloudpickle.dumps(missing))
