"""Atari games with the preprocessing of Mnih et al., Nature 518, 2015, by gymnasium's wrappers.

    agent = PPO(lambda: atari("ALE/Pong-v5"), num_envs=8, hidden_sizes=(), clip_range=0.1, ent_coef=0.01)

Requires the games: pip install ale-py, and `import ale_py` to register them.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

__all__ = ["atari"]


def atari(
    env_id: str,
    *,
    training: bool = True,
    frame_skip: int = 4,
    screen_size: int = 84,
    stack: int = 4,
    noop_max: int = 30,
    render_mode: str | None = None,
) -> gymnasium.Env[Any, Any]:
    """Make an Atari game whose observations are the last `stack` grey frames, uint8 [stack, size, size].

    An episode begins with up to `noop_max` random no-ops; each action is repeated for `frame_skip` frames, and the
    observation is the maximum over the last two. In `training` the loss of a life terminates the episode and rewards
    are replaced by their sign; evaluate with training=False. Sticky actions are off, as in the paper. Raises
    ImportError if the games are not installed.
    """
    from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation, TransformReward

    try:
        env = gymnasium.make(env_id, frameskip=1, repeat_action_probability=0.0, render_mode=render_mode)
    except (gymnasium.error.NamespaceNotFound, gymnasium.error.NameNotFound) as error:
        raise ImportError(f"atari: {env_id} is not registered; pip install ale-py, then import ale_py") from error
    env = AtariPreprocessing(
        env, noop_max=noop_max, frame_skip=frame_skip, screen_size=screen_size, terminal_on_life_loss=training
    )
    if training:
        env = TransformReward(env, lambda reward: float(np.sign(float(reward))))
    return FrameStackObservation(env, stack)
