"""Action masks of environments: from info or a method, in single and vector environments, at every boundary."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from dynarl.envs import make
from dynarl.envs.masks import flat_mask, mask_size
from dynarl.envs.tasks.diagnostic import MaskedBandit


class Counting(gymnasium.Env):
    """The mask says the step: action (count mod 5) alone is allowed. Truncated after 3 steps, or terminated."""

    def __init__(self, ends="truncated", method=False, size=5):
        self.observation_space = spaces.Box(0, 100, (1,), np.float32)
        self.action_space = spaces.Discrete(5)
        self.ends, self.size, self.count, self.offset = ends, size, 0, 0
        self.method = method
        if method:
            self.action_masks = self.mask

    def mask(self):
        mask = np.zeros(self.size, np.int8)
        mask[(self.count + self.offset) % 5] = 1
        return mask

    def info(self):
        return {} if self.method else {"action_mask": self.mask()}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count, self.offset = 0, self.offset + 1  # another start in each episode
        return np.zeros(1, np.float32), self.info()

    def step(self, action):
        assert self.mask()[action], "a forbidden action"
        self.count += 1
        over = self.count == 3
        flags = (over and self.ends == "terminated", over and self.ends == "truncated")
        return np.full(1, self.count, np.float32), 0.0, *flags, self.info()


def allowed(masks):
    return None if masks is None else [np.flatnonzero(mask).tolist() for mask in masks]


VECTORS = {
    "sync": lambda function: make(function, 2),
    **{
        mode.name: lambda function, mode=mode: make(SyncVectorEnv([function] * 2, autoreset_mode=mode))
        for mode in AutoresetMode
    },
}


@pytest.mark.parametrize("method", [False, True], ids=["info", "method"])
@pytest.mark.parametrize("kind", VECTORS)
def test_masks_follow_the_environment(kind, method):
    envs = VECTORS[kind](lambda: Counting(method=method))
    envs.reset()
    offset, count, seen = 1, 0, []
    for _ in range(12):
        expected = (offset + count) % 5
        resetting = kind == "NEXT_STEP" and count == 3
        if not resetting:
            assert allowed(envs.action_mask) == [[expected]] * 2
        step = envs.step(np.array([expected] * 2))
        count = 0 if resetting else count + 1
        offset += resetting
        seen.append(count)
        if step.truncated.any():
            after = allowed(envs.next_action_mask)
            # what a vector environment asks for after it has reset is not known before it
            known = kind != "SAME_STEP" or not method
            assert after == ([[(offset + 3) % 5]] * 2 if known else [[0, 1, 2, 3, 4]] * 2)
            if kind != "NEXT_STEP":
                count, offset = 0, offset + 1
        elif not resetting:
            assert allowed(envs.next_action_mask) == [[(offset + count) % 5]] * 2
    assert max(seen) == 3


def test_no_masks():
    for envs in (make("CartPole-v1", 2), make("MountainCar-v0", 2)):
        envs.reset()
        envs.step(np.zeros(2, np.int64))
        assert envs.action_mask is None and envs.next_action_mask is None


def test_a_terminal_state_needs_no_mask():
    class Ending(Counting):
        def mask(self):
            return np.zeros(5, bool) if self.count == 3 else super().mask()

    envs = make(lambda: Ending("terminated"), 1)
    envs.reset()
    for _ in range(7):
        envs.step(envs.action_mask.argmax(axis=1))


@pytest.mark.parametrize("kind", VECTORS)
def test_multi_discrete(kind):
    envs = VECTORS[kind](lambda: MaskedBandit(3, components=2))
    obs = envs.reset()
    assert envs.action_mask.shape == (2, 6)
    for _ in range(5):
        np.testing.assert_array_equal(envs.action_mask, obs > 0.5)
        envs.step(envs.action_mask.reshape(2, 2, 3).argmax(axis=2))
        obs = envs.obs


def test_state_has_the_mask():
    envs = make("dynarl/MaskedBandit-v0", 3, seed=1)
    envs.reset()
    envs.step(envs.action_mask.argmax(axis=1))
    other = make("dynarl/MaskedBandit-v0", 3, seed=1)
    other.reset()
    other.load_state_dict(envs.state_dict())
    np.testing.assert_array_equal(other.action_mask, envs.action_mask)
    fresh = make("dynarl/MaskedBandit-v0", 3, seed=1)
    fresh.load_state_dict(envs.state_dict())
    np.testing.assert_array_equal(fresh.action_mask, envs.action_mask)
    action = envs.action_mask.argmax(axis=1)
    np.testing.assert_array_equal(fresh.step(action).reward, envs.step(action).reward)
    np.testing.assert_array_equal(fresh.action_mask, envs.action_mask)


def test_flat_masks():
    space = spaces.MultiDiscrete([2, 3])
    assert mask_size(space) == 5
    expected = [True, False, True, True, False]
    assert flat_mask(space, ([1, 0], [1, 1, 0]), "here").tolist() == expected
    assert flat_mask(space, np.array(expected), "here").tolist() == expected


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([1, 1], r"environment 0, step 0.*: the action mask must have 5 entries for Discrete\(5\), got 2"),
        ([0] * 5, r"environment 0, step 0.*: the action mask must allow an action; end the episode or allow a no-op"),
    ],
)
def test_bad_masks(mask, message):
    class Bad(Counting):
        def mask(self):
            return mask

    with pytest.raises(ValueError, match=message):
        make(Bad, 1).reset()


def test_a_component_that_allows_nothing():
    with pytest.raises(ValueError, match="here: the action mask must allow an action"):
        flat_mask(spaces.MultiDiscrete([2, 2]), [1, 1, 0, 0], "here")


def test_a_mask_that_is_missing_later():
    class Forgetful(Counting):
        def info(self):
            return {} if self.count else super().info()

    envs = make(Forgetful, 1)
    envs.reset()
    with pytest.raises(ValueError, match=r"environment 0, step 0: info must have 'action_mask', as in the first"):
        envs.step(envs.action_mask.argmax(axis=1))


def test_masks_of_other_spaces_are_refused():
    class Boxed(Counting):
        def __init__(self, method):
            super().__init__(method=method)
            self.action_space = spaces.Box(-1, 1, (5,), np.float32)

    message = r"action mask: the action space must be Discrete or MultiDiscrete, got Box"
    with pytest.raises(ValueError, match=message):
        make(lambda: Boxed(True), 1)
    with pytest.raises(ValueError, match=message):
        make(lambda: Boxed(False), 1).reset()


def test_masked_bandit():
    env = MaskedBandit(4)
    for seed in range(20):
        obs, info = env.reset(seed=seed)
        best = int(np.flatnonzero(info["action_mask"]).max())
        assert env.best() == best / 4
        assert env.step(best)[1:3] == (best / 4, True)
        if not obs.all():
            with pytest.raises(ValueError, match="MaskedBandit: the action must be allowed by the mask"):
                env.step(int(obs.argmin()))
    with pytest.raises(ValueError, match="MaskedBandit: source must be 'info' or 'method', got 'x'"):
        MaskedBandit(source="x")
