"""Policies that learn when to stop, that think again when surprised, that forget: as in the loop, and what they do."""

from functools import partial

import gymnasium
import numpy as np
import pytest

import dynarl
from dynarl import checkpoint
from dynarl.agents import PPO, PPOConfig
from dynarl.agents.conditional import ForgetfulGRU, PonderNet, SecondThoughts, TreePlanner
from dynarl.batching import Draws
from dynarl.config import from_file
from dynarl.rollout import Feedback, map_state
from tests.learning import Score, learns, mean_return


def made(name, policy, **options):
    env = gymnasium.make(f"dynarl/{name}-v0")
    dynarl.manual_seed(0)
    return policy(env.observation_space, env.action_space, **options)


def several(policy, obs, reward, told, seed=0):
    """What a policy is called with for some environments: observations, states where it has them, feedback."""
    if not hasattr(policy, "initial_state"):
        return (obs,)
    rows, rng = len(obs), np.random.default_rng(seed)

    def leaf(first):
        return dynarl.tensor(rng.normal(size=(rows, *getattr(first, "shape", ()))).astype(np.float32) / 50)

    start = dynarl.tensor(np.arange(rows) % 5 == 0)
    actions = policy.policy.weight.shape[0]
    action = dynarl.eye(actions)[rng.integers(actions, size=rows)]
    info = {name: dynarl.tensor(told) for name in getattr(policy, "info_fields", ())}
    return obs, map_state(leaf, policy.initial_state()), Feedback(action, dynarl.tensor(reward), start, info)


@pytest.mark.parametrize(
    ("name", "policy", "options"),
    [
        ("PointerChase", PonderNet, {}),
        ("Runaway", SecondThoughts, {}),
        ("CommonestSuit", ForgetfulGRU, {"reset_field": "shuffled"}),
    ],
)
def test_batches_are_the_loop_s(name, policy, options):
    module, rows, rng = made(name, policy, **options), 24, np.random.default_rng(1)
    env = gymnasium.make(f"dynarl/{name}-v0")
    obs = dynarl.tensor(np.stack([env.reset(seed=seed)[0] for seed in range(rows)]))
    reward, told = rng.normal(size=rows).astype(np.float32) / 20, (np.arange(rows) % 2).astype(np.float32)
    found = []
    for mode in ("auto", "loop"):
        module.zero_grad()
        run = dynarl.batched(module, mode=mode)
        out = run(*several(module, obs, reward, told), draws=Draws(3, np.arange(rows), 0))
        distribution, value, extra = out[0], out[1], out[-1]
        log_prob = distribution.log_prob(dynarl.zeros(rows, dtype=dynarl.int64))
        total = (log_prob**2).sum() + (value**2).sum() + distribution.entropy().sum()
        (total + sum(column.float().sum() for column in extra.values())).backward()
        gradients = [np.zeros(p.shape) if p.grad is None else p.grad.numpy().copy() for p in module.parameters()]
        numbers = [column.detach().numpy() for column in extra.values()]
        found.append([log_prob.detach().numpy(), value.detach().numpy(), *numbers, *gradients])
        assert mode == "loop" or run.run.last.splits
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def pondered(policy, rows=400):
    rng, env = np.random.default_rng(0), gymnasium.make("dynarl/PointerChase-v0")
    obs = np.stack([env.unwrapped.puzzle.draw(rng)[0] for _ in range(rows)])
    return dynarl.batched(policy)(dynarl.tensor(obs), draws=Draws(0, np.arange(rows), 0))


@pytest.mark.parametrize("logit", [-1.5, 0.0, 1.0])
def test_pondernet_stops_as_often_as_its_halting_unit_says(logit):
    policy = made("PointerChase", PonderNet, max_thoughts=5, price=1.0)
    with dynarl.no_grad():
        policy.halt.weight.fill_(0.0)
        policy.halt.bias.fill_(logit)
        distribution, _, extra = pondered(policy)
    p, n = 1 / (1 + np.exp(-logit)), extra["steps"].numpy()
    by_n = {k: np.log((1 - p) ** (k - 1) * (p if k < 5 else 1.0)) for k in range(1, 6)}
    np.testing.assert_allclose(distribution.branch_log_prob.numpy(), [by_n[k] for k in n], rtol=1e-4)
    mean = sum(k * np.exp(log_prob) for k, log_prob in by_n.items())
    assert n.mean() == pytest.approx(mean, abs=0.25)
    each = -p * np.log(p) - (1 - p) * np.log(1 - p)
    np.testing.assert_allclose(distribution.branch_entropy.numpy(), np.minimum(n, 4) * each, rtol=1e-4)
    sure = distribution.base.probs.numpy().max(1) ** 4
    np.testing.assert_allclose(extra["loss"].numpy(), sure * np.minimum(n, 4) * (1 - p), rtol=1e-4)


def test_pondernet_is_static_on_demand():
    with dynarl.no_grad():
        distribution, _, extra = pondered(made("PointerChase", PonderNet, thoughts=4), 20)
    assert (extra["steps"].numpy() == 4).all() and (extra["loss"].numpy() == 0).all()
    assert (distribution.branch_log_prob.numpy() == 0).all()


def test_the_price_of_thoughts_is_paid_by_the_halting_unit_alone():
    policy = made("PointerChase", PonderNet)
    pondered(policy, 40)[2]["loss"].sum().backward()
    assert policy.halt.bias.grad.item() < 0.0  # descent raises the probability of stopping
    assert policy.policy.weight.grad is None


two_hops = partial(gymnasium.make, "dynarl/PointerChase-v0", nodes=4, hops=2)


def thoughts_saved(agent):
    """Return how many thoughts more it takes for two hops than for one."""
    puzzle, rng = two_hops().unwrapped.puzzle, np.random.default_rng(0)
    obs = np.stack([puzzle.draw(rng)[0] for _ in range(300)])
    with dynarl.no_grad():
        n = agent.policy(dynarl.tensor(obs), draws=Draws(0, np.arange(300), 0))[2]["steps"].numpy()
    hops = np.array([hops_of(o.reshape(5, 4).argmax(1)) for o in obs])
    return n[hops == 2].mean() - n[hops == 1].mean()


PONDER = learns(
    "thinking-pondernet",
    partial(
        PPO, two_hops, policy="pondernet", num_envs=64, num_steps=16, batch_size=512, num_epochs=4, learning_rate=2e-2,
        policy_kwargs={"rows": 5, "max_thoughts": 5, "patience": 0.5, "price": 0.3, "hidden_size": 32},
        gamma=0.0, gae_lambda=0.0, ent_coef=0.01, learning_rate_schedule="linear",
    ),
    steps=12 * 1024,
    scores=[mean_return(0.95, static=0.5, episodes=20), Score("thoughts saved", thoughts_saved, 0.3, 0.0)],
)  # fmt: skip


@pytest.mark.learns
def test_pondernet_learns_to_stop():
    """One hop or two among 4 nodes: right in the end, and stopped earlier where the way is shorter."""
    PONDER.check()


def hops_of(to):
    node, hops = to[0], 0
    while to[1 + node] != node:
        node, hops = to[1 + node], hops + 1
    return hops


def seeker():
    """Weights that follow the circle to the next hideout, and expect what a right answer pays."""
    policy = made("Runaway", SecondThoughts, hidden_size=7)
    with dynarl.no_grad():
        policy.read[0].weight.copy_(dynarl.eye(7) * 6.0)
        policy.read[0].bias.fill_(-3.0)
        policy.where.weight.copy_(dynarl.tensor(np.eye(7, 7, k=-1, dtype=np.float32) * 20.0))
        policy.found.weight.copy_(dynarl.tensor(np.eye(1, 7, k=6, dtype=np.float32) * 50.0))
        policy.found.bias.fill_(0.0)
        policy.policy.weight.copy_(dynarl.tensor(np.eye(6, 7, dtype=np.float32) * 10.0))
        policy.value.weight.fill_(0.0)
        policy.value.weight[0, 6] = 0.1
        policy.value.bias.fill_(0.05)
    return policy


def test_second_thoughts_find_who_ran_away():
    """Searches where and only where the answer before was wrong, as far as the next hideout is away."""
    policy, env, searches, thoughts = dynarl.batched(seeker()), gymnasium.make("dynarl/Runaway-v0"), 0, []
    for episode in range(6):
        obs, _ = env.reset(seed=episode)
        said = Feedback(dynarl.zeros(1, 6), dynarl.zeros(1), dynarl.ones(1) > 0, {})
        state, over, wrong = (dynarl.zeros(1, 7), dynarl.zeros(1)), False, False
        while not over:
            with dynarl.no_grad():
                distribution, _, state, extra = policy(dynarl.tensor(obs[None]), state, said)
            thoughts.append(extra["steps"].item())
            assert (thoughts[-1] > 0) == wrong
            action, searches = distribution.mode, searches + wrong
            wrong = action.item() != env.unwrapped._circle[env.unwrapped._at]
            obs, reward, _, over, _ = env.step(action.item())
            said = Feedback(dynarl.eye(6)[action], dynarl.tensor([reward]).float(), dynarl.zeros(1) > 0, {})
    assert searches > 5 and 1.0 < sum(thoughts) / searches < 3.0 and max(thoughts) > 1


def test_an_expected_loss_is_no_surprise_nor_is_that_of_a_guess():
    policy = dynarl.batched(seeker())
    obs = dynarl.tensor(np.stack([gymnasium.make("dynarl/Runaway-v0").reset(seed=0)[0]] * 5))
    h = dynarl.tensor(np.tile(np.eye(1, 7, dtype=np.float32) * 2 - 1, (5, 1)))  # found at node 0
    expected, reward = dynarl.tensor([-0.1, -0.1, 0.1, 0.1, 0.1]), dynarl.tensor([-0.1, -0.2, 0.1, 0.0, 0.0])
    nothing, acted = dynarl.zeros(5), dynarl.eye(6)[dynarl.tensor([0, 0, 0, 0, 3])]
    said = Feedback(acted, reward, nothing > 1, {})
    distribution, _, (after, _), extra = policy(obs, (h, expected), said)
    searched = extra["steps"].numpy() > 0
    np.testing.assert_array_equal(searched, [False, True, False, True, False])
    np.testing.assert_array_equal(after.detach().numpy()[~searched], h.numpy()[~searched])
    assert (distribution.branch_log_prob.detach().numpy()[~searched] == 0).all()
    first = policy(obs, (h, expected), said._replace(episode_start=nothing < 1))
    assert (first[3]["steps"].numpy() == 0).all() and not np.allclose(first[2][0].detach().numpy(), h.numpy())


def test_second_thoughts_are_static_on_demand():
    policy = made("Runaway", SecondThoughts, thoughts=2)
    env = gymnasium.make("dynarl/Runaway-v0")
    obs = dynarl.tensor(np.stack([env.reset(seed=seed)[0] for seed in range(10)]))
    reward = np.zeros(10, np.float32)
    with dynarl.no_grad():
        distribution, _, _, extra = dynarl.batched(policy)(*several(policy, obs, reward, reward))
    assert (extra["steps"].numpy() == 2).all() and (distribution.branch_log_prob.numpy() == 0).all()


@pytest.mark.parametrize("field", [None, "shuffled"])
def test_forgetful_gru_clears_its_memory(field):
    policy = made("CommonestSuit", ForgetfulGRU, reset_field=field, hidden_size=8)
    signal = np.array([0.0, 1.0, 0.0, 1.0], np.float32)
    obs, state, said = several(policy, dynarl.eye(4), -signal, signal)
    with dynarl.no_grad():
        _, _, after, extra = dynarl.batched(policy)(obs, state, said)
        _, _, fresh, _ = dynarl.batched(policy)(obs, state * 0.0, said)
    np.testing.assert_array_equal(extra["cleared"].numpy(), signal)
    np.testing.assert_allclose(after.numpy()[1::2], fresh.numpy()[1::2], rtol=1e-6)
    assert abs(after.numpy()[::2] - fresh.numpy()[::2]).max(1).min() > 1e-3


@pytest.mark.parametrize(("mode", "differs"), [("input", True), ("never", False)])
def test_forgetful_gru_is_static_on_demand(mode, differs):
    policy = dynarl.batched(made("CommonestSuit", ForgetfulGRU, reset_field="shuffled", reset_mode=mode, hidden_size=8))
    obs, state = dynarl.eye(4)[:2] * 0.0, dynarl.ones(2, 8)
    said = Feedback(dynarl.zeros(2, 4), dynarl.zeros(2), dynarl.zeros(2) > 1, {"shuffled": dynarl.tensor([0.0, 1.0])})
    after, extra = policy(obs, state, said)[2:]
    assert (extra["cleared"].numpy() == 0).all()
    assert (abs(after[0] - after[1]).max().item() > 1e-3) == differs


@pytest.mark.parametrize(
    ("name", "policy", "logged", "options"),
    [
        ("PointerChase", "pondernet", "policy/steps", {}),
        ("Runaway", "second_thoughts", "policy/steps", {}),
        ("CommonestSuit", "forgetful_gru", "policy/cleared", {"reset_field": "shuffled"}),
    ],
)
def test_agents_learn_what_was_done(name, policy, logged, options):
    """Learning decides as acting did, random branches included: the first minibatch has ratio 1."""
    settings = {
        "num_envs": 4,
        "num_steps": 16,
        "batch_size": 64,
        "num_epochs": 1,
        "kl_target": 1e9,
        "kl_action": "stop_epoch",
    }
    seen = []
    agent = PPO(f"dynarl/{name}-v0", policy=policy, policy_kwargs=options, seed=0, **settings)
    agent.learn(128, on_iteration=seen.append)
    assert all(abs(metrics["train/approx_kl"]) < 1e-5 for metrics in seen)
    assert all(metrics[logged] >= 0 for metrics in seen) and sum(metrics[logged] for metrics in seen) > 0


@pytest.mark.parametrize(
    ("cls", "name", "old", "new"),
    [
        (ForgetfulGRU, "forgetful_gru", "told", "reset_field"),
        (ForgetfulGRU, "forgetful_gru", "heed", "reset_mode"),
        (TreePlanner, "tree_planner", "anew", "reset_field"),
    ],
)
def test_arguments_of_earlier_versions(tmp_path, capsys, cls, name, old, new):
    """Python refuses them; files are migrated and say so once."""
    message = f"{cls.__name__}: {old} is now called {new}$"
    with pytest.raises(TypeError, match=message):
        made("CommonestSuit", cls, **{old: "never"})
    for policy in (name, cls):
        with pytest.raises(TypeError, match=message):
            PPO("dynarl/CommonestSuit-v0", policy=policy, policy_kwargs={old: "never"})
    path = tmp_path / "old.yaml"
    path.write_text(f"policy: {name}\npolicy_kwargs: {{{old}: never, hidden_size: 8}}\n")
    for _ in range(2):
        found = from_file(PPOConfig, path)
        assert found == {"policy": name, "policy_kwargs": {new: "never", "hidden_size": 8}}
    line = f"config: {path}: policy_kwargs: {old} of {name} is now called {new}\n"
    assert capsys.readouterr().err == line


def test_a_checkpoint_of_an_earlier_version_is_migrated(tmp_path, capsys):
    settings = {"num_envs": 2, "num_steps": 8, "batch_size": 16}
    options = {"reset_field": "shuffled", "reset_mode": "input"}
    agent = PPO("dynarl/CommonestSuit-v0", policy="forgetful_gru", policy_kwargs=options, **settings)
    path = agent.save(tmp_path / "ckpt")
    saved = checkpoint.load(path)
    saved.meta["config"]["policy_kwargs"] = {"told": "shuffled", "heed": "input"}
    old = checkpoint.save(tmp_path / "old", saved.state, meta=saved.meta)
    assert PPO.load(old).config == agent.config
    assert "told of forgetful_gru is now called reset_field" in capsys.readouterr().err


def test_refusals():
    with pytest.raises(ValueError, match="ForgetfulGRU: reset_mode must be 'branch', 'input' or 'never', got 'always'"):
        made("CommonestSuit", ForgetfulGRU, reset_mode="always")
    with pytest.raises(ValueError, match=r"PonderNet: is for Box observations and Discrete actions, got Box.*Box"):
        PPO("Pendulum-v1", policy="pondernet")
    with pytest.raises(ValueError, match="SecondThoughts: rows must divide the 4 numbers of an observation, got 7"):
        PPO("CartPole-v1", policy="second_thoughts")
