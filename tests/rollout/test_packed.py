"""Images in a Dict or Tuple take the replay a byte a pixel, and come out as they went in."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

import dynarl
from dynarl import nn
from dynarl.agents import DQN, SAC
from dynarl.agents.off_policy import agent as off_policy
from dynarl.agents.off_policy import records
from dynarl.envs.observations import observation_layout
from dynarl.envs.spaces import flat_size, leaves_of
from dynarl.rollout.packed import packed_rows

LEAVES = st.sampled_from([
    spaces.Box(0, 255, (2, 3, 1), np.uint8),
    spaces.Box(0, 255, (5,), np.uint8),
    spaces.Box(-np.inf, np.inf, (3,), np.float32),
    spaces.Box(-1, 1, (2, 2), np.float64),
    spaces.Box(-9, 9, (2,), np.int16),
    spaces.Discrete(4, start=-1),
    spaces.MultiBinary(3),
    spaces.Text(4),
])  # fmt: skip
SPACES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, min_size=1, max_size=4).map(
        lambda parts: spaces.Tuple(parts) if len(parts) % 2 else spaces.Dict(dict(zip("abcd", parts)))
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(space=SPACES, seed=st.integers(0, 1000), lead=st.sampled_from([(), (3,), (2, 3)]))
def test_what_is_packed_comes_out_again(space, seed, lead):
    packing = packed_rows(space)
    pixels = sum(flat_size(leaf) for leaf in leaves_of(space) if getattr(leaf, "dtype", None) == np.uint8)
    if not isinstance(space, spaces.Dict | spaces.Tuple) or not pixels:
        assert packing is None
        return
    space.seed(seed)
    pack = observation_layout(space).pack
    count = int(np.prod(lead))
    rows = np.stack([pack(space.sample(), ()) for _ in range(count)]).reshape(*lead, -1)
    packed = packing.pack(rows)
    assert packed.dtype == np.uint8 and packed.shape == (*lead, *packing.layout[0])
    least = pixels + 4 * (flat_size(space) - pixels)
    assert least <= packed.shape[-1] < least + 4 * (1 + len(leaves_of(space)))  # alignment
    np.testing.assert_array_equal(packing.unpack(packed), rows)
    np.testing.assert_array_equal(packing.unpack(packed.copy(order="F")), rows)


class Look(gymnasium.Env):
    """One of two pixels is bright: which one is the action that pays. Episodes last three steps."""

    observation_space = spaces.Dict(
        view=spaces.Box(0, 255, (8, 8, 1), np.uint8), speed=spaces.Box(-1, 1, (2,), np.float32), goal=spaces.Discrete(3)
    )
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def step(self, action):
        self.t += 1
        reward = float(action == self.side)
        return self._obs(), reward, self.t == 3, False, {}

    def _obs(self):
        self.side = int(self.np_random.integers(2))
        view = self.np_random.integers(0, 60, (8, 8, 1), dtype=np.uint8)
        view[4, 4 * self.side] = 255
        speed = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return {"view": view, "speed": speed, "goal": int(self.np_random.integers(3))}

    def get_state(self):
        return {"t": self.t, "side": self.side}

    def set_state(self, state):
        self.t, self.side = int(state["t"]), int(state["side"])


class Remember(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRUCell(69, 8), nn.Linear(8, 2)

    def initial_state(self):
        return dynarl.zeros(8)

    def forward(self, obs, state, feedback):
        h = self.cell(obs, state)
        return self.head(h), h


FAST = {"learning_starts": 40, "batch_size": 16, "buffer_size": 120, "num_envs": 4, "hidden_sizes": (16,)}
AGENTS = {
    "DQN": (DQN, {"n_step": 3, "prioritized": True}),
    "SAC": (SAC, {"share_encoder": True}),
    "DQN with a state": (DQN, {"policy": Remember, "sequence_length": 2, "hidden_sizes": None}),
}


@pytest.mark.parametrize("name", AGENTS)
def test_agents_learn_the_same_bytes(name, monkeypatch, tmp_path):
    cls, own = AGENTS[name]
    options = {key: value for key, value in {**FAST, **own}.items() if value is not None}
    packed = cls(Look, seed=3, **options).learn(152)
    policy = {"policy": own["policy"]} if "policy" in own else {}
    resumed = cls.load(packed.save(tmp_path / "half"), Look, **policy).learn(48)
    packed.learn(48)
    for module in (off_policy, records):
        monkeypatch.setattr(module, "packed_rows", lambda space: None)
    plain = cls(Look, seed=3, **options).learn(200)
    assert packed.replay.nbytes < 0.6 * plain.replay.nbytes
    for other in (plain, resumed):
        for network, same in zip(packed.networks().values(), other.networks().values(), strict=True):
            for p, q in zip(network.parameters(), same.parameters(), strict=True):
                np.testing.assert_array_equal(p.array, q.array)


def test_pixels_that_are_no_bytes_are_refused():
    class Wrong(Look):
        def _obs(self):
            obs = super()._obs()
            return {**obs, "view": obs["view"] / 255}

    with pytest.raises(ValueError, match=r"environment 0, .*obs\['view'\]: must have dtype uint8, got float64"):
        DQN(Wrong, **FAST).learn(100)
