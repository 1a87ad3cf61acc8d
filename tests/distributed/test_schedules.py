"""Pipelined and asynchronous PPO: what is learned from, how old it is, and what that depends on."""

import numpy as np
import pytest

from dynarl.agents import PPO
from dynarl.config import RunConfig
from dynarl.distributed import AsyncCollector, LocalTransport, WorkerPlan
from dynarl.train import run
from tests.helpers.differences import differences
from tests.helpers.in_process import Shuffled, attach_workers_here

SMALL = {"num_envs": 4, "num_steps": 16, "batch_size": 32, "num_epochs": 2}
POLICIES = {
    "plain": {},
    "normalised": {"normalize_obs": True, "normalize_reward": True},
    "lstm": {"recurrent": "lstm", "recurrent_hidden_size": 8, "sequence_length": 8},
}


class SlowFirst(LocalTransport):
    """Runs the oldest call of the first worker only at every `pause`-th turn."""

    pause = 12

    def __init__(self):
        super().__init__()
        self.turn = 0

    def wait(self, refs, timeout):
        self.turn += 1
        refs = sorted(refs, key=lambda ref: self._calls[ref][0] is self._hosts[0])
        return [refs[-1 if self.turn % self.pause == 0 else 0]] if refs else super().wait(refs, timeout)


def learned(num_workers, steps=256, *, transport=LocalTransport, each=1, load=None, see=None, run_config=None, **more):
    """Train over the groups, all in this process, and return the agent's state."""
    config = RunConfig(**{"pipeline": True, "envs_per_group": each, **(run_config or {})})
    how = WorkerPlan(groups=SMALL["num_envs"] // each, envs_per_group=each, num_workers=num_workers)
    agent = PPO(how.env_group("CartPole-v1"), seed=3, **{**SMALL, **more})
    with attach_workers_here(agent, how, config, transport) as collector:
        if load is not None:
            agent.load_state_dict(load)
        agent.learn(steps, on_iteration=None if see is None else lambda metrics: see(collector, metrics))
        return agent.state_dict()


# -- pipelined --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_pipelined_gives_the_same_bytes_for_any_number_of_workers_and_any_order(policy):
    reference = learned(1, **POLICIES[policy])
    assert not differences(reference, learned(2, transport=Shuffled, **POLICIES[policy]))
    assert not differences(reference, learned(4, transport=Shuffled, **POLICIES[policy]))


def test_pipelined_lags_by_exactly_one():
    lags = []
    learned(2, see=lambda collector, metrics: lags.append(metrics["lag/max"]))
    assert lags == [0, 1, 1, 1]


def test_pipelined_is_acting_with_the_weights_before():
    """Written out: one agent acts, another learns, and the weights arrive one batch late."""
    acting, learner = PPO("CartPole-v1", seed=3, **SMALL), PPO("CartPole-v1", seed=3, **SMALL).learner
    ahead = acting.collector.collect().copy()
    for _ in range(4):
        fragment = ahead
        ahead = acting.collector.collect().copy()  # batch k + 1, before the learner has learned from batch k
        learner.update(fragment)
        acting.policy.load_state_dict(learner.policy.state_dict())
    state = learned(1, each=4)
    for name, value in learner.policy.state_dict().items():
        np.testing.assert_array_equal(state["policy"][name], value.numpy())


@pytest.mark.parametrize("policy", POLICIES)
def test_pipelined_resumes_exactly(policy):
    whole = learned(2, 256, **POLICIES[policy])
    half = learned(4, 128, **POLICIES[policy])
    assert len(half["collector"]["stream"]["waiting"]) == 4
    resumed = learned(1, 128, load=half, **POLICIES[policy])
    assert not differences(whole, resumed)


def test_pipelined_goes_on_in_another_split():
    half = learned(2, 128)
    state = learned(1, 128, load=half, each=2)
    assert state["env_steps"] == 256


# -- asynchronous -----------------------------------------------------------------------------------------------------

ASYNC = {"pipeline": False, "asynchronous": True}


@pytest.mark.parametrize("policy", POLICIES)
def test_asynchronous_counts_every_fragment_once(policy):
    seen = []

    def see(collector, metrics):
        collector.pool.ledger.check()
        seen.append((metrics["lag/mean"], metrics["lag/max"], metrics["vtrace/rho"]))

    state = learned(4, 512, transport=SlowFirst, see=see, run_config=ASYNC, **POLICIES[policy])
    assert state["env_steps"] == 512 and state["iteration"] == 8
    assert seen[0][1] == 0 and seen[0][2] == pytest.approx(1, abs=1e-4)  # on-policy to begin with
    assert max(lag for _, lag, _ in seen) <= 4 and seen[-1][0] > 0
    assert all(0.5 < rho <= 1 for *_, rho in seen)
    ledger = state["collector"]["accounts"]
    assert ledger["trained"] == 32 and ledger["requested"] == ledger["delivered"] + ledger["lost"]


def test_stale_fragments_are_dropped_and_counted():
    found = {}

    def see(collector, metrics):
        assert metrics["lag/max"] <= 1
        found.update(stale=collector.pool.ledger.stale, trained=collector.pool.ledger.trained)

    state = learned(4, 1024, transport=SlowFirst, see=see, run_config={**ASYNC, "max_lag": 1})
    assert found["stale"] > 0 and found["trained"] == 4 * state["iteration"]
    # the steps of dropped fragments were made, and are counted
    assert state["env_steps"] == 16 * (found["stale"] + found["trained"])


def test_at_lag_zero_asynchronous_is_ppo():
    """V-trace at equal policies is GAE, so the first update is that of plain PPO."""
    plain = PPO("CartPole-v1", seed=3, **SMALL).learn(64).policy.state_dict()
    state = learned(1, 64, each=4, run_config=ASYNC)
    for name, value in plain.items():
        np.testing.assert_allclose(state["policy"][name], value.numpy(), atol=2e-4)


def test_asynchronous_resumes_with_what_was_learned():
    half = learned(2, 128, run_config=ASYNC)
    state = learned(2, 128, load=half, run_config=ASYNC)
    assert state["env_steps"] == 256 and state["iteration"] == 4
    assert state["collector"]["accounts"]["lost"] > 0


def test_ray_actors_pipelined_and_asynchronous(ray_cluster, tmp_path):
    base = {"envs_per_group": 2, "cpus_per_worker": 0, "total_steps": 256, "eval_every": 0, "eval_episodes": 1}
    arrays = []
    for name, options in {
        "two": {"num_workers": 2, "pipeline": True},
        "here": {"pipeline": True},
        "async": {"num_workers": 2, "asynchronous": True},
    }.items():
        config = RunConfig(**base, **options, log_every=0, run_dir=str(tmp_path / name))
        assert run(PPO, config, PPO.config_class(**SMALL))["env_steps"] >= 256
        (path,) = (tmp_path / name / "checkpoints").iterdir()
        arrays.append((path / "arrays.safetensors").read_bytes())
    assert arrays[0] == arrays[1] != arrays[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"pipeline": True, "asynchronous": True, "num_workers": 2},
            "at most one of pipeline and asynchronous may be true, got both",
        ),
        ({"pipeline": True}, "pipeline: requires num_workers >= 1 or envs_per_group, got num_workers 0"),
        ({"asynchronous": True}, "asynchronous: requires num_workers >= 1 or envs_per_group, got num_workers 0"),
        ({"max_lag": 3, "num_workers": 2}, "max_lag: must be at least 1 and needs asynchronous, got 3"),
        ({"max_lag": 0, "num_workers": 2, "asynchronous": True}, "max_lag: must be at least 1"),
    ],
)
def test_options_that_no_run_can_have(options, message):
    with pytest.raises(ValueError, match=message):
        RunConfig(**options)


def test_a_limit_below_what_is_possible():
    with pytest.raises(ValueError, match="max_lag must be at least 1, got 0"):
        AsyncCollector(None, None, groups=1, max_lag=0)
