"""Steps per second by phase."""

from dynarl.train.clock import Phases


def test_rates_are_of_the_time_since_the_last_record():
    phases = Phases(100)
    assert phases.metrics(300, {"env": 2.0, "learn": 0.0}) == {
        "time/env_s": 2.0,
        "time/learn_s": 0.0,
        "time/sps_env": 100,
    }
    assert phases.metrics(400, {"env": 2.5, "learn": 0.1})["time/sps_env"] == 200
    assert phases.metrics(400, {"env": 2.5}) == {"time/env_s": 2.5}
