"""Videos and their errors."""

import sys

import gymnasium
import numpy as np
import pytest

from dynarl.agents import PPO
from dynarl.train.video import record_video, write_gif

image = pytest.importorskip("PIL.Image")

SMALL = {"num_envs": 2, "num_steps": 32, "batch_size": 64, "num_epochs": 1, "hidden_sizes": (8,)}


class Square(gymnasium.Env):
    """Renders a square of a colour that says the step."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    frame = np.zeros((8, 8, 3), np.uint8)

    def __init__(self, render_mode=None):
        self.render_mode, self.count = render_mode, 0

    def reset(self, *, seed=None, options=None):
        self.count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.count += 1
        return np.zeros(1, np.float32), 0.0, self.count == 5, False, {}

    def render(self):
        return self.frame + np.uint8(self.count * 50)


def test_a_gif_has_one_frame_per_step(tmp_path):
    agent = PPO(Square, **SMALL)
    path = record_video(agent, tmp_path / "deep" / "v.gif", episodes=2)
    with image.open(path) as gif:
        assert gif.n_frames == 10 and gif.info["duration"] == 100
        gif.seek(3)
        assert gif.convert("RGB").getpixel((0, 0))[0] == pytest.approx(150, abs=8)
    with image.open(record_video(agent, tmp_path / "short.gif", max_frames=2)) as gif:
        assert gif.n_frames == 2


def test_what_cannot_be_recorded(tmp_path, monkeypatch):
    agent = PPO(Square, **SMALL)
    with pytest.raises(ValueError, match=r"video: the environment must accept render_mode='rgb_array'"):
        record_video(agent, tmp_path / "v.gif", env=lambda: Square())
    with pytest.raises(ValueError, match=r"video: .* must have render_mode 'rgb_array', got None"):
        record_video(agent, tmp_path / "v.gif", env=lambda render_mode: Square())
    with pytest.raises(ValueError, match=r"video: needs a single environment, got SyncVectorEnv"):
        record_video(agent, tmp_path / "v.gif", env=lambda render_mode: gymnasium.make_vec("CartPole-v1", 2, "sync"))
    with pytest.raises(ValueError, match=r"Square was not made by gymnasium.make and has no spec; .* or give env="):
        record_video(agent, tmp_path / "v.gif", env=Square())
    monkeypatch.setattr(Square, "frame", np.zeros((8, 8), np.uint8))
    with pytest.raises(ValueError, match=r"must return uint8 frames \[H, W, 3\], got uint8 of shape \(8, 8\)"):
        record_video(agent, tmp_path / "v.gif")
    with pytest.raises(ValueError, match="write_gif: there must be at least one frame, got 0"):
        write_gif(tmp_path / "v.gif", [], fps=10)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"recording needs Pillow: pip install -e '.*\[video\]'"):
        record_video(agent, tmp_path / "v.gif")
