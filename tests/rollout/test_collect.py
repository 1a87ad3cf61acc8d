"""Fragments, action noise, and going on from a saved collector."""

import numpy as np
import pytest

from dynarl.autograd import philox
from dynarl.envs import make
from dynarl.rollout import ActResult, Batch, Collector, Fragment


class Coin:
    """Discrete actions by inversion of one uniform number; V of a constant."""

    noise_kind, noise_size = "uniform", 1

    def __init__(self, value=0.0):
        self.constant = value

    def act(self, obs, noise, *, explore, action_mask=None):
        assert explore and action_mask is None
        assert noise.shape == (len(obs), 1) and noise.dtype == np.float32
        return ActResult((noise[:, 0] > 0.5).astype(np.int64), np.full(len(obs), -np.log(2)), self.value(obs))

    def value(self, obs):
        return np.full(len(obs), self.constant, np.float32)


class Gauss(Coin):
    noise_kind = "normal"

    def act(self, obs, noise, *, explore, action_mask=None):
        return ActResult(noise, np.zeros(len(obs)), self.value(obs))


def collect(env_id, policy, ids, splits, seed=3, **kwargs):
    collector = Collector(make(env_id, len(ids), seed=seed, env_ids=ids, **kwargs), policy, num_steps=splits, seed=seed)
    return [collector.collect().copy() for _ in range(96 // splits)]


def whole(fragments):
    return {name: np.concatenate([f[name] for f in fragments]) for name in fragments[0] if name != "next_value"}


@pytest.mark.parametrize(("env_id", "policy"), [("CartPole-v1", Coin()), ("Pendulum-v1", Gauss())])
def test_independent_of_workers_and_of_fragment_length(env_id, policy):
    expected = whole(collect(env_id, policy, [0, 1, 2, 3], 32))
    for splits in (16, 96):
        got = whole(collect(env_id, policy, [0, 1, 2, 3], splits))
        for name, array in expected.items():
            np.testing.assert_array_equal(got[name], array, err_msg=name)
    halves = [whole(collect(env_id, policy, ids, 32)) for ids in ([0, 1], [2, 3])]
    for name, array in expected.items():
        np.testing.assert_array_equal(np.concatenate([h[name] for h in halves], axis=1), array, err_msg=name)


def test_both_forms_of_cartpole_give_the_same_fragments():
    one, other = (whole(collect("CartPole-v1", Coin(), [0, 1, 2], 32, vectorization=v)) for v in ("sync", "vector"))
    for name, array in one.items():
        np.testing.assert_allclose(array, other[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_noise_is_keyed_by_environment_and_step():
    fragments = collect("CartPole-v1", Coin(), [5, 9], 24)
    noise = philox.uniform(3, "action", [5, 9], 0, 96, 1, open=True)[..., 0]
    np.testing.assert_array_equal(whole(fragments)["action"], noise > 0.5)


def test_noise_beyond_the_block():
    collector = Collector(make("dynarl/ConstantReward-v0", 1), Coin(), num_steps=200)
    actions = [collector.collect().action.copy() for _ in range(6)]
    noise = philox.uniform(0, "action", [0], 0, 1200, 1, open=True)[..., 0]
    np.testing.assert_array_equal(np.concatenate(actions), noise > 0.5)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_exact_resume(env_id):
    policy = Coin() if env_id == "CartPole-v1" else Gauss()
    envs = [make(env_id, 3, seed=1) for _ in range(2)]
    one, other = (Collector(e, policy, num_steps=20, seed=1) for e in envs)
    for _ in range(3):
        one.collect()
    other.load_state_dict(one.state_dict())
    for _ in range(3):
        a, b = one.collect(), other.collect()
        for name in a:
            assert a[name].tobytes() == b[name].tobytes(), name
        assert a.episode_return.tobytes() == b.episode_return.tobytes()


def test_state_of_a_collector_that_has_not_begun():
    one, other = (Collector(make("CartPole-v1", 2), Coin(), num_steps=4) for _ in range(2))
    other.load_state_dict(one.state_dict())
    assert one.collect().obs.tobytes() == other.collect().obs.tobytes()


@pytest.mark.parametrize(
    ("name", "answer"),
    [("ConstantReward", 10.0), ("Truncated", 10.0), ("Terminated", 1.0)],
)
def test_td_targets_of_known_values_stay_put(name, answer):
    """r + gamma next_value is V where V is right: truncation bootstraps, termination does not."""
    collector = Collector(make(f"dynarl/{name}-v0", 2), Coin(answer), num_steps=12)
    for _ in range(3):
        fragment = collector.collect()
        np.testing.assert_allclose(fragment.reward + 0.9 * fragment.next_value, answer, rtol=1e-6)


def test_layout_dtypes_and_reuse():
    collector = Collector(make("Pendulum-v1", 2), Gauss(), num_steps=4)
    first = collector.collect()
    kept = first.copy()
    second = collector.collect(7)
    assert second is first, "memory is reused"
    assert not np.array_equal(kept.obs, second.obs)
    assert (second.policy_version, second.first_step, second.num_steps, second.num_envs) == (7, 4, 4, 2)
    assert all(array.flags.c_contiguous for array in second.values())
    types = {name: array.dtype.name for name, array in second.items()}
    assert {types[n] for n in ("obs", "action", "reward", "log_prob", "value", "next_value")} == {"float32"}
    assert {types[n] for n in ("terminated", "truncated", "valid", "episode_start")} == {"bool"}
    np.testing.assert_array_equal(kept.last_obs, second.obs[0])
    np.testing.assert_array_equal(kept.build_next_obs()[-1], second.obs[0])


def test_unclipped_actions_are_stored():
    class Wild(Gauss):
        def act(self, obs, noise, *, explore, action_mask=None):
            return ActResult(noise * 100, np.zeros(len(obs)), self.value(obs))

    fragment = Collector(make("Pendulum-v1", 2), Wild(), num_steps=8).collect()
    assert np.abs(fragment.action).max() > 50


def test_flatten_and_batches():
    fragment = Fragment(valid=np.ones((3, 2), bool))
    fragment["reward"] = np.arange(6.0).reshape(3, 2)
    flat = fragment.flatten()
    assert flat.reward.base is not None and flat.reward.tolist() == [0, 1, 2, 3, 4, 5]
    fragment.valid[1, 0] = False
    assert fragment.flatten().reward.tolist() == [0, 1, 3, 4, 5]
    assert fragment.num_valid == 5
    pieces = list(fragment.flatten().minibatches(np.array([4, 3, 2, 1, 0]), 2))
    assert [piece.reward.tolist() for piece in pieces] == [[5, 4, 3], [1, 0]]
    assert isinstance(pieces[0], Batch)


def test_refusals():
    fragment = Fragment(valid=np.ones((3, 2), bool))
    with pytest.raises(ValueError, match=r"Fragment: x must be \[3, 2, ...\], got \[2, 3\]"):
        fragment["x"] = np.zeros((2, 3))
    with pytest.raises(AttributeError, match="Fragment: has no 'done', it has"):
        _ = fragment.done
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        Collector(make("CartPole-v1"), Coin(), num_steps=0)
    policy = Coin()
    policy.noise_kind = "gumbel"
    with pytest.raises(ValueError, match="noise_kind must be 'uniform', 'normal' or 'none', got 'gumbel'"):
        Collector(make("CartPole-v1"), policy, num_steps=1)
