"""A small agent with everything a run needs: REINFORCE with a linear policy, its own stream, its own env."""

from dataclasses import dataclass
from typing import NamedTuple

import gymnasium
import numpy as np

from dynarl.checkpoint.compatibility import check, describe


@dataclass(frozen=True, kw_only=True)
class TinyConfig:
    """Hyperparameters of the tiny agent."""

    learning_rate: float = 1e-2
    """Step size of the gradient ascent."""
    num_steps: int = 64
    """Environment steps of one iteration."""
    poison_at: int = 0
    """Iteration whose loss is NaN (0: none)."""
    poison_weight_at: int = 0
    """Iteration that makes a weight NaN (0: none)."""
    slow: float = 0.0
    """Seconds to sleep in each iteration."""

    def __post_init__(self):
        if self.num_steps < 1:
            raise ValueError(f"num_steps: must be at least 1, got {self.num_steps}")


class Evaluation(NamedTuple):
    mean: float
    std: float
    returns: np.ndarray
    lengths: np.ndarray


class TinyAgent:
    """REINFORCE on a Discrete action space."""

    algorithm = "tiny"
    config_class = TinyConfig

    def __init__(self, env, *, seed=0, device="cpu", config=None):
        self._make = env if callable(env) else lambda: gymnasium.make(env)
        self.config, self.seed = config or TinyConfig(), seed
        self.env = self._make()
        self.observation_space, self.action_space = self.env.observation_space, self.env.action_space
        if not hasattr(self.action_space, "n"):
            raise ValueError(f"tiny: action space must be Discrete, got {self.action_space}")
        self.rng = np.random.Generator(np.random.Philox(seed))
        self.weight = np.zeros((self.observation_space.shape[0], int(self.action_space.n)), np.float32)
        self.env_steps = self.grad_steps = self.iteration = 0
        self.obs, _ = self.env.reset(seed=seed)
        self.episode = [0.0, 0]

    def _probs(self, obs):
        logits = np.asarray(obs, np.float32) @ self.weight
        p = np.exp(logits - logits.max())
        return p / p.sum()

    def learn(self, total_steps, on_iteration=None):
        end = self.env_steps + total_steps
        while self.env_steps < end:
            metrics = self._iterate()
            if on_iteration is not None and on_iteration(metrics) is False:
                return

    def _iterate(self):
        import time

        time.sleep(self.config.slow)
        ended = []
        gradient = np.zeros_like(self.weight)
        entropy = 0.0
        for _ in range(self.config.num_steps):
            p = self._probs(self.obs)
            action = int(self.rng.random() > p[0])
            entropy -= float((p * np.log(p)).sum())
            gradient += np.outer(self.obs, np.eye(len(p))[action] - p).astype(np.float32)
            self.obs, reward, terminated, truncated, _ = self.env.step(action)
            self.episode = [self.episode[0] + float(reward), self.episode[1] + 1]
            if terminated or truncated:
                ended.append(self.episode)
                self.episode = [0.0, 0]
                self.obs, _ = self.env.reset()
        self.env_steps += self.config.num_steps
        self.iteration += 1
        self.grad_steps += 1
        self.weight += self.config.learning_rate * gradient / self.config.num_steps
        if self.iteration == self.config.poison_weight_at:
            self.weight[0, 0] = np.nan
        loss = float("nan") if self.iteration == self.config.poison_at else float(np.abs(gradient).sum())
        return {
            "train/loss": loss,
            "train/entropy": entropy / self.config.num_steps,
            "train/explained_variance": float("nan"),
            "train/gradient": gradient.ravel(),
            "episode/return": [e[0] for e in ended],
            "episode/length": [e[1] for e in ended],
        }

    def evaluate(self, episodes=100, *, seed=None):
        env = self._make()
        returns, lengths = np.zeros(episodes), np.zeros(episodes, int)
        for i in range(episodes):
            obs, _ = env.reset(seed=((self.seed if seed is None else seed) * 1000 + i) % 2**31)
            ended = False
            while not ended:
                obs, reward, terminated, truncated, _ = env.step(int(np.argmax(self._probs(obs))))
                returns[i] += reward
                lengths[i] += 1
                ended = terminated or truncated
        env.close()
        return Evaluation(float(returns.mean()), float(returns.std()), returns, lengths)

    def describe(self):
        counters = {name: getattr(self, name) for name in ("env_steps", "grad_steps", "iteration")}
        spaces = self.observation_space, self.action_space
        return {**describe(self.algorithm, self.config, *spaces, counters), "seed": self.seed, "env_id": None}

    def state_dict(self):
        inner = self.env.unwrapped
        return {
            "policy": {"weight": self.weight},
            "counters": {"env_steps": self.env_steps, "iteration": self.iteration, "grad": self.grad_steps},
            "rng": self.rng.bit_generator.state,
            "env": {
                "state": np.array(inner.state),
                "elapsed": self.env.get_wrapper_attr("_elapsed_steps"),
                "rng": inner.np_random.bit_generator.state,
                "obs": np.asarray(self.obs),
                "episode": list(self.episode),
            },
        }

    def restore(self, meta, state, *, where="load"):
        check(meta, self.algorithm, self.observation_space, self.action_space)
        self.load_state_dict(state)
        return []

    def load_state_dict(self, state):
        self.weight = state["policy"]["weight"]
        counters = state["counters"]
        self.env_steps, self.iteration, self.grad_steps = (
            counters["env_steps"],
            counters["iteration"],
            counters["grad"],
        )
        self.rng.bit_generator.state = state["rng"]
        env, inner = state["env"], self.env.unwrapped
        inner.state = tuple(env["state"])
        self.env._elapsed_steps = env["elapsed"]
        inner.np_random.bit_generator.state = env["rng"]
        self.obs, self.episode = env["obs"], list(env["episode"])
