"""DQN's gradient step on stacked frames 4 x 84 x 84 by NatureCNN: draw, targets, loss, backward, clipping and Adam."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from benchmarks.timing import Contestants, Goal, Report

SHAPE, ACTIONS, BATCH, STORED = (4, 84, 84), 6, 32, 2000


class Frames(gymnasium.Env[Any, Any]):
    """Random frames: only the update is measured."""

    observation_space = gymnasium.spaces.Box(0, 255, SHAPE, np.uint8)
    action_space = gymnasium.spaces.Discrete(ACTIONS)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self._draw(), {}

    def step(self, action: Any) -> Any:
        return self._draw(), 0.0, bool(self.np_random.random() < 0.01), False, {}

    def _draw(self) -> Any:
        return self.np_random.integers(0, 256, SHAPE, np.uint8)


def dynarl_update() -> Callable[[], Any]:
    """Return the step of dynarl's agent: float32 images made of the replay's bytes."""
    from dynarl.agents import DQN

    agent = DQN(Frames(), seed=0, batch_size=BATCH, buffer_size=STORED, learning_starts=STORED, hidden_sizes=())
    agent.learn(STORED + 4)
    agent.learner.measures = False
    return lambda: agent.learner.update(agent.sample())


def torch_update(torch: Any) -> Callable[[], Any]:
    """Return the same step in torch eager, as single-file implementations write it, from a ring of frames."""
    nn, functional = torch.nn, torch.nn.functional
    network = nn.Sequential(
        nn.Conv2d(4, 32, 8, stride=4), nn.ReLU(),
        nn.Conv2d(32, 64, 4, stride=2), nn.ReLU(),
        nn.Conv2d(64, 64, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, ACTIONS),
    )  # fmt: skip
    target = copy.deepcopy(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (STORED, *SHAPE), np.uint8)
    action, reward = rng.integers(0, ACTIONS, STORED), rng.normal(size=STORED).astype(np.float32)
    terminated = (rng.random(STORED) < 0.01).astype(np.float32)

    def update() -> Any:
        index = rng.integers(0, STORED - 1, BATCH)
        obs, next_obs, rewards, ends, actions = (
            torch.as_tensor(array) for array in (frames[index], frames[index + 1], reward[index], terminated[index],
                                                 action[index])
        )  # fmt: skip
        with torch.no_grad():
            td_target = rewards + 0.99 * (1.0 - ends) * target(next_obs.float() / 255.0).max(dim=1).values
        q = network(obs.float() / 255.0).gather(1, actions[:, None]).squeeze(1)
        loss = functional.smooth_l1_loss(q, td_target)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        return loss

    return update


def sb3_update() -> Callable[[], Any] | None:
    """Return the step of Stable-Baselines3's agent, None where it is not installed."""
    try:
        from stable_baselines3 import DQN
    except ImportError:
        return None
    agent = DQN("CnnPolicy", Frames(), seed=0, buffer_size=STORED, learning_starts=STORED, device="cpu")
    agent.learn(STORED + 4)
    return lambda: agent.train(1, BATCH)


def section(report: Report, libs: dict[str, Any]) -> None:
    """One whole update at batch 32."""
    contestants: Contestants = {"dynarl": dynarl_update()}
    if "torch" in libs:
        contestants["torch"] = torch_update(libs["torch"])
        if (theirs := sb3_update()) is not None:
            contestants["sb3"] = theirs
    note = "matrix products and their columns"
    report.add("images", f"DQN update, NatureCNN, batch {BATCH}", contestants, [Goal(1.0, "torch")], note)
