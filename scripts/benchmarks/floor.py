"""The floor: what hand-written NumPy reaches with flat buffers, `out=` everywhere and no graph."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

Array = np.ndarray


class Parameters:
    """Flat parameters and gradients; `take` hands out consecutive views."""

    def __init__(self, size: int) -> None:
        self.data, self.grad = np.zeros(size, np.float32), np.zeros(size, np.float32)
        self.used = 0

    def take(self, *shape: int) -> tuple[Array, Array]:
        start, self.used = self.used, self.used + int(np.prod(shape))
        return self.data[start : self.used].reshape(shape), self.grad[start : self.used].reshape(shape)


def size_of(sizes: tuple[int, ...]) -> int:
    """Return the number of parameters of an MLP."""
    return sum(n * m + m for n, m in pairwise(sizes))


class MLP:
    """A multi-layer perceptron for one batch size: every intermediate has its buffer. Weights are [out, in]."""

    def __init__(self, sizes: tuple[int, ...], activation: str, batch: int, parameters: Parameters) -> None:
        self.activation = activation
        self.layers = []
        for n, m in pairwise(sizes):
            (weight, d_weight), (bias, d_bias) = parameters.take(m, n), parameters.take(m)
            out, delta = np.empty((batch, m), np.float32), np.empty((batch, m), np.float32)
            self.layers.append((weight, bias, d_weight, d_bias, out, delta))
        self.ones = np.ones(batch, np.float32)

    def load(self, arrays: list[Array]) -> None:
        """Copy weights and biases in, in the order of torch's `parameters()`."""
        for (weight, bias, *_), (w, b) in zip(self.layers, zip(arrays[::2], arrays[1::2])):
            weight[...], bias[...] = w, b

    def forward(self, x: Array) -> Array:
        """Return the output buffer [B, out]."""
        self.x = x
        last = self.layers[-1]
        for layer in self.layers:
            weight, bias, _, _, out, _ = layer
            np.dot(x, weight.T, out)
            np.add(out, bias, out)
            if layer is not last:
                if self.activation == "tanh":
                    np.tanh(out, out)
                else:
                    np.maximum(out, 0.0, out=out)
            x = out
        return x

    def backward(self, g: Array) -> None:
        """Overwrite the gradients of all parameters, given that of the output."""
        for i in range(len(self.layers) - 1, -1, -1):
            weight, _, d_weight, d_bias, _, _ = self.layers[i]
            x, delta = self.layers[i - 1][4:] if i else (self.x, None)
            np.dot(g.T, x, d_weight)
            np.dot(self.ones, g, d_bias)
            if delta is None:
                return
            np.dot(g, weight, delta)
            if self.activation == "tanh":  # x is not needed any more: it becomes 1 - x^2
                np.multiply(x, x, x)
                np.subtract(1.0, x, x)
            else:
                np.greater(x, 0.0, x)
            g = np.multiply(delta, x, delta)


class Adam:
    """Adam on one flat buffer, PyTorch's formula, twelve vector operations."""

    def __init__(self, parameters: Parameters, lr: float, eps: float = 1e-8) -> None:
        self.p, self.g, self.lr, self.eps, self.step_count = parameters.data, parameters.grad, lr, eps, 0
        self.m, self.v, self.s = np.zeros_like(self.p), np.zeros_like(self.p), np.empty_like(self.p)

    def step(self) -> None:
        p, g, m, v, s = self.p, self.g, self.m, self.v, self.s
        self.step_count += 1
        correction1, correction2 = 1 - 0.9**self.step_count, (1 - 0.999**self.step_count) ** 0.5
        np.subtract(g, m, s)
        np.multiply(s, 0.1, s)
        np.add(m, s, m)
        np.multiply(g, g, s)
        np.multiply(s, 0.001, s)
        np.multiply(v, 0.999, v)
        np.add(v, s, v)
        np.sqrt(v, s)
        np.add(s, self.eps * correction2, s)
        np.divide(m, s, s)
        np.multiply(s, self.lr * correction2 / correction1, s)
        np.subtract(p, s, p)


def clip(g: Array, max_norm: float) -> float:
    """Scale a flat gradient in place to a norm of at most `max_norm`; return the norm before."""
    norm = float(g.dot(g)) ** 0.5
    if norm + 1e-6 > max_norm:
        np.multiply(g, max_norm / (norm + 1e-6), g)
    return norm


class PPOUpdate:
    """One PPO minibatch step (arXiv:1707.06347 eq. 7 and 9) for a categorical policy, gradients by hand."""

    def __init__(self, obs_size: int, hidden: tuple[int, ...], actions: int, batch: int, **options: float) -> None:
        actor, critic = (obs_size, *hidden, actions), (obs_size, *hidden, 1)
        self.parameters = Parameters(size_of(actor) + size_of(critic))
        self.actor = MLP(actor, "tanh", batch, self.parameters)
        self.critic = MLP(critic, "tanh", batch, self.parameters)
        self.optimizer = Adam(self.parameters, options["lr"], options["eps"])
        self.options = options
        self.rows = np.arange(batch)

    def __call__(self, batch: dict[str, Array]) -> tuple[float, float, float]:
        o, n, rows = self.options, len(self.rows), self.rows
        action, advantages = batch["action"], batch["advantages"]
        advantages = advantages - advantages.mean()
        advantages /= np.sqrt(advantages.dot(advantages) / np.float32(n - 1)) + np.float32(1e-8)
        logits = self.actor.forward(batch["obs"])
        logits -= logits.max(axis=1, keepdims=True)
        p = np.exp(logits)
        total = p.sum(axis=1, keepdims=True)
        p /= total
        logits -= np.log(total, total)  # log-probabilities from here on
        ratio = np.exp(logits[rows, action] - batch["log_prob"])
        surrogate = ratio * advantages
        clipped = np.clip(ratio, 1 - o["clip_range"], 1 + o["clip_range"]) * advantages
        policy_loss = -float(np.minimum(surrogate, clipped).mean())
        p_log_p = p * logits
        entropy = -p_log_p.sum(axis=1, keepdims=True)
        error = self.critic.forward(batch["obs"])[:, 0] - batch["returns"]
        value_loss = float(error.dot(error)) / n
        # d loss / d logits: the surrogate through log p(action), the entropy through every log-probability
        d_log_prob = np.where(surrogate <= clipped, surrogate, 0.0)
        d_log_prob *= -1.0 / n
        entropy_weight = o["ent_coef"] / n
        g = np.multiply(p, entropy, out=None)
        g += p_log_p
        g *= entropy_weight
        g -= p * d_log_prob[:, None]
        g[rows, action] += d_log_prob
        self.actor.backward(g)
        error *= 2 * o["vf_coef"] / n
        self.critic.backward(error[:, None])
        clip(self.parameters.grad, o["max_grad_norm"])
        self.optimizer.step()
        return policy_loss, value_loss, float(entropy.mean())


def act(actor: MLP, critic: MLP, obs: Array, rng: np.random.Generator, rows: Array) -> tuple[Any, Any, Any]:
    """Return sampled actions, their log-probabilities and the values, each [N]."""
    logits = actor.forward(obs)
    logits -= logits.max(axis=1, keepdims=True)
    p = np.exp(logits)
    cumulated = p.cumsum(axis=1)
    total = cumulated[:, -1:]
    action = (rng.random((len(rows), 1), np.float32) * total >= cumulated).sum(axis=1)
    log_prob = logits[rows, action] - np.log(total[:, 0])
    return action, log_prob, critic.forward(obs)[:, 0].copy()
