"""Policies that branch, on Sequence and Graph observations: what they read, and batches as in the loop."""

from functools import partial

import gymnasium
import numpy as np
import pytest

import dynarl
from dynarl.agents import PPO
from dynarl.agents.conditional import GraphWalker, SetPolicy
from dynarl.agents.encoders.ragged_input import ragged_input
from dynarl.envs import make
from dynarl.envs.observations import observation_layout
from dynarl.ragged_rows import row_array
from tests.learning import learns, mean_return

SET, TRAIL = "dynarl/PickLargest-v0", "dynarl/FollowTrail-v0"


def shown(env_id, n=24):
    """Observations of n environments: as they are stored, and as a policy is given them."""
    envs = make(env_id, n, seed=0)
    envs.reset()
    return envs, ragged_input(envs.observation_space, envs.obs)


@pytest.mark.parametrize(("env_id", "policy"), [(SET, SetPolicy), (TRAIL, GraphWalker)])
def test_batches_are_the_loop_s(env_id, policy):
    envs, given = shown(env_id)
    module, found = policy(envs.observation_space, envs.action_space), []
    for mode in ("auto", "loop"):
        module.zero_grad()
        run = dynarl.batched(module, mode=mode)
        distribution, value, extra = run(given)
        ((distribution.logits**2).sum() + (value**2).sum()).backward()
        gradients = [np.zeros(p.shape) if p.grad is None else p.grad.numpy().copy() for p in module.parameters()]
        found.append([distribution.logits.detach().numpy(), value.detach().numpy(), extra["steps"].numpy(), *gradients])
        assert mode == "loop" or run.run.last.groups > 1
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_a_set_encoder_reads_the_elements_that_are_there():
    envs, given = shown(SET)
    policy = SetPolicy(envs.observation_space, envs.action_space)
    distribution, _, extra = dynarl.batched(policy)(given)
    lengths = [len(row.parts[0]) for row in envs.obs]
    np.testing.assert_array_equal(extra["steps"].numpy(), lengths)
    assert len(set(lengths)) == 5
    start = 0
    for length, logits in zip(lengths, distribution.logits.detach().numpy()):
        elements = given.values[start : start + length]
        want = policy.policy(policy.rho(policy.phi(elements).sum(0))).log_softmax(-1)
        np.testing.assert_allclose(logits, want.detach().numpy(), atol=1e-5)
        start += length


def test_a_static_set_encoder_reads_the_first_ones():
    envs, given = shown(SET)
    policy = SetPolicy(envs.observation_space, envs.action_space, elements=2)
    extra = dynarl.batched(policy)(given)[2]
    np.testing.assert_array_equal(extra["steps"].numpy(), [min(2, len(row.parts[0])) for row in envs.obs])


def walker(envs, **options):
    """A walker whose weights find the start, follow links of feature 1, and name the colour they end at."""
    policy = GraphWalker(envs.observation_space, envs.action_space, hidden_size=4, **options)
    with dynarl.no_grad():  # a node is (no start, start, one of four colours), a link (feature 0, feature 1)
        policy.start.weight.copy_(dynarl.tensor([[0.0, 30.0, 0.0, 0.0, 0.0, 0.0]]))
        policy.follow.weight.copy_(dynarl.tensor([[0.0, 30.0]]))
        policy.read[0].weight.copy_(dynarl.tensor(np.eye(4, 6, 2, dtype=np.float32)))
        policy.policy.weight.copy_(dynarl.eye(4) * 30.0)
        policy.policy.bias.fill_(0.0)
        policy.read[0].bias.fill_(0.0)
    return policy


def trail(row):
    """The colours on the trail of a graph, the start's first."""
    nodes, links, edges = row.parts
    to = dict(links[edges == 1].tolist())
    node = int(nodes[:, 0].argmax())
    colours = [nodes[node, 1]]
    while to[node] != node:
        node = to[node]
        colours.append(nodes[node, 1])
    return colours


def test_a_walker_goes_as_far_as_the_trail_leads():
    """One hop more than there are, which shows that it has arrived."""
    envs, given = shown(TRAIL, 40)
    trails = [trail(row) for row in envs.obs]
    distribution, _, extra = dynarl.batched(walker(envs))(given)
    np.testing.assert_array_equal(distribution.mode.numpy(), [colours[-1] for colours in trails])
    np.testing.assert_array_equal(extra["steps"].numpy(), [len(colours) for colours in trails])
    assert envs.step(distribution.mode.numpy()).reward.sum() == pytest.approx(40 * 0.1)
    assert {len(colours) for colours in trails} == {2, 3, 4, 5, 6}


def test_a_static_walker_stops_where_it_is():
    envs, given = shown(TRAIL, 40)
    for hops in (0, 2):
        distribution, _, extra = dynarl.batched(walker(envs, hops=hops))(given)
        np.testing.assert_array_equal(distribution.mode.numpy(), [trail(row)[: hops + 1][-1] for row in envs.obs])
        assert (extra["steps"].numpy() == hops).all()


def test_a_walker_shares_out_what_it_holds():
    envs, given = shown(TRAIL, 6)
    policy = GraphWalker(envs.observation_space, envs.action_space)

    def sums(graph):
        return policy.passes(graph, len(graph.nodes)).sum(0)[0], policy.passes(graph, len(graph.nodes)).min()

    with dynarl.no_grad():
        policy.follow.weight.mul_(1e4)  # far apart, and no number overflows
    total, least = dynarl.batched(sums)(given)
    np.testing.assert_allclose(total.detach().numpy(), 1.0, rtol=1e-5)
    assert (least.detach().numpy() >= 0.0).all()


def test_a_graph_may_have_no_links():
    envs, _ = shown(TRAIL, 1)
    space = envs.observation_space
    graph = gymnasium.spaces.GraphInstance(np.array([[1, 2], [0, 3]]), None, None)
    given = ragged_input(space, row_array([observation_layout(space).pack(graph, ())]))
    distribution, _, extra = dynarl.batched(walker(envs))(given)
    assert extra["steps"].item() == 2 and np.isfinite(distribution.logits.detach().numpy()).all()


LARGEST = learns(
    "branching-set",
    partial(
        PPO, SET, policy="set_encoder", num_envs=64, num_steps=10, batch_size=160, num_epochs=4, learning_rate=1e-2,
        gamma=0.0, gae_lambda=0.0, ent_coef=0.01,
    ),
    steps=16 * 640,
    scores=mean_return(0.65, static=0.46, episodes=30),
)  # fmt: skip


@pytest.mark.learns
def test_ppo_learns_a_set():
    LARGEST.check()


def test_refusals():
    box, two = gymnasium.spaces.Box(0.0, 1.0, (3,)), gymnasium.spaces.Discrete(2)
    with pytest.raises(ValueError, match=r"SetPolicy: is for Discrete actions, got Box"):
        SetPolicy(gymnasium.spaces.Sequence(box), box)
    with pytest.raises(ValueError, match="SetPolicy: elements is for Sequence observations, got Box"):
        SetPolicy(gymnasium.spaces.Box(0.0, 1.0, (6,)), two, elements=2)
    with pytest.raises(ValueError, match="GraphWalker: is for Graph observations whose edges have features"):
        GraphWalker(gymnasium.spaces.Graph(box, None), two)
    with pytest.raises(ValueError, match=r"GraphWalker: is for Graph .* got Box"):
        GraphWalker(box, two)
