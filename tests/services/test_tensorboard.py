"""What TensorBoard shows of a run: read back with TensorBoard's own reader."""

import numpy as np
import pytest

from dynarl import train
from dynarl.agents import PPO, PPOConfig
from dynarl.config import RunConfig

event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

SMALL = {"num_envs": 2, "num_steps": 32, "batch_size": 64, "num_epochs": 1, "hidden_sizes": (8,)}


def run(path, **changes):
    intervals = {"eval_every": 128, "eval_episodes": 2, "periodic_eval_episodes": 1, "log_every": 64}
    config = RunConfig(
        run_dir=str(path), env_id="CartPole-v1", progress=False, **{"total_steps": 256, **intervals, **changes}
    )
    return train.run(PPO, config, PPOConfig(**SMALL, learning_rate=0.002))


def events(path):
    sizes = {"scalars": 0, "histograms": 0, "images": 0}
    found = event_accumulator.EventAccumulator(str(path), size_guidance=sizes)
    found.Reload()
    return found


def test_hyperparameters(tmp_path):
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    run(tmp_path / "r")
    run(tmp_path / "r", total_steps=384, resume=True)
    found = events(tmp_path / "r")
    told = {}
    for tag, content in found.PluginTagToContent("hparams").items():
        told[tag.rpartition("/")[2]] = HParamsPluginData.FromString(content)
    assert told.keys() == {"experiment", "session_start_info", "session_end_info"}
    values = told["session_start_info"].session_start_info.hparams
    assert values["learning_rate"].number_value == 0.002
    assert values["algo"].string_value == "ppo" and values["env_id"].string_value == "CartPole-v1"
    assert values["hidden_sizes"].string_value == "(8,)"
    assert values["normalize_obs"].bool_value is False and values["normalize_obs"].HasField("bool_value")
    assert "clip_range_vf" in values
    shown = [info.name.tag for info in told["experiment"].experiment.metric_infos]
    assert shown == ["eval/mean_reward", "rollout/ep_rew_mean"]
    assert set(shown) <= set(found.Tags()["scalars"])


def test_histograms_of_parameters(tmp_path):
    run(tmp_path / "r", histogram_every=128)
    found = events(tmp_path / "r")
    names = found.Tags()["histograms"]
    assert "policy/actor/0/weight" in names and "policy/critic/2/bias" in names
    weights = found.Histograms("policy/actor/0/weight")
    assert [event.step for event in weights] == [128, 256]
    assert weights[0].histogram_value.num == 4 * 8
    assert not events_without(tmp_path, "histograms")


def events_without(tmp_path, kind):
    run(tmp_path / "without")
    return events(tmp_path / "without").Tags()[kind]


def test_videos(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("pygame")
    run(tmp_path / "r", video_every=128)
    files = sorted((tmp_path / "r" / "videos").iterdir())
    assert [path.name for path in files] == ["000000000128.gif", "000000000256.gif"]
    with image.open(files[0]) as gif:
        assert (gif.size, gif.n_frames > 5) == ((600, 400), True)
    shown = events(tmp_path / "r").Images("eval/video")
    assert [(event.step, event.width, event.height) for event in shown] == [(128, 600, 400), (256, 600, 400)]
    assert shown[0].encoded_image_string == files[0].read_bytes()
    assert np.frombuffer(shown[0].encoded_image_string[:6], np.uint8).tobytes() == b"GIF89a"
