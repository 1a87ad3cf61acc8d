"""MLP forward and backward, Adam and clipping, one PPO minibatch update, acting: the same code for every library.

A library is a module with PyTorch's names: `torch` itself, or `dynarl`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks import floor
from benchmarks.timing import Contestants, Goal, Report

BATCHES = (1, 64, 256, 2048)
TO_TORCH = {1: 0.4, 64: 0.4, 256: 0.8, 2048: 1.0}
NETWORKS = (((4, 64, 64, 2), "tanh"), ((17, 256, 256, 6), "relu"))
PPO_OPTIONS = {"lr": 3e-4, "eps": 1e-5, "clip_range": 0.2, "vf_coef": 0.5, "ent_coef": 0.01, "max_grad_norm": 0.5}


def title(sizes: tuple[int, ...], activation: str) -> str:
    return f"MLP {'-'.join(map(str, sizes))} {activation}"


def mlp(lib: Any, sizes: tuple[int, ...], activation: str, weights: list[Any]) -> Any:
    """Return nn.Sequential of Linear layers with the given weights."""
    layers: list[Any] = []
    for n, m in pairwise(sizes):
        layers += [lib.nn.Linear(n, m), {"tanh": lib.nn.Tanh, "relu": lib.nn.ReLU}[activation]()]
    network = lib.nn.Sequential(*layers[:-1])
    with lib.no_grad():
        for p, w in zip(network.parameters(), weights):
            p.copy_(lib.as_tensor(w))
    return network


def weights_of(sizes: tuple[int, ...], rng: np.random.Generator) -> list[Any]:
    """Return random weights [out, in] and biases in the order of torch's `parameters()`."""
    shapes = [shape for n, m in pairwise(sizes) for shape in ((m, n), (m,))]
    return [(rng.normal(size=s) / np.sqrt(s[-1])).astype(np.float32) for s in shapes]


def forward_backward(lib: Any, sizes: Any, activation: str, weights: list[Any], x: Any, y: Any) -> Callable[[], Any]:
    network = mlp(lib, sizes, activation, weights)
    # An optimiser puts dynarl's parameters into one buffer, as in training.
    optimizer = lib.optim.Adam(network.parameters())
    x, y = lib.as_tensor(x), lib.as_tensor(y)
    mse_loss = lib.nn.functional.mse_loss

    def call() -> Any:
        optimizer.zero_grad()
        loss = mse_loss(network(x), y)
        loss.backward()
        return loss

    return call


def floor_forward_backward(sizes: Any, activation: str, weights: list[Any], x: Any, y: Any) -> Callable[[], Any]:
    parameters = floor.Parameters(floor.size_of(sizes))
    network = floor.MLP(sizes, activation, len(x), parameters)
    network.load(weights)
    error, scale = np.empty_like(y), 2.0 / y.size

    def call() -> Any:
        np.subtract(network.forward(x), y, error)
        flat = error.reshape(-1)
        loss = flat.dot(flat) / y.size
        np.multiply(error, scale, error)
        network.backward(error)
        return loss

    return call


def mlp_section(report: Report, libs: dict[str, Any]) -> None:
    """Forward and backward of a mean-square loss, gradients dropped before each pass."""
    rng = np.random.default_rng(0)
    for sizes, activation in NETWORKS:
        weights = weights_of(sizes, rng)
        for batch in BATCHES:
            x = rng.normal(size=(batch, sizes[0])).astype(np.float32)
            y = rng.normal(size=(batch, sizes[-1])).astype(np.float32)
            contestants: Contestants = {"floor": floor_forward_backward(sizes, activation, weights, x, y)}
            for name, lib in libs.items():
                contestants[name] = forward_backward(lib, sizes, activation, weights, x, y)
            limits = "Python" if batch <= 64 else "BLAS and activations"
            name = f"{title(sizes, activation)} fwd+bwd, batch {batch}"
            report.add("mlp", name, contestants, [Goal(TO_TORCH[batch], "torch")], limits)


def adam_and_clip(
    lib: Any, weights: list[Any], gradients: list[Any], clip_only: bool, **options: Any
) -> Callable[[], Any]:
    parameters = [lib.nn.Parameter(lib.as_tensor(w.copy())) for w in weights]
    optimizer = lib.optim.Adam(parameters, lr=1e-5, **options)
    # A loss that is linear in the parameters puts these gradients where backward puts them in training.
    sum((p * lib.as_tensor(g)).sum() for p, g in zip(parameters, gradients)).backward()
    clip = lib.nn.utils.clip_grad_norm_

    def call() -> Any:
        clip(parameters, 1e-3)
        if not clip_only:
            optimizer.step()

    return call


def adam_section(report: Report, libs: dict[str, Any]) -> None:
    """Adam's step with clipping to a norm that is always exceeded, and the clipping alone."""
    rng = np.random.default_rng(0)
    for sizes, _ in NETWORKS:
        weights, gradients = weights_of(sizes, rng), weights_of(sizes, rng)
        for clip_only in (False, True):
            parameters = floor.Parameters(floor.size_of(sizes))
            parameters.data[:] = np.concatenate([w.reshape(-1) for w in weights])
            parameters.grad[:] = np.concatenate([g.reshape(-1) for g in gradients])
            contestants: Contestants = {
                "floor": partial(_floor_adam, floor.Adam(parameters, 1e-5), parameters.grad, clip_only)
            }
            for name, lib in libs.items():
                contestants[name] = adam_and_clip(lib, weights, gradients, clip_only)
            if "torch" in libs and not clip_only:
                contestants["torch fused"] = adam_and_clip(libs["torch"], weights, gradients, clip_only, fused=True)
            name = f"{'clip_grad_norm_' if clip_only else 'Adam + clip'}, {floor.size_of(sizes):,} parameters"
            goal = Goal(0.1, "torch") if clip_only else Goal(1.3, "floor")
            limits = "reading the gradients' homes" if clip_only else "vector operations of NumPy"
            report.add("adam", name, contestants, [goal], limits)


def _floor_adam(adam: floor.Adam, grad: Any, clip_only: bool) -> None:
    floor.clip(grad, 1e-3)
    if not clip_only:
        adam.step()


def ppo_batch(size: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return a minibatch whose old policy is close to uniform over two actions."""
    return {
        "obs": rng.normal(size=(size, 4)).astype(np.float32),
        "action": rng.integers(0, 2, size),
        "log_prob": (np.log(0.5) + 0.1 * rng.normal(size=size)).astype(np.float32),
        "advantages": rng.normal(size=size).astype(np.float32),
        "returns": rng.normal(size=size).astype(np.float32),
    }


def ppo_update(lib: Any, weights: tuple[list[Any], list[Any]], batch: dict[str, Any]) -> Callable[[], Any]:
    """Return one minibatch step as a torch user writes it."""
    actor = mlp(lib, (4, 64, 64, 2), "tanh", weights[0])
    critic = mlp(lib, (4, 64, 64, 1), "tanh", weights[1])
    parameters = [*actor.parameters(), *critic.parameters()]
    o = PPO_OPTIONS
    optimizer = lib.optim.Adam(parameters, lr=o["lr"], eps=o["eps"])
    data = {name: lib.as_tensor(array) for name, array in batch.items()}
    low, high = 1 - o["clip_range"], 1 + o["clip_range"]

    def call() -> Any:
        obs, advantages = data["obs"], data["advantages"]
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        policy = lib.distributions.Categorical(logits=actor(obs), validate_args=False)
        ratio = (policy.log_prob(data["action"]) - data["log_prob"]).exp()
        surrogate = lib.min(ratio * advantages, ratio.clamp(low, high) * advantages)
        value_loss = lib.nn.functional.mse_loss(critic(obs).squeeze(-1), data["returns"])
        loss = -surrogate.mean() + o["vf_coef"] * value_loss - o["ent_coef"] * policy.entropy().mean()
        optimizer.zero_grad()
        loss.backward()
        lib.nn.utils.clip_grad_norm_(parameters, o["max_grad_norm"])
        optimizer.step()
        return loss

    return call


def floor_ppo_update(weights: tuple[list[Any], list[Any]], batch: dict[str, Any]) -> Callable[[], Any]:
    update = floor.PPOUpdate(4, (64, 64), 2, len(batch["obs"]), **PPO_OPTIONS)
    update.actor.load(weights[0])
    update.critic.load(weights[1])
    return partial(update, batch)


def ppo_agent(weights: tuple[list[Any], list[Any]]) -> Any:
    """Return dynarl's own PPO agent with the given weights."""
    from dynarl import no_grad, tensor
    from dynarl.agents import PPO

    o = PPO_OPTIONS
    coefficients = {name: o[name] for name in ("vf_coef", "ent_coef", "max_grad_norm")}
    agent = PPO("CartPole-v1", learning_rate=o["lr"], adam_eps=o["eps"], **coefficients)
    with no_grad():
        for p, w in zip(agent.policy.parameters(), [*weights[0], *weights[1]]):
            p.copy_(tensor(w))
    return agent


def agent_update(weights: tuple[list[Any], list[Any]], batch: dict[str, Any]) -> Callable[[], Any]:
    """Return the minibatch step of dynarl's own agent, which fuses the losses."""
    from dynarl.rollout import Batch

    names = ("action", "log_prob", "advantages", "returns")
    minibatch = Batch({"input": batch["obs"], "value": batch["returns"], **{name: batch[name] for name in names}})
    return partial(ppo_agent(weights).learner.step, minibatch, measured=False)


def update_section(report: Report, libs: dict[str, Any]) -> None:
    """Loss, backward, clip and Adam of one PPO minibatch: dynarl.agents.PPO, then torch's code under dynarl's names."""
    rng = np.random.default_rng(0)
    weights = weights_of((4, 64, 64, 2), rng), weights_of((4, 64, 64, 1), rng)
    for size in (64, 256, 2048):
        batch = ppo_batch(size, rng)
        contestants: Contestants = {"floor": floor_ppo_update(weights, batch)}
        for name, lib in libs.items():
            contestants[name] = ppo_update(lib, weights, batch)
        goals = [Goal(0.3, "torch"), Goal(1.3, "floor")] if size <= 256 else [Goal(1.3, "floor")]
        limits = "Python" if size < 256 else "BLAS and tanh"
        own = {**contestants, "dynarl": agent_update(weights, batch)}
        report.add("update", f"PPO.step, one minibatch of {size}", own, goals, limits)
        name = f"  the same in torch's words, {size}"
        report.add("update", name, contestants, [Goal(0.3, "torch")] if size <= 256 else [], limits)


def act(lib: Any, weights: tuple[list[Any], list[Any]], obs: Any) -> Callable[[], Any]:
    actor = mlp(lib, (4, 64, 64, 2), "tanh", weights[0])
    critic = mlp(lib, (4, 64, 64, 1), "tanh", weights[1])

    def call() -> Any:
        with lib.no_grad():
            x = lib.as_tensor(obs)
            policy = lib.distributions.Categorical(logits=actor(x), validate_args=False)
            action = policy.sample()
            return action.numpy(), policy.log_prob(action).numpy(), critic(x).squeeze(-1).numpy()

    return call


def act_section(report: Report, libs: dict[str, Any]) -> None:
    """Actor and critic forward, sample and log-probability for 8 environments, NumPy in and out."""
    rng = np.random.default_rng(0)
    weights = weights_of((4, 64, 64, 2), rng), weights_of((4, 64, 64, 1), rng)
    obs = rng.normal(size=(8, 4)).astype(np.float32)
    networks = [floor.MLP((4, 64, 64, n), "tanh", 8, floor.Parameters(5000)) for n in (2, 1)]
    for network, w in zip(networks, weights):
        network.load(w)
    contestants: Contestants = {"floor": partial(floor.act, *networks, obs, rng, np.arange(8))}
    for name, lib in libs.items():
        contestants[name] = act(lib, weights, obs)
    goals = [Goal(0.3, "torch"), Goal(1.5, "floor")]
    own = {
        **contestants,
        "dynarl": partial(ppo_agent(weights).actor.act, obs, rng.random((8, 1), np.float32), explore=True),
    }
    report.add("act", "PPO.act on 8 environments", own, goals, "Python")
    report.add("act", "  the same in torch's words", contestants, [], "Python")
