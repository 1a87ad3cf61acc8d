"""DQN and SAC whose replay is filled by workers: what is stored, in which order, and what that depends on."""

import numpy as np
import pytest

import dynarl
from dynarl.agents import DQN, SAC
from dynarl.config import ConfigError, RunConfig
from dynarl.distributed import LocalTransport, WorkerLost, WorkerPlan, plan_workers
from dynarl.train import run
from tests.helpers.differences import differences
from tests.helpers.in_process import Shuffled, attach_workers_here

COMMON = {"num_envs": 4, "learning_starts": 40, "buffer_size": 2000, "batch_size": 16, "fragment_steps": 8}
AGENTS = {
    "dqn": (DQN, "CartPole-v1", {"train_freq": 4, "gradient_steps": 2, "epsilon_steps": 200, "epsilon_alpha": 3.0}),
    "rainbow": (DQN, "CartPole-v1", {"prioritized": True, "n_step": 3, "double": True, "noisy": True}),
    "sac": (SAC, "Pendulum-v1", {"train_freq": 2, "hidden_sizes": (16,)}),
    "discrete sac": (SAC, "CartPole-v1", {"train_freq": 4, "n_step": 3, "hidden_sizes": (16,)}),
}


def learned(name, num_workers, steps=256, *, transport=LocalTransport, each=1, load=None, see=None, **more):
    """Train over the groups, all in this process, and return the agent's state."""
    agent_cls, env, own = AGENTS[name]
    how = WorkerPlan(groups=COMMON["num_envs"] // each, envs_per_group=each, num_workers=num_workers)
    agent = agent_cls(how.env_group(env), seed=3, **{**COMMON, **own, **more})
    with attach_workers_here(agent, how, RunConfig(envs_per_group=each), transport):
        if load is not None:
            agent.load_state_dict(load)
        agent.learn(steps, on_iteration=None if see is None else lambda metrics: see(agent, metrics))
        return agent.state_dict()


@pytest.mark.parametrize("name", AGENTS)
def test_same_bytes_for_any_number_of_workers_and_any_order(name):
    reference = learned(name, 1)
    assert reference["grad_steps"] > 0
    assert not differences(reference, learned(name, 2, transport=Shuffled))
    assert not differences(reference, learned(name, 4, transport=Shuffled))


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("half", [128, 152])  # 152: in the middle of a round of groups
def test_resumes_exactly(name, half):
    whole = learned(name, 2, 256)
    state = learned(name, 4, half)
    assert not differences(whole, learned(name, 1, 256 - state["env_steps"], load=state))


def test_updates_follow_the_ratio():
    seen = []
    learned("dqn", 2, 400, see=lambda agent, metrics: seen.append((agent.env_steps, agent.grad_steps)))
    for env_steps, grad_steps in seen:
        assert grad_steps == max(0, (env_steps - 40) * 2 // 4) // 2 * 2
    assert [steps for steps, _ in seen] == list(range(8, 401, 8))  # one fragment of one environment at a time


def test_the_replay_holds_each_environments_steps_in_order():
    """What workers stored is what one agent with the same weights would have: compared before learning starts."""
    state = learned("dqn", 2, 320, learning_starts=319)["replay"]
    alone = DQN("CartPole-v1", seed=3, **{**COMMON, "learning_starts": 319}).learn(320).state_dict()["replay"]
    for name in ("obs", "action", "reward", "terminated", "ended"):
        rows = (320 // 4) * 4
        np.testing.assert_array_equal(state[name][:rows], alone[name][:rows])


def test_every_environment_explores_by_its_own_epsilon():
    how = WorkerPlan(groups=2, envs_per_group=2, num_workers=1)
    options = {**COMMON, "epsilon_alpha": 7.0, "epsilon_initial": 0.4, "epsilon_final": 0.4}
    learner = DQN(how.env_group("CartPole-v1"), seed=0, **options)
    learner.env_steps = 100
    config, ids = learner.acting_config(2), np.array([2, 3])
    worker = DQN.make_actor(learner.observation_space, learner.action_space, config)
    worker.load_acting_state(learner.actor.acting_state())
    np.testing.assert_allclose(worker.epsilons(ids), [0.4 ** (1 + 7 * 2 / 3), 0.4**8])
    np.testing.assert_allclose(learner.actor.epsilons(np.arange(4)), [0.4 ** (1 + 7 * i / 3) for i in range(4)])
    learner.env_steps = 0
    worker.load_acting_state(learner.actor.acting_state())
    np.testing.assert_array_equal(worker.epsilons(ids), [1, 1])
    assert config.buffer_size < learner.config.buffer_size


@pytest.mark.parametrize("agent_cls", [DQN, SAC])
def test_programs_with_a_state_learn_from_workers(agent_cls):
    from dynarl import nn
    from dynarl.distributions import Categorical

    class Memory(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = nn.GRUCell(4, 8), nn.Linear(8, 2)

        def initial_state(self):
            return dynarl.zeros(8)

        def forward(self, obs, state, feedback):
            state = self.cell(obs, state)
            head = self.head(state)
            return Categorical(logits=head) if agent_cls is SAC else head, state

    agents = []
    for workers in (1, 2):
        how = WorkerPlan(groups=2, envs_per_group=1, num_workers=workers)
        agent = agent_cls(
            how.env_group("CartPole-v1"), policy=Memory, seed=1, num_envs=2, learning_starts=32, batch_size=8,
            sequence_length=4, buffer_size=500, fragment_steps=8,
        )  # fmt: skip
        with attach_workers_here(agent, how, RunConfig(envs_per_group=1), Shuffled):
            agent.learn(128)
            agents.append(agent.state_dict())
    assert agents[0]["grad_steps"] > 0 and not differences(*agents)


class Flaky(LocalTransport):
    """Loses the worker of every 17th call."""

    calls = 0

    def get(self, ref):
        self.calls += 1
        if self.calls % 17 == 0:
            del self._calls[ref]
            raise WorkerLost("gone")
        return super().get(ref)


def test_workers_that_are_lost_leave_whole_episodes_behind():
    ledger = {}
    state = learned("dqn", 2, 512, transport=Flaky, see=lambda agent, _: ledger.update(agent.collector.counters()))
    assert state["env_steps"] == 512 and ledger["ledger/restarts"] > 1 and ledger["ledger/lost"] > 0
    replay = state["replay"]
    # where a new incarnation began the episode before is cut: inside of one the cart moves by its speed
    obs, ended = replay["obs"].reshape(-1, 4, 4), replay["ended"].reshape(-1, 4)
    for env in range(4):
        used = int(replay["head"][env])
        position, speed = obs[: used + 1, env, 0], obs[: used + 1, env, 1]
        jumps = np.abs(position[1:] - position[:-1] - 0.02 * speed[:-1]) > 1e-5
        assert jumps.any() and not (jumps & ~ended[:used, env]).any()


def test_a_run_goes_on_without_workers_and_back():
    half = learned("dqn", 2, 128)
    alone = DQN("CartPole-v1", seed=3, **{**COMMON, **AGENTS["dqn"][2]})
    alone.load_state_dict(half)
    alone.learn(128)
    assert alone.env_steps >= 256
    again = learned("dqn", 2, 64, load=alone.state_dict())
    assert again["env_steps"] >= 320 and again["grad_steps"] > alone.grad_steps


def test_ray_actors_fill_the_replay(ray_cluster, tmp_path):
    arrays = []
    for workers in (2, 0):
        config = RunConfig(
            num_workers=workers, envs_per_group=1, cpus_per_worker=0, total_steps=320, eval_every=0,
            eval_episodes=1, log_every=0, run_dir=str(tmp_path / str(workers)),
        )  # fmt: skip
        options = {**COMMON, **AGENTS["dqn"][2], "num_envs": 2}
        assert run(DQN, config, DQN.config_class(**options))["env_steps"] == 320
        (path,) = (tmp_path / str(workers) / "checkpoints").iterdir()
        arrays.append((path / "arrays.safetensors").read_bytes())
    assert arrays[0] == arrays[1]


def test_every_worker_gets_an_environment(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("dynarl.train.training.make_agent", lambda cls, config, agent_config, split: 1 / 0)
    config = RunConfig(num_workers=4, run_dir=str(tmp_path / "run"))
    with pytest.raises(ZeroDivisionError):
        run(DQN, config, DQN.config_class())
    assert "num_envs 1 -> 4: one environment for each worker" in capsys.readouterr().out


def test_schedules_of_ppo_are_refused():
    with pytest.raises(ConfigError, match="pipeline: the workers of dqn always collect while it learns"):
        plan_workers(RunConfig(num_workers=2, pipeline=True), DQN, 2)
    with pytest.raises(ConfigError, match="asynchronous: the workers of sac always collect"):
        plan_workers(RunConfig(num_workers=2, asynchronous=True), SAC, 2)


def test_no_negative_spread():
    with pytest.raises(ValueError, match="epsilon_alpha: must be at least 0, got -1"):
        DQN.config_class(epsilon_alpha=-1.0)
    with pytest.raises(ValueError, match="fragment_steps"):
        SAC.config_class(fragment_steps=0)
