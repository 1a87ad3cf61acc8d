"""Agents on Sequence and Graph observations: learning, resuming, predicting, encoders against loops."""

from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import dynarl
from dynarl import nn
from dynarl.agents import DQN, PPO, SAC
from dynarl.agents.encoders.choose import features_for
from dynarl.agents.encoders.ragged_input import example_input, ragged_input
from dynarl.agents.encoders.sets import GraphEncoder, Pool, SetEncoder
from dynarl.agents.policies import features_size
from dynarl.batching import Ragged, RaggedGraph
from dynarl.checkpoint import encoding
from dynarl.distributions import Categorical
from dynarl.envs.observations import observation_layout
from dynarl.ragged_rows import row_array
from tests.learning import Score, learns, mean_return

SET, GRAPH = "dynarl/PickLargest-v0", "dynarl/FollowLinks-v0"
AGENTS = {
    "ppo": (PPO, {"num_envs": 4, "num_steps": 16, "batch_size": 32, "num_epochs": 2}, 128),
    "lstm": (PPO, {"num_envs": 4, "num_steps": 16, "batch_size": 32, "num_epochs": 2, "recurrent": "lstm"}, 128),
    "dqn": (DQN, {"num_envs": 2, "learning_starts": 32, "buffer_size": 80, "batch_size": 16}, 128),
    "prioritized": (DQN, {"prioritized": True, "learning_starts": 32, "buffer_size": 80, "batch_size": 16}, 128),
    "sac": (SAC, {"learning_starts": 32, "buffer_size": 80, "batch_size": 16}, 48),
    "shared": (SAC, {"learning_starts": 32, "buffer_size": 80, "batch_size": 16, "share_encoder": True}, 48),
}


def saved(agent):
    """The agent's whole state as plain arrays and the tree that names them."""
    tree = encoding.encode(agent.state_dict(), "", arrays := {})
    return tree, {name: array.tobytes() for name, array in arrays.items()}


@pytest.mark.parametrize("env_id", [SET, GRAPH])
@pytest.mark.parametrize("name", AGENTS)
def test_resume_is_exact(name, env_id, tmp_path):
    cls, options, steps = AGENTS[name]
    whole, half = (cls(env_id, seed=3, **options) for _ in range(2))
    whole.learn(steps).learn(steps)
    path = half.learn(steps).save(tmp_path / "agent")
    resumed = cls.load(path)
    assert saved(resumed) == saved(half)
    resumed.learn(steps)
    assert saved(resumed) == saved(whole)
    assert resumed.evaluate(10).returns.shape == (10,)


class Mixed(gymnasium.Env):
    """A Dict with a set, a graph, an image and a number; the set's length is what counts."""

    observation_space = spaces.Dict(
        items=spaces.Sequence(spaces.Discrete(2)),
        graph=spaces.Graph(spaces.Box(0, 1, (1,)), None),
        where=spaces.Tuple((spaces.Discrete(3), spaces.Box(0, 255, (8, 8, 1), np.uint8))),
    )
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.obs(), {}

    def step(self, action):
        return self.obs(), 0.0, False, self.np_random.random() < 0.1, {}

    def obs(self):
        length = int(self.np_random.integers(0, 4))
        graph = spaces.GraphInstance(np.zeros((2, 1), np.float32), None, np.array([[0, 1]] * length).reshape(-1, 2))
        where = (int(self.np_random.integers(3)), np.zeros((8, 8, 1), np.uint8))
        return {"items": (1,) * length, "graph": graph, "where": where}


@pytest.mark.parametrize("name", ["ppo", "lstm", "sac"])
def test_parts_of_a_dict(name):
    cls, options, steps = AGENTS[name]
    agent = cls(Mixed, seed=0, **options).learn(steps)
    env = Mixed()
    one, _ = env.reset(seed=1)
    action, _ = agent.predict(one, deterministic=True)
    assert action.shape == (1,)
    obs = [env.obs() for _ in range(3)]
    batch = {key: tuple(o[key] for o in obs) for key in ("items", "graph")}
    batch["where"] = (np.array([o["where"][0] for o in obs]), np.stack([o["where"][1] for o in obs]))
    actions, _ = agent.predict(batch, deterministic=True)
    alone = [agent.predict(o, deterministic=True)[0] for o in obs]
    np.testing.assert_allclose(actions, np.stack(alone), atol=1e-5)


@pytest.mark.parametrize("cls", [PPO, DQN])
def test_predict_takes_one_a_batch_and_rows(cls):
    agent = cls(SET, seed=0)
    space = agent.observation_space
    space.seed(0)
    obs = tuple(space.sample() for _ in range(4))
    actions, _ = agent.predict(obs, deterministic=True)
    assert actions.shape == (4,)
    assert [agent.predict(one, deterministic=True)[0] for one in obs] == actions.tolist()
    rows = row_array(observation_layout(space).pack(one, ()) for one in obs)
    assert agent.predict(rows, deterministic=True)[0].tolist() == actions.tolist()
    assert np.ndim(agent.predict((), deterministic=True)[0]) == 0, "no elements are one observation"
    with pytest.raises(
        ValueError, match=r"predict: obs must lie in its space, or be a batch of such: .*got Disc|values"
    ):
        agent.predict(((9, np.zeros(1)),))


def test_normalizing_them_is_refused():
    with pytest.raises(ValueError, match="normalize_obs: not for observations of varying size, got Sequence"):
        PPO(SET, normalize_obs=True)


# -- encoders ---------------------------------------------------------------------------------------------------------


def test_a_set_has_no_order_and_no_neighbours():
    space = spaces.Sequence(spaces.Box(-1, 1, (3,), np.float32))
    encoder = SetEncoder(space, features=8, pooling=("mean", "sum", "max", "attention"))
    rng = np.random.default_rng(0)
    sets = [rng.normal(size=(n, 3)).astype(np.float32) for n in (4, 0, 1, 6)]
    together = encoder(Ragged(sets)).detach().numpy()
    for given, row in zip(sets, together):
        np.testing.assert_allclose(
            encoder(Ragged([given[rng.permutation(len(given))]])).detach().numpy()[0], row, atol=1e-5
        )
    assert np.ptp(together, axis=0).max() > 0.01


def test_attention_is_a_mean_weighted_by_softmax():
    pool = Pool(6, ("attention",), heads=2)
    rows = dynarl.randn(5, 6)
    segments = Ragged.packed(rows.array, [2, 3]).segments
    got = pool(rows, segments).detach().numpy()
    score = pool.score(rows).detach().numpy()
    for i, part in enumerate((slice(0, 2), slice(2, 5))):
        weight = np.exp(score[part]) / np.exp(score[part]).sum(0)
        want = (weight[:, :, None] * rows.numpy()[part].reshape(-1, 2, 3)).sum(0).reshape(-1)
        np.testing.assert_allclose(got[i], want, rtol=1e-5)


def relu(x):
    return np.maximum(x, 0)


def by_hand(layer, x):
    return x @ layer.weight.array.T + (0 if layer.bias is None else layer.bias.array)


def test_message_passing_is_the_equation_in_its_docstring():
    space = spaces.Graph(spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (3,)))
    encoder = GraphEncoder(space, features=4, steps=2)
    rng = np.random.default_rng(1)
    sizes = [(3, 4), (2, 0), (4, 6)]
    parts = [
        (rng.normal(size=(n, 2)).astype(np.float32), rng.normal(size=(e, 3)).astype(np.float32),
         rng.integers(0, n, (e, 2))) for n, e in sizes
    ]  # fmt: skip
    got = encoder(RaggedGraph(*(Ragged(column) for column in zip(*parts)))).detach().numpy()
    with dynarl.no_grad():
        for (nodes, edges, links), row in zip(parts, got):
            h = relu(by_hand(encoder.enter[0], nodes))
            for step in encoder.steps:
                of_source, of_target = by_hand(step.of_source, h), by_hand(step.of_target, h)
                arrived = np.zeros_like(h)
                for (v, w), edge in zip(links, edges):
                    message = relu(of_source[v] + of_target[w] + by_hand(step.of_edge, edge))
                    arrived[w] += message[:4]
                    arrived[v] += message[4:]
                h = h + relu(by_hand(step.update[0], np.concatenate([h, arrived], 1)))
            pooled = np.concatenate([h.mean(0), h.max(0), [np.log1p(len(h))]])
            np.testing.assert_allclose(relu(by_hand(encoder.rho[0], pooled)), row, rtol=1e-4, atol=1e-5)


def test_gradients_flow_to_every_parameter():
    for space in (spaces.Sequence(spaces.Discrete(3)), spaces.Graph(spaces.Discrete(3), spaces.Discrete(2))):
        encoder = features_for(space)
        encoder(example_input(space, 6)).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


def test_elements_go_through_their_own_encoder():
    space = spaces.Sequence(spaces.Box(0, 255, (12, 12, 3), np.uint8))
    encoder = features_for(space)
    assert features_size(encoder, space) == 64
    assert "ResidualCNN" in type(encoder.embed).__name__


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pool(8, ("median",)), "pooling: must be one or more of mean, sum, max, attention, got"),
        (lambda: Pool(8, ()), "pooling: must be one or more of"),
        (lambda: Pool(6, ("attention",)), "heads: must divide the 6 features, got 4"),
        (lambda: features_size(nn.Identity(), spaces.Sequence(spaces.Discrete(2))), r"must map Sequence.* to \[B, F\]"),
    ],
)
def test_impossible_encoders(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# -- what policies see ------------------------------------------------------------------------------------------------


def test_input_is_what_was_observed():
    space = spaces.Dict(a=spaces.Sequence(spaces.Discrete(3)), b=spaces.Graph(spaces.Box(-1, 1, (2,)), None))
    graph = spaces.GraphInstance(np.array([[0, 1], [2, 3]], np.float32), None, np.array([[0, 1], [1, 1], [1, 0]]))
    single = spaces.GraphInstance(np.array([[4, 5]], np.float32), None, None)
    pack = observation_layout(space).pack
    rows = row_array([pack({"a": (2, 0), "b": single}, ()), pack({"a": (), "b": graph}, ())])
    given = ragged_input(space, rows)
    assert given["a"].values.tolist() == [[0, 0, 1], [1, 0, 0]] and given["a"].lengths.tolist() == [2, 0]
    assert given["b"].nodes.values.tolist() == [[4, 5], [0, 1], [2, 3]] and given["b"].edges is None
    assert given["b"].edge_links.values.tolist() == [[0, 1], [1, 1], [1, 0]]
    assert given["b"].links.tolist() == [[1, 2], [2, 2], [2, 1]], "rows of all nodes"


class Largest(nn.Module):
    """For one sample: look at the elements in turn."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Linear(1, 1)

    def forward(self, obs):
        best = None
        for item in obs:
            if best is None or item[-1] > best[-1]:
                best = item
        value = self.scale(best[-1:])[0]
        return best[:-1], value


@pytest.mark.parametrize("mode", ["eager", "lockstep", "loop"])
def test_a_program_for_one_sample_reads_its_elements(mode):
    envs = dynarl.envs.make(SET, 32, seed=0)
    envs.reset()
    given = ragged_input(envs.observation_space, envs.obs)
    shown, value = dynarl.batched(Largest(), mode=mode)(given)
    for row, got in zip(envs.obs, shown.numpy()):
        np.testing.assert_array_equal(got, row.parts[0][row.parts[0][:, -1].argmax()][:-1])
    value.sum().backward()


class Chooser(nn.Module):
    """For one environment: score the elements in turn, with a memory of how many there were."""

    def __init__(self):
        super().__init__()
        self.value = nn.Linear(1, 1)
        self.sharpness = nn.Parameter(dynarl.tensor(1.0))

    def initial_state(self):
        return dynarl.zeros(1)

    def forward(self, obs, state, feedback):
        logits, count = dynarl.zeros(5) - 9.0, 0
        for item in obs:
            logits, count = logits + item[:-1] * (9.0 + self.sharpness * item[-1]), count + 1
        return Categorical(logits=logits), self.value(state)[0], state * 0.5 + count


CHOOSER = learns(
    "ragged-chooser",
    partial(PPO, SET, **AGENTS["ppo"][1], policy=Chooser, learning_rate=0.1, gamma=0.0),
    steps=896,
    scores=[
        mean_return(0.95, static=0.46, episodes=40),
        Score("sampled", lambda agent: agent.evaluate(40, deterministic=False).mean, 0.6, 0.46),
    ],
)


@pytest.mark.learns
def test_ppo_trains_a_policy_for_one_environment(tmp_path):
    agent = CHOOSER.check()
    resumed = PPO.load(agent.save(tmp_path / "agent"), policy=Chooser)
    agent.learn(128), resumed.learn(128)
    assert saved(agent) == saved(resumed)


@pytest.mark.parametrize("mode", ["eager", "lockstep", "loop"])
def test_a_program_for_one_sample_walks_its_graph(mode):
    def follow(graph):
        node = 0
        while graph.nodes[node][1] == 0:  # one-hot: whether to start there, then the colour
            node += 1
        for link, kind in zip(graph.edge_links, graph.edges):
            if link[0] == node and kind[1] == 1:
                return graph.nodes[link[1]][2:]
        raise ValueError("no link")

    envs = dynarl.envs.make(GRAPH, 16, seed=0)
    envs.reset()
    given = ragged_input(envs.observation_space, envs.obs)
    colour = dynarl.batched(follow, mode=mode)(given).argmax(1).numpy()
    assert envs.step(colour).reward.sum() == pytest.approx(1.6)


# -- learning ---------------------------------------------------------------------------------------------------------


QUICK = {"num_envs": 16, "num_steps": 32, "batch_size": 64, "num_epochs": 4, "learning_rate": 1e-3, "gamma": 0.0}
# Once solved, all rewards are equal and normalised advantages are noise: the limit on KL keeps what was learned.
STEADY = {"learning_rate_schedule": "linear", "kl_target": 0.02}
STATIC = {SET: 0.46, GRAPH: 0.61}  # dynarl/envs/varying.py
SOLVED = [
    learns(
        f"ragged-{cls.algorithm}-{env_id.split('/')[1]}",
        partial(cls, env_id, **options),
        steps=steps,
        scores=mean_return(0.9, static=STATIC[env_id]),
    )
    for cls, env_id, steps, options in [
        (PPO, SET, 10_240, {**QUICK, **STEADY, "learning_rate": 2e-3}),
        (PPO, GRAPH, 10_240, {**QUICK, **STEADY}),
        (DQN, SET, 2000, {"learning_rate": 1e-3, "gamma": 0.0}),
        (DQN, GRAPH, 2000, {"learning_rate": 1e-3, "gamma": 0.0}),
    ]
]
SHARED = learns(
    "ragged-sac-shared",
    partial(SAC, SET, share_encoder=True, gamma=0.0, learning_rate=1e-3, learning_starts=500, hidden_sizes=(64, 64)),
    steps=1500,
    scores=mean_return(0.75, static=STATIC[SET], episodes=50),
)


@pytest.mark.learns
@pytest.mark.parametrize("case", SOLVED, ids=str)
def test_both_are_solved(case):
    case.check()


@pytest.mark.learns
def test_sac_learns_with_one_encoder_for_actor_and_critics():
    SHARED.check()
