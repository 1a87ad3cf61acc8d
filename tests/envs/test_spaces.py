"""Observations and actions of every supported space."""

from collections import OrderedDict

import numpy as np
import pytest
from gymnasium import spaces

from dynarl.envs.observations import observation_layout
from dynarl.envs.spaces import action_layout, encode, env_action_map, flat_size

OBSERVATIONS = [
    (spaces.Box(-1, 1, (3,), np.float32), 3),
    (spaces.Box(0, 255, (2, 4, 3), np.uint8), 24),
    (spaces.Box(-1, 1, (), np.float64), 1),
    (spaces.Box(-5, 5, (2,), np.int64), 2),
    (spaces.Discrete(4), 4),
    (spaces.Discrete(4, start=-2), 4),
    (spaces.MultiDiscrete([2, 3]), 5),
    (spaces.MultiDiscrete([[2, 3], [4, 2]], start=[[1, -1], [0, 5]]), 11),
    (spaces.MultiBinary(3), 3),
    (spaces.MultiBinary((2, 2)), 4),
]


@pytest.mark.parametrize(("space", "size"), OBSERVATIONS, ids=str)
def test_encode_shapes_and_dtype(space, size):
    space.seed(0)
    layout = observation_layout(space)
    assert flat_size(space) == size
    batch = np.stack([np.asarray(space.sample()) for _ in range(6)]).astype(layout.dtype)
    for lead in ((6,), (2, 3)):
        out = encode(layout.space, batch.reshape(*lead, *layout.shape))
        assert out.shape == (*lead, size)
        assert out.dtype == np.float32
    single = encode(layout.space, batch[0])
    assert single.shape == (size,)
    np.testing.assert_array_equal(single, encode(layout.space, batch)[0])


def test_one_hot_counts_from_start():
    np.testing.assert_array_equal(encode(spaces.Discrete(3, start=5), [5, 7]), [[1, 0, 0], [0, 0, 1]])
    space = spaces.MultiDiscrete([2, 3], start=[1, 10])
    np.testing.assert_array_equal(encode(space, [[2, 10]]), [[0, 1, 1, 0, 0]])


def test_images_keep_their_shape_on_request():
    space = spaces.Box(0, 255, (4, 4, 3), np.uint8)
    assert encode(space, np.zeros((2, 5, 4, 4, 3), np.uint8), flatten=False).shape == (2, 5, 4, 4, 3)


def test_float32_is_not_copied():
    obs = np.zeros((2, 3), np.float32)
    assert encode(spaces.Box(-1, 1, (3,)), obs) is obs or encode(spaces.Box(-1, 1, (3,)), obs).base is obs


def test_values_outside_a_discrete_space():
    with pytest.raises(ValueError, match=r"encode: values must lie in \[start, start \+ n\).*from 0 to 3"):
        encode(spaces.Discrete(3), [0, 3])


def test_dict_is_flattened_by_sorted_key():
    parts = {
        "b": spaces.Discrete(2),
        "a": spaces.Box(-1, 1, (2,)),
        "c": spaces.Tuple((spaces.MultiBinary(1),)),
    }
    spaces_ = [spaces.Dict(parts), spaces.Dict(OrderedDict(reversed(parts.items())))]
    obs = {"a": np.array([0.25, 0.5], np.float32), "b": 1, "c": (np.array([1], np.int8),)}
    for space in spaces_:
        layout = observation_layout(space)
        assert layout.shape == (5,) and layout.space.shape == (5,)
        np.testing.assert_array_equal(layout.pack(obs, ()), np.array([0.25, 0.5, 0, 1, 1], np.float32))
    batch = {"a": np.zeros((3, 2), np.float32), "b": np.array([0, 1, 0]), "c": (np.ones((3, 1), np.int8),)}
    assert layout.pack(batch, (3,)).shape == (3, 5)
    with pytest.raises(ValueError, match=r"must have shape \(2,\), got \(3,\)"):
        layout.pack({**obs, "a": np.zeros(3)}, ())


@pytest.mark.parametrize(
    "space",
    [spaces.OneOf([spaces.Discrete(2)]), spaces.Dict({"x": spaces.OneOf([spaces.Discrete(2)])})],
    ids=str,
)
def test_unsupported_observations(space):
    with pytest.raises(ValueError, match="observation space: supported are Box, Discrete, MultiDiscrete, Multi"):
        observation_layout(space)


def test_text():
    space = spaces.Text(4, charset="abc")
    layout = observation_layout(space)
    assert (layout.shape, layout.dtype) == ((4,), np.int32)
    ids = {c: space.character_index(c) + 1 for c in "abc"}
    assert sorted(ids.values()) == [1, 2, 3]
    assert layout.pack("ca", ()).tolist() == [ids["c"], ids["a"], 0, 0]
    assert layout.pack(("b", "abca"), (2,)).tolist() == [[ids["b"], 0, 0, 0], [ids[c] for c in "abca"]]
    nested = observation_layout(spaces.Dict(word=space, n=spaces.Discrete(2)))
    assert nested.pack({"word": "b", "n": 1}, ()).tolist() == [0, 1, ids["b"], 0, 0, 0]
    with pytest.raises(ValueError, match=r"a text must lie in Text\(.*got 'xyz'"):
        layout.pack("xyz", ())


def test_empty_observation():
    with pytest.raises(ValueError, match="must have at least one element"):
        observation_layout(spaces.Box(-1, 1, (0,)))


@pytest.mark.parametrize(
    "space",
    [spaces.Dict({"a": spaces.Text(2)}), spaces.Tuple(()), spaces.Box(0, 5, (2,), np.int64), spaces.Text(2)],
    ids=str,
)
def test_unsupported_actions(space):
    with pytest.raises(ValueError, match="action space: supported are Discrete, Box"):
        action_layout(space)


@pytest.mark.parametrize(
    ("space", "action", "expected"),
    [
        (spaces.Discrete(3), [0, 2], [0, 2]),
        (spaces.Discrete(3, start=-1), [0, 2], [-1, 1]),
        (spaces.MultiDiscrete([2, 3], start=[1, 5]), [[1, 2]], [[2, 7]]),
        (spaces.MultiBinary(2), [[1, 0]], [[1, 0]]),
        (spaces.Box(np.float32([-1, 0]), np.float32([1, 2])), [[-3, 5], [0.5, 1]], [[-1, 2], [0.5, 1]]),
        (spaces.Box(-np.inf, np.inf, (1,), np.float64), [[-300.0]], [[-300.0]]),
    ],
    ids=str,
)
def test_env_actions(space, action, expected):
    policy = np.array(action, action_layout(space)[1])
    before = policy.copy()
    out = env_action_map(space)(policy)
    np.testing.assert_array_equal(out, expected)
    assert out.dtype == space.dtype
    assert all(space.contains(row) for row in out)
    out += out
    np.testing.assert_array_equal(policy, before)
