"""PPO end to end with a policy that thinks as long as it needs: batched by dynarl, and one sample at a time in torch.

Both run the same environments with the same settings. The other side is what one writes in torch for such a policy:
a loop over the samples, their outputs stacked, and one loss per minibatch.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.dynamic import MAX_PONDER, WIDTH, layers_of, tanh_layer, weights_of
from benchmarks.timing import Goal, Report, Row

ENV, OBS, ACTIONS = "CartPole-v1", 4, 2
SETTINGS: dict[str, Any] = {"num_envs": 8, "num_steps": 128, "batch_size": 256, "num_epochs": 4}
LEARNING_RATE, GAMMA, LAMBDA, CLIP, VF_COEF, MAX_NORM, EPS = 3e-4, 0.99, 0.95, 0.2, 0.5, 0.5, 1e-5


def ponder_weights() -> Any:
    return weights_of(
        np.random.default_rng(0), enc=(OBS, WIDTH), cell=(WIDTH, WIDTH), halt=(WIDTH, 1, 9.0, -2.0),
        head=(WIDTH, ACTIONS, 0.01), critic=(WIDTH, 1),
    )  # fmt: skip


def ponder(lib: Any, output: Callable[[Any, Any], Any]) -> Any:
    """Return a policy for one observation [4]: adaptive computation time, then logits and value."""
    net = layers_of(lib, ponder_weights())

    class Ponder(lib.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.enc, self.cell = tanh_layer(lib, net["enc"]), tanh_layer(lib, net["cell"])
            self.halt, self.head, self.critic = net["halt"], net["head"], net["critic"]

        def forward(self, obs: Any) -> Any:
            h, total, y, n = self.enc(obs), 0.0, 0.0, 0
            while True:
                h, n = self.cell(h), n + 1
                p = self.halt(h)[0].sigmoid()
                if n == MAX_PONDER or total + p > 0.99:
                    break
                y, total = y + h * p, total + p
            y = y + h * (1 - total)
            return output(self.head(y), self.critic(y)[0])

    return Ponder()


def dynarl_seconds(iterations: int) -> float:
    """Return seconds per environment step of `agent.learn`."""
    import dynarl
    from dynarl.agents import PPO
    from dynarl.distributions import Categorical

    policy = ponder(dynarl, lambda logits, value: (Categorical(logits=logits, validate_args=False), value))
    agent = PPO(ENV, policy=policy, seed=0, **SETTINGS)
    rows = SETTINGS["num_envs"] * SETTINGS["num_steps"]
    agent.learn(rows)
    begin = perf_counter()
    agent.learn((1 + iterations) * rows)
    return (perf_counter() - begin) / (iterations * rows)


class TorchPPO:
    """The same PPO with torch's autograd and a loop over samples."""

    def __init__(self) -> None:
        import torch

        from dynarl.envs import make

        self.torch, self.policy = torch, ponder(torch, lambda logits, value: (logits, value))
        self.envs = make(ENV, SETTINGS["num_envs"], seed=0)
        self.envs.reset()
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=LEARNING_RATE, eps=EPS)
        self.rng = np.random.default_rng(0)

    def evaluate(self, obs: Any) -> tuple[Any, Any]:
        """Return (distribution, values) of observations [B, 4], one after the other."""
        torch = self.torch
        logits, values = zip(*[self.policy(x) for x in torch.as_tensor(np.asarray(obs, np.float32))])
        return torch.distributions.Categorical(logits=torch.stack(logits), validate_args=False), torch.stack(values)

    def iteration(self) -> None:
        """Collect a fragment and learn from it."""
        from dynarl.agents.ppo.returns import gae

        torch, steps = self.torch, []
        for _ in range(SETTINGS["num_steps"]):
            obs = np.array(self.envs.obs, np.float32)
            with torch.no_grad():
                distribution, value = self.evaluate(obs)
                action = distribution.sample()
                log_prob = distribution.log_prob(action)
            step = self.envs.step(action.numpy())
            steps.append((obs, action, log_prob, value, step))
        with torch.no_grad():
            last = self.evaluate(steps[-1][4].next_obs)[1].numpy()
            value = np.stack([s[3].numpy() for s in steps])
            next_value = np.concatenate([value[1:], last[None]])
            for t, s in enumerate(steps):
                for i in np.flatnonzero(s[4].truncated & s[4].valid):
                    next_value[t, i] = self.evaluate(s[4].next_obs[i : i + 1])[1].numpy()[0]
        reward, terminated, truncated, valid = (
            np.stack([getattr(s[4], name) for s in steps]) for name in ("reward", "terminated", "truncated", "valid")
        )
        advantage, returns = gae(
            reward, value, next_value, terminated, truncated, valid=valid, gamma=GAMMA, gae_lambda=LAMBDA
        )
        rows = np.flatnonzero(valid.reshape(-1))
        data = [np.concatenate([np.asarray(s[k]) for s in steps])[rows] for k in range(3)]
        self.update(*data, *(np.asarray(a, np.float32).reshape(-1)[rows] for a in (advantage, returns)))

    def update(self, obs: Any, action: Any, old_log_prob: Any, advantage: Any, returns: Any) -> None:
        """Make `num_epochs` passes over the fragment in minibatches."""
        torch = self.torch
        for _ in range(SETTINGS["num_epochs"]):
            order = self.rng.permutation(len(obs))
            for start in range(0, len(obs), SETTINGS["batch_size"]):
                at = order[start : start + SETTINGS["batch_size"]]
                distribution, value = self.evaluate(obs[at])
                ratio = (distribution.log_prob(torch.as_tensor(action[at])) - torch.as_tensor(old_log_prob[at])).exp()
                a = torch.as_tensor(advantage[at])
                a = (a - a.mean()) / (a.std() + 1e-8)
                gain = torch.minimum(ratio * a, ratio.clamp(1 - CLIP, 1 + CLIP) * a).mean()
                loss = VF_COEF * ((value - torch.as_tensor(returns[at])) ** 2).mean() - gain
                self.optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.policy.parameters(), MAX_NORM)
                self.optimizer.step()


def torch_seconds(iterations: int) -> float:
    """Return seconds per environment step of the loop in torch."""
    learner = TorchPPO()
    begin = perf_counter()
    for _ in range(iterations):
        learner.iteration()
    return (perf_counter() - begin) / (iterations * SETTINGS["num_envs"] * SETTINGS["num_steps"])


def section(report: Report, libs: dict[str, Any]) -> None:
    """Environment steps per second of whole training iterations."""
    best = {"dynarl": min(dynarl_seconds(3) for _ in range(2))}
    if "torch" in libs:
        best["torch"] = min(torch_seconds(1) for _ in range(2))
    title = f"PPO with an ACT policy, {SETTINGS['num_envs']} environments"
    report.put(Row("dynamic", title, best, best, (Goal(0.1, "torch"),), "acting with 8, then the update", True))
