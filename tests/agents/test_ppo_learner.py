"""PPO's learner without an environment: its loss, and one update derived again in NumPy."""

import numpy as np
import pytest
from gymnasium import spaces

from dynarl.agents import PPO, ActorCritic, PPOConfig, PPOLearner

T, N = 8, 4


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def fragment(rng):
    """Eight steps of four environments; some of them terminate, some are truncated."""
    flags = rng.uniform(size=(T, N))
    return {
        "obs": rng.normal(size=(T, N, 3)).astype(np.float32),
        "action": rng.integers(0, 2, (T, N)),
        "log_prob": np.log(rng.uniform(0.3, 0.7, (T, N))),
        **{name: rng.normal(size=(T, N)) for name in ("reward", "value", "next_value")},
        "terminated": flags < 0.2,
        "truncated": flags > 0.8,
    }


def make_learner(**settings):
    policy = ActorCritic(spaces.Box(-1.0, 1.0, (3,)), spaces.Discrete(2), hidden_sizes=(5,))
    return PPOLearner(policy, PPOConfig(num_epochs=1, batch_size=T * N, **settings))


def numpy_update(w, f, cfg):
    """One PPO step with one hidden layer: the parameters after it, by name."""
    # Generalised advantages (arXiv:1506.02438 eq. 16): both ends cut the sum, termination removes the bootstrap
    delta = f["reward"] + cfg.gamma * f["next_value"] * ~f["terminated"] - f["value"]
    decay, adv = cfg.gamma * cfg.gae_lambda * ~(f["terminated"] | f["truncated"]), np.zeros((T + 1, N))
    for t in reversed(range(T)):
        adv[t] = delta[t] + decay[t] * adv[t + 1]
    returns, adv = (adv[:T] + f["value"]).ravel(), adv[:T].ravel()
    adv = (adv - adv.mean()) / (adv.std(ddof=1) + 1e-8)
    # Actor and critic: a hidden layer of tanh and a linear one each
    x, a, B = f["obs"].reshape(-1, 3), f["action"].ravel(), T * N
    h = {p: np.tanh(x @ w[f"{p}.0.weight"].T + w[f"{p}.0.bias"]) for p in ("actor", "critic")}
    logits, v = (h[p] @ w[f"{p}.2.weight"].T + w[f"{p}.2.bias"] for p in ("actor", "critic"))
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    p, ratio = np.exp(log_p), np.exp(log_p[np.arange(B), a] - f["log_prob"].ravel())
    # Gradient of -min(ratio A, clip(ratio) A) - c_e H (eq. 7, 9) in the logits, of c_v (V - R)^2 in the value
    active = ratio * adv <= np.clip(ratio, 1 - cfg.clip_range, 1 + cfg.clip_range) * adv
    entropy = -(p * log_p).sum(1, keepdims=True)
    g = {"actor": -(ratio * adv * active)[:, None] * (np.eye(2)[a] - p) / B + cfg.ent_coef * p * (log_p + entropy) / B}
    g["critic"] = cfg.vf_coef * 2 * (v - returns[:, None]) / B
    grad = {}
    for net in ("actor", "critic"):
        back = (g[net] @ w[f"{net}.2.weight"]) * (1 - h[net] ** 2)
        grad |= {f"{net}.2.weight": g[net].T @ h[net], f"{net}.2.bias": g[net].sum(0)}
        grad |= {f"{net}.0.weight": back.T @ x, f"{net}.0.bias": back.sum(0)}
    # The global norm is clipped; in Adam's first step the corrected averages are the gradient itself
    norm = np.sqrt(sum((part**2).sum() for part in grad.values()))
    grad = {name: part * min(1.0, cfg.max_grad_norm / (norm + 1e-6)) for name, part in grad.items()}
    return {name: w[name] - cfg.learning_rate * part / (abs(part) + cfg.adam_eps) for name, part in grad.items()}


def test_an_update_by_hand(fragment):
    learner = make_learner(learning_rate=1e-2, ent_coef=0.1, max_grad_norm=0.5)
    before = {name: value.numpy().astype(np.float64) for name, value in learner.policy.state_dict().items()}
    expected = numpy_update(before, fragment, learner.config)
    learner.update(fragment)
    found = learner.policy.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].numpy(), value, atol=2e-5, err_msg=name)


def test_a_step_follows_the_gradient_of_the_complete_loss(fragment, rng):
    one, other = (make_learner(ent_coef=0.1, vf_coef=0.3, max_grad_norm=np.inf) for _ in range(2))
    other.policy.load_state_dict(one.policy.state_dict())
    one.update(fragment)
    drawn = []
    other.step = lambda minibatch, **_: drawn.append(minibatch) or {"train/approx_kl": 0.0}
    other.update(fragment)
    other.loss(drawn[0]).backward()
    for p, q in zip(one.policy.parameters(), other.policy.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reward": None}, "got no reward"),
        ({"reward": np.zeros(3)}, r"reward must be \[T, N\], steps and environments, got \[3\]"),
        ({"value": np.zeros((T, 5))}, r"value must be \[T, N\] = \[8, 4\] as reward is, got \[8, 5\]"),
        ({"value": np.zeros((T, N, 1))}, r"value must be \[T, N\] = \[8, 4\] as reward is, got \[8, 4, 1\]"),
        ({"done": np.zeros((T, N))}, "unknown arrays done; give terminated and truncated in place of done"),
        ({"obs": np.zeros((T, N, 2))}, r"obs must be \[T, N\] = \[8, 4\] and then \[3\], got \[8, 4, 2\]"),
    ],
)
def test_errors_name_the_array(fragment, change, message):
    batch = {name: value for name, value in {**fragment, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        make_learner().update(batch)


def test_observations_of_another_dtype_are_converted(fragment):
    one, other = make_learner(), make_learner()
    other.policy.load_state_dict(one.policy.state_dict())
    one.update(fragment)
    other.update({**fragment, "obs": fragment["obs"].astype(np.float64).tolist()})
    for p, q in zip(one.policy.parameters(), other.policy.parameters(), strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())


@pytest.mark.parametrize(
    ("old", "action"),
    [("kl_stop_minibatch", "stop_minibatch"), ("kl_stop_epoch", "stop_epoch"), ("kl_adaptive_lr", "adapt_lr")],
)
def test_old_names_of_the_kl_target(old, action):
    stored = {"kl_stop_minibatch": None, "kl_stop_epoch": None, "kl_adaptive_lr": None, "gamma": 0.9}
    assert PPOConfig.migrate(stored) == ({"gamma": 0.9}, [])
    fields, changes = PPOConfig.migrate(stored | {old: 0.02})
    assert fields == {"gamma": 0.9, "kl_target": 0.02, "kl_action": action}
    assert changes == [f"{old} is now called kl_target, with kl_action {action!r}"]
    with pytest.raises(TypeError, match=f"{old} is now called kl_target"):
        PPOConfig(**{old: 0.02})


def test_two_old_kl_targets_are_refused():
    with pytest.raises(ValueError, match=r"kl_stop_minibatch and kl_stop_epoch: .* keep one and remove the others"):
        PPOConfig.migrate({"kl_stop_minibatch": 0.02, "kl_stop_epoch": 0.02})


@pytest.mark.parametrize(
    ("old", "new"),
    [("update", r"learner.update\(batch\)"), ("choose", "actor.act"), ("network_input", "actor.encoder")],
)
def test_methods_that_moved_name_their_role(old, new):
    agent = PPO("CartPole-v1", num_envs=2, num_steps=8, batch_size=16)
    with pytest.raises(AttributeError, match=f"PPO.{old} is now called {new}"):
        getattr(agent, old)
