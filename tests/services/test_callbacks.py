"""Callbacks in learn() and in runs."""

import numpy as np
import pytest

from dynarl import checkpoint, train
from dynarl.agents import PPO, Evaluation, PPOConfig
from dynarl.callbacks import (
    Callback,
    Callbacks,
    CheckpointCallback,
    Evaluate,
    Every,
    StopAtReturn,
    StopOnNoImprovement,
)
from dynarl.checkpoint.series import latest
from dynarl.config import RunConfig

SMALL = {"num_envs": 2, "num_steps": 32, "batch_size": 64, "num_epochs": 1, "hidden_sizes": (8,)}


class Counting:
    """An agent as far as callbacks see one: evaluations return the given means, one after the other."""

    def __init__(self, *means):
        self.means, self.env_steps, self.saved, self.episodes = list(means), 0, [], []

    def evaluate(self, episodes, *, seed=None):
        self.episodes.append(episodes)
        return Evaluation(self.means.pop(0), 0.5, np.zeros(episodes), np.full(episodes, 7))

    def save(self, path):
        self.saved.append((self.env_steps, path))
        return path

    def run(self, callback, steps, size=10):
        callback.begin(self)
        for _ in range(steps):
            self.env_steps += size
            if callback.on_iteration(self, {}) is False:
                return self.env_steps
        return None


def test_every_is_due_once_per_multiple_passed():
    every = Every(25)
    every.begin(30)
    assert [steps for steps in range(40, 140, 10) if every.due(steps)] == [50, 80, 100, 130]
    never = Every(0)
    assert not any(never.due(steps) for steps in range(100))
    with pytest.raises(ValueError, match="every: must be at least 0 environment steps, got -1"):
        Every(-1)


def test_evaluate_keeps_the_best(tmp_path):
    agent, evaluate = Counting(1.0, 3.0, 2.0, 3.0), Evaluate(20, episodes=4, best_path=tmp_path / "best")
    agent.run(evaluate, 8)
    assert agent.saved == [(20, tmp_path / "best"), (40, tmp_path / "best")]
    assert (evaluate.best, evaluate.latest.mean, agent.episodes) == (3.0, 3.0, [4] * 4)
    metrics = {}
    agent.means, agent.env_steps = [5.0], 100
    evaluate.on_iteration(agent, metrics)
    assert metrics == {"eval/mean_reward": 5.0, "eval/std_reward": 0.5, "eval/mean_ep_length": 7.0}
    with pytest.raises(ValueError, match="episodes: must be at least 1, got 0"):
        Evaluate(1, episodes=0)


def test_stopping():
    goal = StopAtReturn(2.0)
    assert Counting(1.0, 2.0, 9.0).run(Callbacks([Evaluate(10), goal]), 3) == 20 and goal.reached
    confirmed = Counting(3.0, 1.0, 3.0, 2.5)  # the first confirmation disagrees
    assert confirmed.run(Callbacks([Evaluate(10, episodes=2), StopAtReturn(2.0, confirm_episodes=50)]), 3) == 20
    assert confirmed.episodes == [2, 50, 2, 50]
    assert Counting(1, 2, 2, 1, 5).run(Callbacks([Evaluate(10), StopOnNoImprovement(2)]), 5) == 40
    assert Counting(1, 0, 0, 0, 5).run(Callbacks([Evaluate(10), StopOnNoImprovement(2, warmup=3)]), 4) is None
    with pytest.raises(ValueError, match="goal: must be a number, got nan"):
        StopAtReturn(float("nan"))
    with pytest.raises(ValueError, match="patience must be at least 1 and warmup at least 0, got 0 and 0"):
        StopOnNoImprovement(0)


def test_state_of_callbacks():
    first = Callbacks([Evaluate(10), StopOnNoImprovement(3)])
    Counting(2.0, 1.0).run(first, 2)
    second = Callbacks([Evaluate(10), StopOnNoImprovement(3)])
    second.load_state_dict(first.state_dict())
    assert Counting(1.0, 1.0).run(second, 2) == 20
    Callbacks([StopOnNoImprovement(1)]).load_state_dict(first.state_dict())  # another one at that place: fresh
    with pytest.raises(
        TypeError, match=r"callbacks: must be objects of a class derived from .*Callback, or functions .*, got int"
    ):
        Callbacks([3])


def test_learn_with_callbacks(tmp_path):
    seen = []
    saving = CheckpointCallback(100, tmp_path, keep=2)
    agent = PPO("CartPole-v1", **SMALL)
    agent.learn(640, callbacks=[saving, lambda agent, metrics: seen.append(agent.env_steps)])
    assert seen == list(range(64, 641, 64))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckpt-000000000512", "ckpt-000000000640"]
    assert PPO.load(saving.path).env_steps == 640
    assert agent.learn(1000, callbacks=lambda agent, metrics: False).env_steps == 704
    with pytest.raises(ValueError, match="keep: must be at least 1, got 0"):
        CheckpointCallback(1, tmp_path, keep=0)


def test_end_is_called_after_an_error():
    class Failing(Callback):
        ended = False

        def on_iteration(self, agent, metrics):
            raise ZeroDivisionError

        def end(self, agent):
            self.ended = True

    failing = Failing()
    with pytest.raises(ZeroDivisionError):
        PPO("CartPole-v1", **SMALL).learn(100, callbacks=failing)
    assert failing.ended


def run_config(path, **changes):
    common = {"env_id": "CartPole-v1", "total_steps": 1280, "eval_every": 128, "periodic_eval_episodes": 1}
    return RunConfig(run_dir=str(path), eval_episodes=2, progress=False, tensorboard=False, **{**common, **changes})


def test_a_run_stops_without_improvement_also_when_resumed(tmp_path):
    config = PPOConfig(**SMALL, learning_rate=1e-9)  # learns nothing, so evaluations repeat
    whole = train.run(PPO, run_config(tmp_path / "whole", stop_without_improvement=4), config)
    assert (whole["stopped_by"], whole["env_steps"]) == ("stop_without_improvement", 640)
    parts = {"stop_without_improvement": 4}
    assert train.run(PPO, run_config(tmp_path / "parts", total_steps=384, **parts), config)["env_steps"] == 384
    assert train.run(PPO, run_config(tmp_path / "parts", resume=True, **parts), config)["env_steps"] == 640
    with pytest.raises(ValueError, match="stop_without_improvement: must be at least 1 and needs evaluations"):
        RunConfig(stop_without_improvement=3, eval_every=0)


def test_a_runs_own_callbacks(tmp_path):
    class Remember(Callback):
        def __init__(self):
            self.seen = []

        def on_iteration(self, agent, metrics):
            self.seen.append((agent.env_steps, metrics.get("eval/mean_reward")))
            return len(self.seen) < 5

        def state_dict(self):
            return {"seen": [list(pair) for pair in self.seen]}

        def load_state_dict(self, state):
            self.seen = [tuple(pair) for pair in state["seen"]]

    mine = Remember()
    summary = train.run(PPO, run_config(tmp_path / "r"), PPOConfig(**SMALL), callbacks=[mine])
    assert (summary["stopped_by"], summary["env_steps"]) == ("callback", 320)
    assert [score is not None for _, score in mine.seen] == [False, True, False, True, False]
    found = latest(tmp_path / "r")
    assert len(found.meta["run"]["callbacks"]["callbacks"]["0.Remember"]["seen"]) == 5
    resumed = Remember()
    train.run(PPO, run_config(tmp_path / "r", resume=True), PPOConfig(**SMALL), callbacks=[resumed])
    assert resumed.seen[:5] == mine.seen and len(resumed.seen) == 6
    assert checkpoint.load(found.path).meta["env_steps"] == 320
