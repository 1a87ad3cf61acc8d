"""States and feedback in fragments against a step-by-step loop, in every autoreset mode."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from dynarl.envs import make
from dynarl.envs.info import InfoFields
from dynarl.rollout import ActResult, Feedback, StatefulCollector, map_state
from dynarl.rollout.feedback import encode_action
from dynarl.rollout.stateful_collector import sequence_feedback
from tests.helpers.scripted import MODES, brute_force, scripted_environments
from tests.helpers.scripted_fragments import rows_of, scripts


class Sums:
    """The state sums what was seen, fading; V and the action depend on all of it and on the feedback."""

    noise_kind, noise_size, info_fields = "none", 0, ()

    def initial_state(self):
        return {"sum": np.array([1.0, 2.0]), "count": (np.array(0.0),)}

    def step(self, obs, state, feedback):
        total = 0.5 * state["sum"] + obs[:, :2] + feedback.action @ np.array([[0.1, 0.0], [0.0, 0.2]])
        after = {"sum": total, "count": (state["count"][0] + 1,)}
        value = total.sum(1) + state["count"][0] + 0.01 * feedback.reward + feedback.episode_start
        return (np.floor(value) % 2).astype(np.int64), value, after

    def act(self, obs, noise, state, feedback, rows):
        action, value, after = self.step(obs, state, feedback)
        return ActResult(action, -value, value, after)

    def value(self, obs, state, feedback, rows):
        return self.step(obs, state, feedback)[1]


def loop(policy, rows):
    """Value and next value of every row of one environment, one step at a time."""
    state, before, values, next_values = None, None, [], []
    one = lambda x: np.asarray(x)[None]  # noqa: E731
    for row in rows:
        if row.episode_start:
            state, before = map_state(lambda leaf: leaf[None].copy(), policy.initial_state()), (np.zeros(2), 0.0, True)
        feedback = Feedback(one(before[0]), one(before[1]), one(before[2]), {})
        action, value, state = policy.step(one(row.obs), state, feedback)
        before = (np.eye(2)[action[0]], row.reward, False)
        feedback = Feedback(one(before[0]), one(before[1]), one(False), {})
        values.append(value[0])
        next_values.append(0.0 if row.terminated else policy.value(one(row.next_obs), state, feedback, None)[0])
    return values, next_values


@settings(deadline=None, max_examples=40)
@given(scripts=scripts, num_steps=st.integers(1, 9), count=st.integers(1, 4))
@pytest.mark.parametrize("mode", MODES)
def test_values_are_those_of_a_loop(mode, scripts, num_steps, count):
    policy = Sums()
    collector = StatefulCollector(scripted_environments(scripts, mode), policy, num_steps=num_steps)
    fragments = [collector.collect(k).copy() for k in range(count)]
    for n, script in enumerate(scripts):
        rows = rows_of(fragments, n)
        values, next_values = loop(policy, brute_force(n, script, len(rows["reward"])))
        np.testing.assert_allclose(rows["value"], values, rtol=1e-6)
        np.testing.assert_allclose(rows["next_value"], next_values, rtol=1e-6)
    for fragment in fragments:  # learning sees the states and the feedback that acting saw
        feedback = sequence_feedback(fragment, collector.envs.action_space)
        state = map_state(lambda leaf: leaf[0], fragment.states)
        for t in range(num_steps):
            start = feedback.episode_start[t]
            initial = policy.initial_state()
            state = map_state(
                lambda leaf, first, start=start: np.where(start.reshape(-1, *[1] * (leaf.ndim - 1)), first, leaf),
                state,
                initial,
            )
            now = feedback.map(lambda column, t=t: column[t])
            _, value, state = policy.step(fragment.obs[t], state, now)
            np.testing.assert_allclose(value, fragment.value[t], rtol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_exact_resume_of_the_state(mode):
    scripts = [[(3, False, True), (5, True, False)], [(4, False, True)]]
    one = StatefulCollector(scripted_environments(scripts, mode), Sums(), num_steps=7)
    one.collect()
    saved = one.state_dict()
    other = StatefulCollector(scripted_environments(scripts, mode), Sums(), num_steps=7)
    other._started = True
    other.envs.load_state_dict = lambda state: None
    other.load_state_dict(saved)
    assert set(other._state) == {"sum", "count"} and isinstance(other._state["count"], tuple)
    map_state(np.testing.assert_array_equal, other._state, one._state)
    np.testing.assert_array_equal(other._action, one._action)
    np.testing.assert_array_equal(other._reward, one._reward)


class Telling(gymnasium.Env):
    """info["t"] is the step within the episode, info["odd"] whether it is odd; the reset says nothing of odd."""

    def __init__(self, length=3, broken=None):
        self.observation_space, self.action_space = spaces.Box(-1, 99, (1,), np.float32), spaces.Discrete(2)
        self.length, self.broken, self.t = length, broken, 0

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(1, np.float32), {"t": 100}

    def step(self, action):
        self.t += 1
        info = {"t": self.t, "odd": bool(self.t % 2)}
        if self.broken == "missing":
            del info["t"]
        elif self.broken == "text":
            info["t"] = "three"
        return np.array([self.t], np.float32), 1.0, False, self.t >= self.length, info


class Reader(Sums):
    info_fields = ("t", "odd")

    def initial_state(self):
        return ()

    def step(self, obs, state, feedback):
        return np.zeros(len(obs), np.int64), 10.0 * feedback.info["t"] + feedback.info["odd"], state


@pytest.mark.parametrize("mode", ["sync", "NEXT_STEP", "SAME_STEP", "DISABLED"])
def test_info_fields_reach_the_policy(mode):
    if mode == "sync":
        envs = make(Telling, 2)
    else:
        kind = gymnasium.vector.AutoresetMode[mode]
        envs = make(gymnasium.vector.SyncVectorEnv([Telling, Telling], autoreset_mode=kind))
    collector = StatefulCollector(envs, Reader(), num_steps=9)
    fragment = collector.collect()
    keep = fragment.valid[:, 0]
    count = int(keep.sum())
    expected = np.tile([1000.0, 11.0, 20.0], 3)[:count]
    np.testing.assert_array_equal(fragment.value[keep, 0], expected)
    successor = np.tile([11.0, 20.0, 31.0], 3)[:count]
    np.testing.assert_array_equal(fragment.next_value[keep, 1], successor)
    np.testing.assert_array_equal(fragment["info/t"][keep, 0], np.tile([100.0, 1.0, 2.0], 3)[:count])
    state = collector.state_dict()["envs"]["info"]
    assert set(state) == {"t", "odd"}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("missing", r"environment 0, step 0: the policy requires info\['t'\], the step's info has \['odd'\]"),
        ("text", r"info\['t'\] must be one finite number, got 'three'"),
    ],
)
def test_fields_that_are_missing_or_no_numbers(broken, message):
    collector = StatefulCollector(make(lambda: Telling(broken=broken), 1), Reader(), num_steps=2)
    with pytest.raises(ValueError, match=message):
        collector.collect()


def test_names_of_fields():
    with pytest.raises(ValueError, match=r"info_fields: must be distinct strings, got \['a', 'a'\]"):
        InfoFields(("a", "a"), 2)


@pytest.mark.parametrize(
    ("space", "action", "expected"),
    [
        (spaces.Discrete(3, start=5), [[2, 0]], [[[0, 0, 0], [1, 0, 0]]]),
        (spaces.MultiDiscrete([2, 2]), [[[1, 0], [1, 1]]], [[[0, 0, 0, 0], [0, 1, 0, 1]]]),
        (spaces.MultiBinary(2), [[[1, 0], [1, 1]]], [[[0, 0], [1, 1]]]),
        (spaces.Box(-1, 1, (2,)), [[[0.5, 3], [2, 1]]], [[[0, 0], [2, 1]]]),
        (
            spaces.Tuple((spaces.Discrete(3), spaces.Box(-1, 1, (1,)))),
            [[[1, 0.5], [2, -0.5]]],
            [[[0, 0, 0, 0], [0, 0, 1, -0.5]]],
        ),
    ],
)
def test_encoded_actions(space, action, expected):
    found = encode_action(space, np.array(action), np.array([[True, False]]))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_a_state_keeps_its_structure():
    tree = {"a": (1, 2), "b": 3}
    assert map_state(lambda x: 2 * x, tree) == {"a": (2, 4), "b": 6}
    for other in ({"a": (1, 2)}, {"a": (1, 2, 3), "b": 3}, {"a": (1, 2), "b": None}, 5):
        with pytest.raises(ValueError, match="policy: a state must keep the structure of initial_state"):
            map_state(lambda x, y: x, tree, other)
