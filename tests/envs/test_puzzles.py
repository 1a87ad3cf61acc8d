"""Questions whose right answers are known: solvers that see only the observation, what guessing gets, exact state."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from dynarl.envs.checker import check
from dynarl.envs.tasks.puzzles import Dispatch, Expression, HeaviestKind, PointerChase, Questions, SometimesHard
from tests.helpers.exact_state import assert_exact_state

NAMES = ("PointerChase", "SometimesHard", "Dispatch", "HeaviestKind", "Expression")


def pointer_chase(obs, hops=99):
    rows = obs.reshape(9, 8).argmax(1)
    node = rows[0]
    for _ in range(hops):
        node = rows[1 + node]
    return node


def expression(obs):
    token = obs.reshape(15, 7).argmax(1)

    def value(i):
        if token[i] < 3:
            return token[i] == 2
        left = value(2 * i + 1)
        return {3: lambda: left and value(2 * i + 2), 4: lambda: left or value(2 * i + 2),
                5: lambda: left != value(2 * i + 2), 6: lambda: not left}[token[i]]()  # fmt: skip

    return int(value(0))


def heaviest_kind(obs):
    things = obs[1:].reshape(12, 5)[: round(obs[0] * 12)]
    return (things[:, :1] * things[:, 1:]).sum(0).argmax()


SOLVERS = {
    "PointerChase": pointer_chase,
    "SometimesHard": lambda obs: int((obs[2:].prod() if obs[0] > 0 else obs[1]) > 0),
    "Dispatch": lambda obs: Dispatch().names()[obs[:8].argmax(), obs[8:].argmax()],
    "HeaviestKind": heaviest_kind,
    "Expression": expression,
}


def play(name, answer, episodes, seed=0):
    """The mean return and its standard error."""
    env, returns = gymnasium.make(f"dynarl/{name}-v0"), []
    for episode in range(episodes):
        obs, _ = env.reset(seed=seed + episode)
        total, over, count = 0.0, False, 0
        while not over:
            obs, reward, terminated, over, _ = env.step(answer(obs))
            total, count = total + reward, count + 1
        assert count == 16 and not terminated
        returns.append(total)
    return np.mean(returns), np.std(returns) / np.sqrt(episodes)


@pytest.mark.parametrize("name", NAMES)
def test_the_optimum_is_one(name):
    assert play(name, SOLVERS[name], 50) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("name", "answer", "expected"),
    [
        ("PointerChase", lambda obs: 3, 1 / 8),
        ("SometimesHard", lambda obs: 1, 1 / 2),
        ("SometimesHard", lambda obs: int(obs[1] > 0), 3 / 4 + 1 / 4 / 2),
        ("Dispatch", lambda obs: 2, 1 / 6),
        ("Dispatch", lambda obs: Dispatch().names()[0, obs[8:].argmax()],
         (Dispatch().names() == Dispatch().names()[0]).mean()),
        ("HeaviestKind", lambda obs: 2, 1 / 4),
        ("Expression", lambda obs: 1, 1 / 2),  # and is as often false as or is true
    ],
)  # fmt: skip
def test_what_guessing_gets(name, answer, expected):
    mean, error = play(name, answer, 200)
    assert mean == pytest.approx(expected, abs=4 * error)


def test_a_pointer_chaser_who_stops_early():
    """Right where the way is at most k hops; else it names a node on the way that is not its end."""
    for k in (1, 3, 6):
        mean, error = play("PointerChase", lambda obs, k=k: pointer_chase(obs, k), 100)
        assert mean == pytest.approx(k / 6, abs=4 * error + 1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_checks(name):
    env = gymnasium.make(f"dynarl/{name}-v0")
    check_env(env.unwrapped, skip_render_check=True)
    assert not [finding for finding in check(f"dynarl/{name}-v0", show=False) if finding.level != "hint"]


@pytest.mark.parametrize("name", NAMES)
def test_exact_state(name):
    assert_exact_state(f"dynarl/{name}-v0", np.zeros((30, 2), np.int64), cut=10)


@pytest.mark.parametrize(
    ("make_puzzle", "message"),
    [
        (lambda: Questions(PointerChase(), 0), "Questions: count must be at least 1, got 0"),
        (lambda: PointerChase(8, 8), r"PointerChase: hops must lie in \[1, nodes\), got 8 hops and 8 nodes"),
        (lambda: SometimesHard(1.5), r"SometimesHard: hard must lie in \[0, 1\], got 1.5"),
        (lambda: Dispatch(0, 6), "Dispatch: rules must be at least 1 and symbols 2, got 0 and 6"),
        (lambda: HeaviestKind(0), "HeaviestKind: most must be at least 1, got 0"),
        (lambda: Expression(0), "Expression: depth must be at least 1, got 0"),
    ],
)
def test_refusals(make_puzzle, message):
    with pytest.raises(ValueError, match=message):
        make_puzzle()
