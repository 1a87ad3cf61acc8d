"""Options in corridors and planning by the value gap: what they decide, and that they are batched as in the loop."""

from functools import partial

import gymnasium
import numpy as np
import pytest

import dynarl
from dynarl.agents import PPO
from dynarl.agents.conditional import Options, TreePlanner
from dynarl.rollout import Feedback
from tests.learning import learns, mean_return

ERRANDS, CORRIDORS = "dynarl/Errands-v0", "dynarl/Corridors-v0"


def both_modes(module, obs, state, feedback):
    """What a program returns and the gradients of all of it, batched and in the loop over samples."""
    found = []
    for mode in ("auto", "loop"):
        module.zero_grad()
        run = dynarl.batched(module, mode=mode)
        distribution, value, after, extra = run(obs, state, feedback)
        logits = getattr(distribution, "base", distribution).logits
        total = (logits**2).sum() + (value**2).sum() + sum(column.float().sum() for column in extra.values())
        total.backward()
        gradients = [np.zeros(p.shape) if p.grad is None else p.grad.numpy().copy() for p in module.parameters()]
        found.append([logits.detach().numpy(), value.detach().numpy(), after.numpy(), *gradients])
        assert mode == "loop" or run.run.last.groups > 1
    return found


def planner(**options):
    """A planner whose model is the town's: latent states are [place, goal], and a reward is 1 where they agree."""
    env = gymnasium.make(ERRANDS)
    leads, places = env.unwrapped.leads, 32
    policy = TreePlanner(
        env.observation_space,
        env.action_space,
        latent_size=2 * places,
        hidden_size=places,
        reset_field="new_goal",
        **options,
    )
    moves = np.zeros((2, 2 * places, 2 * places), np.float32)
    for a in range(2):
        moves[a, leads[a], np.arange(places)] = 1.0
        moves[a, places:, places:] = np.eye(places)
    with dynarl.no_grad():
        for part in (policy.encode, policy.move, policy.reward[0], policy.reward[2]):
            part.bias.fill_(0.0)
        policy.encode.weight.copy_(dynarl.eye(2 * places))
        policy.move.weight.copy_(dynarl.tensor(moves.reshape(4 * places, 2 * places)))
        policy.reward[0].weight.copy_(dynarl.tensor(np.tile(np.eye(places, dtype=np.float32), 2)))
        policy.reward[0].bias.fill_(-1.0)
        policy.reward[2].weight.fill_(1.0)
    return env, policy


def errand(env, rng):
    """A place, a goal 1 to 5 steps away, what is seen, and the steps to the goal after each action."""
    town = env.unwrapped
    place = rng.integers(32)
    goal = rng.choice(np.flatnonzero(town.steps[place] == rng.integers(1, 6)))
    obs = np.concatenate((np.arange(32) == place, np.arange(32) == goal)).astype(np.float32)
    return obs, town.steps[town.leads[:, place], goal] + 1


def told(n, rng):
    """Feedback for n environments that goes every way a program may."""
    action = np.eye(2, dtype=np.float32)[rng.integers(2, size=n)]
    new = (rng.random(n) < 0.5).astype(np.float32)
    reward = rng.random(n).astype(np.float32)
    start = dynarl.tensor(rng.random(n) < 0.3)
    return Feedback(dynarl.tensor(action), dynarl.tensor(reward), start, {"new_goal": dynarl.tensor(new)})


def test_a_planner_looks_as_far_as_the_nearer_way_is_long_and_takes_it():
    env, policy = planner()
    rng, start = np.random.default_rng(0), Feedback(dynarl.zeros(2), 0.0, True, {"new_goal": 1.0})
    for _ in range(40):
        obs, steps = errand(env, rng)
        distribution, _, state, extra = policy(dynarl.tensor(obs), policy.initial_state(), start)
        clear = steps[0] != steps[1]
        assert extra["steps"] == (steps.min() if clear else 5)
        assert not clear or distribution.mode.item() == steps.argmin()
        np.testing.assert_array_equal(state.numpy(), obs)


def test_a_static_planner_looks_as_far_as_it_is_told():
    env, policy = planner(depth=2)
    rng, start = np.random.default_rng(0), Feedback(dynarl.zeros(2), 0.0, True, {"new_goal": 1.0})
    for _ in range(40):
        obs, steps = errand(env, rng)
        distribution, _, _, extra = policy(dynarl.tensor(obs), policy.initial_state(), start)
        logits = distribution.logits.detach().numpy()
        assert extra["steps"] == 2
        assert (np.ptp(logits) > 1e-3) == (steps.min() <= 2 and steps[0] != steps[1])


def test_the_model_is_judged_by_what_came_of_the_last_action():
    env, policy = planner(unit=0.5)
    obs, _ = env.reset(seed=3)
    info = {"new_goal": 0.0}
    for action in (0, 1, 1, 0, 1, 0, 0, 1):
        before = dynarl.tensor(obs)
        obs, reward, _, _, info = env.step(action)
        act = dynarl.tensor(np.eye(2, dtype=np.float32)[action])
        feedback = Feedback(act, 0.5 * float(reward > 0), False, info)
        loss = policy(dynarl.tensor(obs), before, feedback)[3]["loss"]
        assert loss.item() == pytest.approx(0.0, abs=1e-6)
        wrong = feedback._replace(reward=feedback.reward + 0.5)
        assert policy(dynarl.tensor(obs), before, wrong)[3]["loss"].item() == pytest.approx(1.0, abs=1e-5)
        turned = dynarl.tensor(np.roll(obs, 1))
        assert (policy(turned, before, feedback)[3]["loss"].item() > 1.0) == (info["new_goal"] == 0.0)
    assert policy(turned, before, feedback._replace(episode_start=True))[3]["loss"].item() == 0.0


def test_planners_are_batched_as_in_the_loop():
    env, policy = planner()
    rng = np.random.default_rng(1)
    obs = np.stack([errand(env, rng)[0] for _ in range(24)])
    for batched, looped in zip(*both_modes(policy, dynarl.tensor(obs), dynarl.tensor(obs[::-1].copy()), told(24, rng))):
        np.testing.assert_allclose(batched, looped, rtol=1e-3, atol=1e-3)


TOWN = learns(
    "planning-town",
    partial(
        PPO, ERRANDS, policy="tree_planner", policy_kwargs={"reset_field": "new_goal", "unit": 0.077}, num_envs=64,
        num_steps=40, batch_size=512, num_epochs=4, learning_rate=5e-3, gamma=0.9, gae_lambda=0.9, sequence_length=1,
    ),
    steps=10 * 2560,
    scores=mean_return(0.35, static=0.24, episodes=30),
)  # fmt: skip


@pytest.mark.learns
def test_ppo_learns_the_town():
    """Much of it in a short time: who sees no goal but those next door gets 0.24."""
    TOWN.check()


def test_planner_refusals():
    with pytest.raises(ValueError, match="TreePlanner: is for Box observations and Discrete actions"):
        PPO("Pendulum-v1", policy="tree_planner")
    box = gymnasium.spaces.Box(0.0, 1.0, (3,))
    with pytest.raises(ValueError, match="TreePlanner: there must be at least 2 actions to tell apart, got 1"):
        TreePlanner(box, gymnasium.spaces.Discrete(1))


def test_a_field_of_the_info_ends_options_and_what_is_seen_chooses_the_next():
    env = gymnasium.make(CORRIDORS)
    policy = Options(env.observation_space, env.action_space, options=5, ended_by="at_junction", hidden_size=0)
    assert policy.info_fields == ("at_junction",)
    rng, n = np.random.default_rng(0), 12
    sign, before = rng.integers(4, size=n), rng.integers(5, size=n)
    junction = rng.random(n) < 0.5
    obs = np.zeros((n, 20), np.float32)
    obs[np.arange(n), 16 + sign] = junction
    with dynarl.no_grad():
        policy.choose.weight[:4, 16:].copy_(dynarl.eye(4) * 100.0)
    at = {"at_junction": dynarl.tensor(junction.astype(np.float32))}
    feedback = Feedback(dynarl.zeros(n, 4), -dynarl.ones(n), dynarl.zeros(n) > 1, at)
    _, value, option, extra = dynarl.batched(policy)(dynarl.tensor(obs), dynarl.tensor(before), feedback)
    np.testing.assert_array_equal(option.numpy(), np.where(junction, sign, before))
    np.testing.assert_array_equal(extra["ended"].numpy(), junction)
    drawn = policy.choose(dynarl.tensor(obs))[:, -1].detach().numpy()
    own = [policy.options[k](dynarl.tensor(o))[-1].item() for k, o in zip(before, obs)]
    np.testing.assert_allclose(value.detach().numpy(), np.where(junction, drawn, own), rtol=1e-5)


def test_the_value_does_not_know_what_is_drawn():
    """Else it would take from the draw what the draw earns, and nothing would be learned of which option is better."""
    env = gymnasium.make("dynarl/FeedbackSwitch-v0")
    policy = Options(env.observation_space, env.action_space, options=6)
    n = 64
    feedback = Feedback(dynarl.zeros(n, 3), -dynarl.ones(n), dynarl.zeros(n) > 1, {})
    obs, state = dynarl.eye(3)[dynarl.zeros(n).long()], dynarl.zeros(n).long()
    _, value, option, _ = dynarl.batched(policy)(obs, state, feedback)
    assert len(set(option.numpy())) > 2 and 0 not in option.numpy()
    assert len(set(value.detach().numpy())) == 1
