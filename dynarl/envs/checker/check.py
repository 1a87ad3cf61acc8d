"""Finds mistakes of an environment that make agents fail silently, with a fix for each.

    for finding in check("MyEnv-v0"): ...

The environment is played with random actions, so only the states they reach are checked. Errors break learning or
are rejected by dynarl, warnings bias it, hints name settings that usually learn better.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import gymnasium
from gymnasium.vector import AutoresetMode, VectorEnv

from dynarl.envs.checker.declarations import actions, declared, observations, rendering
from dynarl.envs.checker.episodes import play, play_vector

__all__ = ["Finding", "check"]


class Finding(NamedTuple):
    """A problem: its level ("error", "warning", "hint"), its name, its description, and how to fix it."""

    level: Literal["error", "warning", "hint"]
    name: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.level}: {self.what}\n    {self.fix}"

    @property
    def mend(self) -> str:
        """Raise AttributeError: the name that `fix` had in earlier versions."""
        raise AttributeError("Finding.mend is now called fix")


Report = Callable[[str, str, str, str], None]


def check(env: Any, *, steps: int = 500, seed: int = 0, show: bool = True) -> list[Finding]:
    """Return the problems of an environment, errors first; with `show`, print them.

    ``env`` is a Gymnasium id, a function that makes an environment, an environment, or a vector environment. About
    ``steps`` steps are made, after resets with ``seed``, other seeds, and none. An environment that was passed in is
    left in its last state; one made here is closed.
    """
    found: dict[tuple[str, str], Finding] = {}

    def report(level: Any, name: str, what: str, fix: str) -> None:
        found.setdefault((level, name), Finding(level, name, what, fix))

    made = not isinstance(env, gymnasium.Env | VectorEnv)
    subject = _make(env)
    if not isinstance(subject, gymnasium.Env | VectorEnv):
        raise TypeError(f"check: must be a gymnasium environment, got {type(subject).__name__}")
    try:
        if isinstance(subject, VectorEnv):
            _check_vector(subject, report)
        elif declared(subject, report):
            observations(subject.observation_space, report)
            actions(subject.action_space, report)
            rendering(subject, report)
            play(subject, report, steps=steps, seed=seed)
    finally:
        if made:
            subject.close()
    findings = sorted(found.values(), key=lambda one: ("error", "warning", "hint").index(one.level))
    if show:
        print("\n".join(map(str, findings)) if findings else f"{_name(env)}: nothing found")
    return findings


def _make(env: Any) -> Any:
    if isinstance(env, str):
        return gymnasium.make(env, disable_env_checker=True)
    return env() if callable(env) and not isinstance(env, gymnasium.Env | VectorEnv) else env


def _name(env: Any) -> str:
    return env if isinstance(env, str) else getattr(env, "__name__", type(env).__name__)


def _check_vector(env: VectorEnv[Any, Any, Any], report: Report) -> None:
    mode = env.metadata.get("autoreset_mode")
    try:
        mode = AutoresetMode(mode)
    except ValueError:
        report(
            "error", "autoreset", f"metadata['autoreset_mode'] is {mode!r}: it is unknown when environments reset",
            "set it to AutoresetMode.DISABLED, SAME_STEP or NEXT_STEP of gymnasium.vector, as the environment does",
        )  # fmt: skip
        return
    observations(env.single_observation_space, report)
    actions(env.single_action_space, report)
    play_vector(env, mode, report)
