"""Atari preprocessing, with the games where they are installed."""

import numpy as np
import pytest

from dynarl.agents.encoders.choose import features_for
from dynarl.agents.encoders.images import NatureCNN
from dynarl.envs import make
from dynarl.envs.atari import atari


def test_without_the_games():
    with pytest.raises(ImportError, match="atari: ALE/NoSuchGame-v5 is not registered; pip install ale-py"):
        atari("ALE/NoSuchGame-v5")


def test_a_game():
    pytest.importorskip("ale_py")
    pytest.importorskip("cv2")
    envs = make(lambda: atari("ALE/Pong-v5"), 2)
    obs = envs.reset()
    assert obs.shape == (2, 4, 84, 84) and obs.dtype == np.uint8
    assert isinstance(features_for(envs.observation_space), NatureCNN)
    rewards = [envs.step(np.zeros(2, np.int64)).reward for _ in range(80)]
    assert set(np.unique(rewards)) <= {-1.0, 0.0, 1.0}
