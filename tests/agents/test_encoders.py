"""Encoders: chosen by the space, scaled, equal for both channel orders, and able to learn."""

from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import dynarl
from dynarl import nn, optim
from dynarl.agents import DQN, PPO, SAC
from dynarl.agents.encoders.choose import features_for
from dynarl.agents.encoders.images import MixedEncoder, NatureCNN, ResidualCNN, TextEncoder, is_image
from tests.learning import learns, mean_return

FIRST, LAST = spaces.Box(0, 255, (3, 40, 44), np.uint8), spaces.Box(0, 255, (40, 44, 3), np.uint8)
SMALL = spaces.Box(0, 255, (8, 8, 1), np.uint8)


def same_weights(encoder, other):
    other.load_state_dict(encoder.state_dict())
    return other


@pytest.mark.parametrize("network", [NatureCNN, ResidualCNN])
def test_channels_first_and_last(network):
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 40, 44), dtype=np.uint8)
    first = network(FIRST)
    last = same_weights(first, network(LAST))
    a = first(dynarl.tensor(images.astype(np.float32)))
    b = last(dynarl.tensor(images.transpose(0, 2, 3, 1).astype(np.float32)))
    assert a.shape == (4, 512 if network is NatureCNN else 256)
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_nature_is_its_layers():
    """Three convolutions over images in [0, 1], then a layer of 512."""
    net = NatureCNN(FIRST)
    x = dynarl.tensor(np.random.default_rng(0).integers(0, 256, (2, 3, 40, 44)).astype(np.float32))
    y = x / 255
    for conv in net.convs:
        y = nn.functional.relu(conv(y))
    y = nn.functional.relu(net.head[0](y.flatten(1)))
    np.testing.assert_allclose(net(x).detach().numpy(), y.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert [tuple(conv.weight.shape) for conv in net.convs] == [(32, 3, 8, 8), (64, 32, 4, 4), (64, 64, 3, 3)]


def test_choice():
    assert isinstance(features_for(FIRST), NatureCNN) and isinstance(features_for(SMALL), ResidualCNN)
    assert isinstance(features_for(FIRST, "residual"), ResidualCNN)
    assert isinstance(features_for(spaces.Text(4)), TextEncoder)
    assert isinstance(features_for(spaces.Tuple((SMALL, spaces.Discrete(2)))), MixedEncoder)
    for plain in (spaces.Box(-1, 1, (3, 4, 5)), spaces.Discrete(3), spaces.Dict(a=spaces.Discrete(2))):
        assert features_for(plain) is None
    assert features_for(FIRST, "none") is None
    assert is_image(SMALL) and not is_image(spaces.Box(0, 255, (8, 8), np.uint8))
    with pytest.raises(ValueError, match="encoder: must be one of auto, nature, residual, none, got 'vit'"):
        features_for(FIRST, "vit")
    with pytest.raises(ValueError, match=r"NatureCNN: images must be at least 36 x 36, got .*; use the residual"):
        features_for(SMALL, "nature")
    with pytest.raises(ValueError, match="ResidualCNN: needs a Box with 3 dimensions"):
        ResidualCNN(spaces.Discrete(3))


def test_mixed():
    space = spaces.Dict(
        view=SMALL, word=spaces.Text(5), inner=spaces.Tuple((spaces.Discrete(3), spaces.Box(-1, 1, (2,))))
    )
    net = features_for(space)
    assert isinstance(net, MixedEncoder) and net.sizes == [3, 2, 64, 5]  # parts by name: inner, view, word
    out = net(dynarl.zeros(2, 74))
    assert out.shape == (2, 3 + 2 + 256 + 5 * 16)
    with pytest.raises(ValueError, match="MixedEncoder: networks must have one entry for each of 4 parts, got 1"):
        MixedEncoder(space, [None])


class Spot(gymnasium.Env):
    """One step: a bright spot is left or right; say where. Of images alone, or with noise and a word that says it."""

    def __init__(self, kind="image"):
        self.kind, self.action_space = kind, spaces.Discrete(2)
        self.observation_space = {
            "image": SMALL,
            "text": spaces.Text(5),
            "mixed": spaces.Dict(view=SMALL, noise=spaces.Box(-1, 1, (3,), np.float32), word=spaces.Text(5)),
        }[kind]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.side = int(self.np_random.integers(2))
        return self._obs(), {}

    def step(self, action):
        return self._obs(), float(action == self.side), True, False, {}

    def _obs(self):
        image = self.np_random.integers(0, 60, (8, 8, 1), dtype=np.uint8)
        image[self.np_random.integers(8), self.np_random.integers(4) + 4 * self.side] = 255
        if self.kind == "image":
            return image
        word = ("left", "right")[self.side]
        if self.kind == "text":
            return word
        return {"view": image, "noise": self.np_random.uniform(-1, 1, 3).astype(np.float32), "word": "x"}


FAST = {"num_envs": 8, "num_steps": 16, "batch_size": 64, "num_epochs": 4, "learning_rate": 1e-3, "hidden_sizes": ()}


SPOTS = {
    kind: learns(
        f"encoders-ppo-{kind}",
        partial(PPO, partial(Spot, kind), **{**FAST, "learning_rate": 3e-3}, learning_rate_schedule="linear"),
        steps=steps,
        scores=mean_return(0.9, static=0.5),
    )
    for kind, steps in (("image", 3000), ("text", 1500), ("mixed", 3000))
}


@pytest.mark.learns
@pytest.mark.parametrize("kind", SPOTS)
def test_ppo_learns(kind):
    agent = SPOTS[kind].check()
    env = Spot(kind)
    obs, _ = env.reset(seed=1)
    action, _ = agent.predict(obs, deterministic=True)
    assert env.step(action)[1] in (0.0, 1.0) and np.ndim(action) == 0


def test_a_batch_of_texts_is_predicted():
    agent = PPO(lambda: Spot("text"), **FAST)
    actions, _ = agent.predict(["left", "right", "left"], deterministic=True)
    single = [agent.predict(word, deterministic=True)[0] for word in ("left", "right", "left")]
    assert actions.tolist() == single


def test_images_and_texts_are_not_normalised():
    with pytest.raises(ValueError, match="normalize_obs: images are scaled by 255 and text is embedded"):
        PPO(Spot, normalize_obs=True, **FAST)
    PPO(Spot, normalize_obs=True, encoder="none", **FAST)


def test_resuming(tmp_path):
    part = PPO(Spot, **FAST).learn(128)
    path = part.save(tmp_path / "c")
    resumed = PPO.load(path, Spot)
    for a, b in zip(part.policy.parameters(), resumed.policy.parameters()):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


def test_dqn_sees_images():
    agent = DQN(Spot, learning_starts=50, batch_size=16, buffer_size=500, hidden_sizes=()).learn(100)
    assert isinstance(agent.policy.features, ResidualCNN)
    assert agent.replay.state_dict()["obs"].dtype == np.uint8
    assert DQN(Spot, encoder="none", buffer_size=500).policy.features is None


class Bright(Spot):
    """The same with a Box action that should be -1 or 1; 0 at all times is worth 0.75."""

    def __init__(self, kind="image"):
        super().__init__(kind)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def step(self, action):
        return self._obs(), 1.0 - float(action[0] + 1 - 2 * self.side) ** 2 / 4, True, False, {}


SAC_FAST = {
    "learning_starts": 100, "batch_size": 32, "buffer_size": 1000, "hidden_sizes": (32,), "learning_rate": 1e-3,
    "alpha": 0.02, "train_freq": 3,
}  # fmt: skip


SEEN = {
    name: learns(
        f"encoders-sac-{name}",
        partial(SAC, env, **{**SAC_FAST, **own}),
        steps=steps,
        scores=mean_return(0.9, static=static),
    )
    for name, env, steps, own, static in (
        ("image", partial(Spot, "image"), 500, {"alpha": 0.3, "learning_rate": 2e-3}, 0.5),
        ("image-shared", partial(Spot, "image"), 450, {"share_encoder": True, "alpha": 0.3}, 0.5),
        ("text-box", partial(Bright, "text"), 900, {}, 0.75),
        ("mixed-shared", partial(Spot, "mixed"), 400, {"share_encoder": True, "alpha": 0.3}, 0.5),
    )
}


@pytest.mark.learns
@pytest.mark.parametrize("name", SEEN)
def test_sac_learns(name):
    agent = SEEN[name].check()
    obs, _ = SEEN[name].make.args[0]().reset(seed=1)
    action, _ = agent.predict(obs, deterministic=True)
    assert action in agent.action_space


@pytest.mark.parametrize("cls", [Spot, Bright])
@pytest.mark.parametrize("shared", [False, True])
def test_sacs_encoders(cls, shared):
    """Critics and their targets have an encoder each; the actor its own, or the critics', which it does not train."""
    agent = SAC(cls, seed=0, share_encoder=shared, **SAC_FAST).learn(130)
    encoders = [[m for m in net.modules() if isinstance(m, ResidualCNN)] for net in agent.networks().values()]
    assert list(agent.networks()) == ["actor", "critics", "target_critics"]
    assert [len(found) for found in encoders] == [0 if shared else 1, 1, 1]
    moved = {id(p) for p in agent.learner.critic_optimizer.param_groups[0]["params"]}
    assert all(id(p) in moved for p in agent.critics.features.parameters())
    agent.learner.update(agent.sample())
    # the actor's loss leaves no gradient in the critics' encoder beyond what the critics' loss left there
    before = [p.grad.array.copy() for p in agent.critics.features.parameters()]
    batch, learner = agent.sample(), agent.learner
    inputs = learner.policy.inputs(batch, 0)
    action, log_prob = learner.objective.sample(learner.policy.at_obs(inputs), batch.get("noise"))
    q = agent.critics(inputs.obs, action, frozen=True)
    (log_prob.sum() + q.sum()).backward()
    for p, grad in zip(agent.critics.features.parameters(), before):
        np.testing.assert_array_equal(p.grad.array, grad)
    # the target's encoder follows with weight tau
    online, target = (list(net.features.parameters()) for net in (agent.critics, agent.target_critics))
    expected = [0.005 * a.array + 0.995 * b.array for a, b in zip(online, target)]
    optim.polyak_update(learner._critic_parameters, learner._target_parameters, 0.005)
    for a, b in zip(expected, target):
        np.testing.assert_allclose(b.array, a, rtol=1e-4, atol=1e-7)


def test_a_network_of_yours_before_sac(tmp_path):
    def make(space):
        return nn.Sequential(nn.Linear(3, 7), nn.ReLU())

    for features in (make, make(None)):
        agent = SAC("Pendulum-v1", features=features, **SAC_FAST).learn(130)
        networks = ((agent.learner.actor, "body.0"), (agent.critics, "features"))
        layers = [network.get_submodule(name)[0] for network, name in networks]
        assert [tuple(layer.weight.shape) for layer in layers] == [(7, 3), (7, 3)]
        assert layers[0].weight is not layers[1].weight
    resumed = SAC.load(agent.save(tmp_path / "c"), features=make).learn(20)
    agent.learn(20)
    for a, b in zip(agent.critics.parameters(), resumed.critics.parameters()):
        np.testing.assert_array_equal(a.array, b.array)
    with pytest.raises(ValueError, match=r"features: must map observations \[B, 3\] to \[B, F\]"):
        SAC("Pendulum-v1", features=lambda space: nn.Flatten(0), **SAC_FAST)


def test_sac_says_where_there_is_nothing_to_share():
    with pytest.raises(ValueError, match=r"share_encoder: observations of Box.* have no encoder to share; leave it"):
        SAC("Pendulum-v1", share_encoder=True)
    with pytest.raises(ValueError, match="encoder: must be one of"):
        SAC("Pendulum-v1", encoder="vit")
    with pytest.raises(ValueError, match="encoder: must be one of"):
        DQN("CartPole-v1", encoder="vit")
