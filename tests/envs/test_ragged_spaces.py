"""Sequence and Graph observations as rows: what is stored, and what is refused where."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.spaces import GraphInstance
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from dynarl.checkpoint import encoding
from dynarl.envs import SyncEnvironments, VectorEnvironments, make
from dynarl.envs.checker import check
from dynarl.envs.observations import observation_layout
from dynarl.envs.ragged_spaces import example_rows, row_of
from dynarl.envs.spaces import flat_size
from dynarl.ragged_rows import RaggedRow, row_array

BOX, PAIR = spaces.Box(-1, 1, (2,), np.float32), spaces.Tuple((spaces.Discrete(3), spaces.Box(0, 1, (1,), np.float32)))
GRAPH = spaces.Graph(BOX, spaces.Discrete(2))
MIXED = spaces.Dict(b=spaces.Sequence(BOX), a=spaces.Discrete(3, start=1), g=spaces.Tuple((GRAPH, spaces.Text(2))))
SPACES = {
    "box": spaces.Sequence(BOX),
    "stacked box": spaces.Sequence(BOX, stack=True),
    "scalar box": spaces.Sequence(spaces.Box(-1, 1, (), np.float32)),
    "discrete": spaces.Sequence(spaces.Discrete(4, start=2)),
    "stacked discrete": spaces.Sequence(spaces.Discrete(4, start=2), stack=True),
    "multidiscrete": spaces.Sequence(spaces.MultiDiscrete([2, 3])),
    "images": spaces.Sequence(spaces.Box(0, 255, (4, 4, 3), np.uint8)),
    "tuples": spaces.Sequence(PAIR),
    "stacked tuples": spaces.Sequence(PAIR, stack=True),
    "stacked dicts": spaces.Sequence(spaces.Dict(x=BOX, y=spaces.Discrete(2)), stack=True),
    "graph": GRAPH,
    "graph without edges": spaces.Graph(spaces.Discrete(3), None),
    "graph of tuples": spaces.Graph(PAIR, BOX),
    "mixed": MIXED,
}


def seeded(space, seed=0):
    space.seed(seed)
    return space


@pytest.mark.parametrize("name", SPACES)
def test_samples_are_stored_and_come_back(name):
    space = seeded(SPACES[name])
    layout = observation_layout(space)
    assert (layout.shape, layout.dtype, layout.space) == ((), np.dtype(object), space)
    samples = [space.sample() for _ in range(20)]
    rows = row_array(layout.pack(one, ()) for one in samples)
    example = example_rows(space, 3)
    for row in rows:
        assert [p.dtype for p in row.parts] == [p.dtype for p in example[1].parts]
        assert [p.shape[1:] for p in row.parts] == [p.shape[1:] for p in example[1].parts]
    assert len({row.nbytes for row in rows}) > 1 or name == "graph without edges"  # whose samples have 10 nodes each
    again = encoding.decode(encoding.encode(rows.reshape(4, 5), "x", found := {}), found)
    assert again.shape == (4, 5) and (again == rows.reshape(4, 5)).all()
    assert [p.dtype for p in again[0, 0].parts] == [p.dtype for p in rows[0].parts]


def test_what_a_row_holds():
    row = row_of(SPACES["discrete"], (2, 5, 3))
    np.testing.assert_array_equal(row.parts[0], [2, 5, 3])
    assert row_of(SPACES["discrete"], ()).parts[0].shape == (0,)
    np.testing.assert_array_equal(
        row_of(SPACES["tuples"], ((2, np.array([0.5])),)).parts[0], np.array([[0, 0, 1, 0.5]], np.float32)
    )
    graph = GraphInstance(np.ones((3, 2), np.float32), np.array([1, 0]), np.array([[0, 2], [1, 1]], np.int32))
    nodes, links, edges = row_of(GRAPH, graph).parts
    assert nodes.shape == (3, 2) and edges.tolist() == [1, 0] and links.tolist() == [[0, 2], [1, 1]]
    nodes, links, edges = row_of(GRAPH, GraphInstance(np.ones((1, 2), np.float32), None, None)).parts
    assert (links.shape, edges.shape) == ((0, 2), (0,))
    links = np.array([[0, 1]])  # edges without features of their own
    unlabelled = row_of(SPACES["graph without edges"], GraphInstance(np.array([1, 2]), None, links))
    assert unlabelled.parts[1].tolist() == [[0, 1]] and len(unlabelled.parts) == 2


def test_a_row_is_a_copy_that_nobody_changes():
    given = np.ones((2, 2), np.float32)
    row = row_of(SPACES["stacked box"], given)
    given[:] = 0.0
    assert row.parts[0].all()
    with pytest.raises(ValueError, match="read-only"):
        row.parts[0][0] = 2.0


def graph(nodes=3, edges=(1,), links=((0, 1),)):
    return GraphInstance(np.zeros((nodes, 2), np.float32), np.array(edges), np.array(links))


def box(*rows):
    return tuple(np.array(row, np.float32) for row in rows)


REFUSED = [
    ("box", box([0, 1], [0, np.nan]), r"obs\[1, 1\] must be finite, got nan"),
    ("box", box([0, 1, 2]), r"elements of obs must have shape \(2,\), got \(3,\)"),
    ("box", box([0, 1], [0]), r"elements of obs must be numbers of one shape, got \[\(1,\), \(2,\)\]"),
    ("box", 3.0, "obs must be a sequence of elements, got float"),
    ("box", ("a", "b"), "elements of obs must be numbers of one shape"),
    ("discrete", (2, 6), r"obs\[1\] must lie in Discrete\(4, start=2\), got 6"),
    ("discrete", (2.5,), "elements of obs must have dtype int64, got float64"),
    ("tuples", ((3, np.array([0.5])),), "elements of obs do not fit their space: .*encode: values must lie in"),
    ("tuples", ((1, np.array([np.inf])),), r"obs\[0, 3\] must be finite, got inf"),
    ("stacked dicts", {"x": np.zeros((2, 2)), "y": np.zeros(3, int)}, "parts of obs must have one length, got .*2.*3"),
    ("stacked dicts", {"x": np.zeros((2, 2))}, "obs must hold one array for each part of"),
    ("graph", graph(links=((0, 3),)), r"obs.edge_links\[0, 1\] must name one of 3 nodes, counted from 0, got 3"),
    ("graph", graph(links=((-1, 0),)), r"obs.edge_links\[0, 0\] must name one of 3 nodes, counted from 0, got -1"),
    ("graph", graph(edges=(1, 1)), "obs: every edge must have a link, got 2 edges and 1 edge_links"),
    ("graph", graph(links=(0, 1)), r"obs.edge_links must be integers \[edges, 2\], got int64 of shape \(2,\)"),
    ("graph", graph(edges=(2,)), r"obs.edges\[0\] must lie in Discrete\(2\), got 2"),
    ("graph", graph(nodes=0), "obs.edge_links.* must name one of 0 nodes"),
    ("graph", np.zeros(3), r"obs must have nodes, edges and edge_links \(a GraphInstance\), got ndarray"),
    ("graph without edges", graph()._replace(nodes=np.array([1, 1])), "obs.edges must be None"),
    ("mixed", {"a": 1, "b": ()}, r"obs\['g'\] is missing, obs must lie in Dict"),
    ("mixed", {"a": 1, "b": (), "g": (graph(), "abc")}, r"obs\['g'\]\[1\]: a text must lie in"),
    ("mixed", {"a": 4, "b": (), "g": (graph(), "a")}, r"obs\['a'\] must lie in Discrete\(3, start=1\), got 4"),
    ("mixed", {"a": 1, "b": box([np.nan, 0]), "g": (graph(), "a")}, r"obs\['b'\]\[0, 0\] must be finite, got nan"),
    ("mixed", {"a": 1, "b": (), "g": (graph(links=((0, 9),)), "a")}, r"obs\['g'\]\[0\].edge_links\[0, 1\] must name"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "obs", "message"), REFUSED)
def test_what_does_not_fit_is_named(name, obs, message):
    with pytest.raises(ValueError, match=message):
        row_of(SPACES[name], obs)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Sequence(spaces.Sequence(BOX)), "the elements.* must have a fixed size, got Sequence"),
        (spaces.Graph(spaces.Sequence(BOX), None), "the nodes.* must have a fixed size, got Graph"),
        (spaces.Dict(x=spaces.Graph(BOX, spaces.Dict(y=GRAPH))), "the edges.* must have a fixed size, got Graph"),
        (spaces.Tuple((spaces.Sequence(spaces.OneOf([BOX])),)), "supported are Box.*got OneOf"),
        (spaces.Dict(x=spaces.Sequence(BOX), y=spaces.OneOf([BOX])), "supported are Box.*got OneOf"),
    ],
)
def test_refused_spaces(space, message):
    with pytest.raises(ValueError, match=f"observation space: {message}"):
        observation_layout(space)


def test_they_have_no_fixed_number_of_features():
    with pytest.raises(ValueError, match="has no fixed number of features; pass a network as features"):
        flat_size(SPACES["box"])


class Growing(gymnasium.Env):
    """t elements after t steps; element `bad` of step 3 is not finite in environment 1."""

    action_space = spaces.Discrete(2)
    made = 0

    def __init__(self, bad=False, space=SPACES["box"]):
        self.observation_space, self.t = space, 0
        self.bad = bad and Growing.made == 1
        Growing.made += 1

    def obs(self):
        elements = np.full((self.t, 2), 0.1, np.float32)
        if self.bad and self.t == 3:
            elements[1, 0] = np.nan
        return {"x": tuple(elements)} if isinstance(self.observation_space, spaces.Dict) else tuple(elements)

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return self.obs(), {}

    def step(self, action):
        self.t += 1
        return self.obs(), 1.0, self.t == 4, False, {}


@pytest.mark.parametrize("space", [SPACES["box"], spaces.Dict(x=SPACES["box"])], ids=["sequence", "dict"])
@pytest.mark.parametrize("vector", [None, AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_environment_step_and_field_are_named(vector, space):
    Growing.made = 0
    made = [lambda: Growing(bad=True, space=space)] * 3
    if vector is None:
        envs = SyncEnvironments([one() for one in made], env_ids=[5, 7, 9])
    else:
        envs = VectorEnvironments(SyncVectorEnv(made, autoreset_mode=vector), env_ids=[5, 7, 9])
    envs.reset()
    for t in range(2):
        step = envs.step(np.zeros(3, int))
        assert [len(row.parts[0]) for row in step.next_obs] == [t + 1] * 3
    with pytest.raises(ValueError, match=r"environment 7, step 2: .*obs.*\[1, 0\] must be finite, got nan"):
        envs.step(np.zeros(3, int))


@pytest.mark.parametrize("env_id", ["dynarl/PickLargest-v0", "dynarl/FollowLinks-v0", "dynarl/FollowTrail-v0"])
def test_shipped_environments_have_their_optimum_and_continue_exactly(env_id):
    envs = make(env_id, 4, seed=1)
    envs.reset()
    assert envs.exact_state
    assert not [finding for finding in check(env_id, show=False) if finding.level == "error"]
    total, sizes = 0.0, set()
    for t in range(30):
        sizes |= {len(row.parts[0]) for row in envs.obs}
        if t == 7:
            state = encoding.decode(encoding.encode(envs.state_dict(), "", found := {}), found)
            other = make(env_id, 4, seed=1)
            other.load_state_dict(state)
        action = np.array([known_answer(row) for row in envs.obs])
        step = envs.step(action)
        total += step.reward.sum()
        if t >= 7:
            again = other.step(action)
            assert (again.next_obs == step.next_obs).all() and (other.obs == envs.obs).all()
    assert total == pytest.approx(4 * 3 * 1.0)
    assert len(sizes) >= 4


def known_answer(row):
    """The best action, from the observation alone."""
    if len(row.parts) == 1:
        best = row.parts[0][row.parts[0][:, -1].argmax()]
        return int(best[:-1].argmax())
    nodes, links, edges = row.parts
    to = dict(links[edges == 1].tolist())
    node = to[int(nodes[:, 0].argmax())]
    while any(one == end for one, end in to.items()) and to[node] != node:  # a trail ends at a link to itself
        node = to[node]
    return int(nodes[node, 1])


@pytest.mark.parametrize(
    ("env_id", "kwargs", "message"),
    [
        ("PickLargest", {"slots": 1}, "PickLargest: slots must be at least 2, got 1"),
        ("PickLargest", {"rounds": 0}, "PickLargest: rounds must be at least 1, got 0"),
        ("FollowTrail", {"hops": 0}, "FollowTrail: colours must be at least 2 and hops 1, got colours 4, hops 0"),
        ("FollowLinks", {"nodes": 2}, "FollowLinks: nodes must be at least 3, .* got nodes 2"),
    ],
)
def test_impossible_arguments(env_id, kwargs, message):
    with pytest.raises(ValueError, match=message):
        gymnasium.make(f"dynarl/{env_id}-v0", **kwargs)


def test_rows_are_compared_by_value():
    one, same, other = (RaggedRow([np.array(values)]) for values in ([1, 2], [1, 2], [1, 3]))
    assert one == same and one != other and one != 3 and repr(one) == "RaggedRow(int64[2])"
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)
