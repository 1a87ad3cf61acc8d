"""Environments that fail are replaced alone, what they did before is kept, and the episode can be replayed."""

import contextlib
import functools
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest

from dynarl.agents import PPO
from dynarl.agents.ppo.returns import gae
from dynarl.config import RunConfig
from dynarl.distributed import PoolDegraded, Supervision, WorkerPlan, attach_workers, setup
from dynarl.distributed.fragment_validator import FragmentValidator
from dynarl.distributed.replay_failure import main as replay
from dynarl.envs import make
from dynarl.rollout import ActResult, Collector
from dynarl.train.cli import main
from tests.helpers.differences import differences
from tests.helpers.failing import Failing


class Policy:
    """V(obs) = seed + t of the observation; actions from noise."""

    noise_kind, noise_size = "normal", 1

    def act(self, obs, noise, *, explore, action_mask=None):
        return ActResult(np.tanh(noise).astype(np.float32), np.zeros(len(obs), np.float32), self.value(obs))

    def value(self, obs):
        return obs.sum(axis=1).astype(np.float32)


def fragments(how, count=4, rebuild=True):
    envs = make(lambda: Failing(how), 4, seed=5, rebuild=rebuild)
    collector = Collector(envs, Policy(), num_steps=8, seed=1)
    return envs, [collector.collect().copy() for _ in range(count)]


@pytest.mark.parametrize("how", ["raise", "nan", "shape", "reward", "text"])
def test_the_prefix_is_kept_and_cut_and_the_others_go_on(how):
    envs, parts = fragments(how)
    _, sound = fragments("never")
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    reference = {name: np.concatenate([part[name] for part in sound]) for name in sound[0]}
    failures = envs.take_failures()
    assert len(failures) == np.count_nonzero(~whole["valid"]) > 1
    for n in range(4):
        broken = np.flatnonzero(~whole["valid"][:, n])
        stop = broken[0] if len(broken) else 32
        for name in ("obs", "action", "reward", "value", "episode_start"):  # as if nothing would ever happen
            np.testing.assert_array_equal(whole[name][:stop, n], reference[name][:stop, n])
        for t in broken:
            assert whole["obs"][t, n, 1] == 4 and whole["reward"][t, n] == 0
            assert not whole["terminated"][t, n] and not whole["truncated"][t, n]
            if t % 8:  # cut at the last good step, with the value of what it reached
                assert whole["truncated"][t - 1, n] and not whole["terminated"][t - 1, n]
                assert whole["next_value"][t - 1, n] == whole["value"][t, n] == whole["obs"][t, n].sum()
            if t + 1 < 32:
                assert whole["episode_start"][t + 1, n] and whole["obs"][t + 1, n, 1] == 0
                assert whole["obs"][t + 1, n, 0] != whole["obs"][t, n, 0], "the failed episode again"
    assert envs.take_failures() == []
    assert not any(length == 4 for part in parts for length in part.episode_length), "a failed episode counts"


def test_advantages_end_where_an_environment_failed():
    _, parts = fragments("raise")
    for part in parts:
        advantages, _ = gae(
            part.reward, part.value, part.next_value, part.terminated, part.truncated,
            gamma=0.9, gae_lambda=0.8, valid=part.valid,
        )  # fmt: skip
        for t, n in np.argwhere(~part.valid):
            if t:
                delta = part.reward[t - 1, n] + 0.9 * part.value[t, n] - part.value[t - 1, n]
                assert advantages[t - 1, n] == pytest.approx(delta)
            assert advantages[t, n] == 0


def test_a_failing_reset_is_tried_in_a_new_environment():
    class Once(Failing):
        def reset(self, *, seed=None, options=None):
            if type(self).made == 1:
                raise RuntimeError("licence server is busy")
            return super().reset(seed=seed)

    Once.made = 0
    envs = make(Once, 1, seed=1, rebuild=True)
    envs.reset()
    (failure,) = envs.take_failures()
    assert Once.made == 2 and failure.actions == [] and "licence server" in failure.message


def test_one_that_never_finishes_an_episode_is_given_up():
    envs = make(lambda: Failing("raise", at=2, rate=1), 1, seed=1, rebuild=True)
    envs.reset()
    with pytest.raises(ZeroDivisionError) as caught:
        for _ in range(20):
            envs.step(np.zeros((1, 1), np.float32))
    assert "environment 0 failed in 5 episodes without finishing one" in "".join(caught.value.__notes__)


def test_without_rebuild_an_error_is_an_error():
    with pytest.raises(ZeroDivisionError, match="broken after"):
        fragments("raise", rebuild=False)


@contextlib.contextmanager
def trained(steps, *, directory=None, load=None, said=None, **kwargs):
    """An agent that learned in two groups of failing environments, its workers still there."""
    config = RunConfig(env_id="Failing-v0", env_kwargs=kwargs, envs_per_group=2)
    how = WorkerPlan(groups=2, envs_per_group=2, num_workers=0)
    source = functools.partial(gymnasium.make, "Failing-v0", **kwargs)
    agent = PPO(how.env_group(source), num_envs=4, num_steps=16, batch_size=32, seed=2)
    with attach_workers(agent, how, config, [].append if said is None else said.append, directory):
        if load is not None:
            agent.load_state_dict(load)
        while agent.iteration < steps // 64:
            agent.learn(1)
        yield agent


def test_training_goes_on_and_says_how_to_replay(tmp_path, capsys):
    said = []
    with trained(512, directory=tmp_path / "failures", said=said, how="raise") as agent:
        counters = agent.collector.counters()
    assert counters["workers/environment_failures"] == len(said) > 2
    assert counters["ledger/restarts"] == counters["ledger/lost"] == 0
    assert agent.env_steps < 512, "a row that was not made is no step"
    first = said[0]
    assert "Traceback" in first and "ZeroDivisionError: broken after" in first and "was reset with seed" in first
    command = first.partition("replay it under pdb: ")[2].partition("\n")[0].split()
    assert command[:3] == ["python", "-m", "dynarl.distributed.replay_failure"]
    record = json.loads(Path(command[3]).read_text())
    assert replay([*command[3:], "--no-pdb"]) == 0
    assert record["message"].partition(": ")[2] in capsys.readouterr().err, "the sum of its actions to the last bit"
    done = subprocess.run(
        [sys.executable, *command[1:]], input="p action[0]\nw\nq\n", capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "ZeroDivisionError" in done.stderr and "(Pdb)" in done.stdout and "failing.py" in done.stdout


def test_replaying_what_is_not_there_or_not_allowed(tmp_path, capsys):
    record = {
        "env_id": "Elsewhere-v0", "env_kwargs": {}, "entry_point": "elsewhere:Env", "episode_seed": 3,
        "actions": [], "from_reset": False, "message": "",
    }  # fmt: skip
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record))
    assert replay([str(path)]) == 2
    assert "allow its import with --allow-import elsewhere" in capsys.readouterr().err
    path.write_text(json.dumps(record | {"entry_point": "__main__:Env"}))
    assert replay([str(path)]) == 2
    assert "registered by your script" in capsys.readouterr().err
    path.write_text(json.dumps(record | {"env_id": "Failing-v0"}))
    assert replay([str(path)]) == 1
    assert "ended without the failure" in capsys.readouterr().out


def test_an_environment_that_always_fails_ends_the_run_with_its_traceback(monkeypatch):
    monkeypatch.setattr(setup, "Supervision", lambda **_: Supervision(max_failures=2, backoff=0.01))
    with (
        pytest.raises(PoolDegraded, match=r"(?s)ZeroDivisionError: broken.*environment \d failed in 5 episodes.*step"),
        trained(512, how="raise", at=1, rate=1),
    ):
        pass


def test_resumes_exactly_after_failures():
    with trained(256, how="raise") as agent:
        whole = agent.state_dict()
    with trained(128, how="raise") as agent:
        half = agent.state_dict()
    with trained(256, load=half, how="raise") as agent:
        assert not differences(whole, agent.state_dict())
    assert whole["collector"]["failures"] > half["collector"]["failures"] > 0


class Delivered:
    """A sound fragment of two environments, to be spoiled."""

    def __init__(self, env):
        self.agent = PPO(env, num_envs=2, num_steps=4, batch_size=8)
        self.agent.collector.collect()
        self.fragment = self.agent.collector.collect()
        self.check = FragmentValidator(self.agent.actor, 2)


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("obs", lambda a: a.astype(np.float64), r"obs of its fragment must be float32 \[4, 2, 4\], got float64"),
        ("reward", lambda a: a[:2], r"reward of its fragment must be float32 \[4, 2\], got float32 \[2, 2\]"),
        ("obs", lambda a: np.where(a == a[1, 1, 2], np.nan, a), r"obs\[2\] .* got nan in environment 1, step 5"),
        (
            "value",
            lambda a: a * np.inf,
            "value of its fragment must be finite, got (inf|-inf|nan) in environment 0, step 4",
        ),
        ("action", lambda a: a + 1, r"action of its fragment must lie in \[0, 2\), got 1 to 2|got 0 to 2"),
        ("terminated", lambda a: a.astype(np.float32), "terminated of its fragment must be bool"),
    ],
)
def test_fragments_that_nothing_may_learn_from(name, spoil, message):
    delivered = Delivered("CartPole-v1")
    delivery = SimpleNamespace(fragment=delivered.fragment)
    assert delivered.check(delivery) is None
    dict.__setitem__(delivered.fragment, name, spoil(delivered.fragment[name]))
    assert re.search(message, delivered.check(delivery))


def test_the_command_line_says_in_the_end_what_is_wrong(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(setup, "Supervision", lambda **_: Supervision(max_failures=2, backoff=0.01))
    options = ["--env-id", "Failing-v0", "--env-kwargs", "{how: raise, at: 1, rate: 1}", "--envs-per-group", "1"]
    options += ["--num-envs", "2", "--num-steps", "16", "--batch-size", "32", "--run-dir", str(tmp_path / "run")]
    assert main(PPO, options) == 1
    said = capsys.readouterr().err
    assert "error: worker 0 with group 0, 1 failed 2 times in a row" in said
    assert "replay it under pdb: python -m dynarl.distributed.replay_failure" in said
    assert len(list((tmp_path / "run" / "failures").iterdir())) > 4
