"""Every numeric field of every config at extreme values: a refusal that names the field, or a config that holds it."""

import dataclasses
import math
import types
import typing

import numpy as np
import pytest

from dynarl.agents import DQN, PPO, SAC
from dynarl.config import RunConfig
from dynarl.train.cli import main

CONFIGS = [RunConfig, PPO.config_class, DQN.config_class, SAC.config_class]
INFINITE = {"max_grad_norm", "rho_bar", "c_bar"}


def numeric(config_class):
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        kinds = typing.get_args(hints[field.name]) if isinstance(hints[field.name], types.UnionType) else ()
        kinds = kinds or (hints[field.name],)
        if int in kinds or float in kinds:
            yield field.name, int in kinds


CASES = [(config, name, whole) for config in CONFIGS for name, whole in numeric(config)]
by_field = pytest.mark.parametrize(
    ("config", "name", "whole"), CASES, ids=[f"{config.__name__}.{name}" for config, name, _ in CASES]
)


def outcome(config, name, value):
    """Return the value that a config holds, None if it was refused by a message that names the field."""
    try:
        return getattr(config(**{name: value}), name)
    except (ValueError, TypeError) as error:
        assert name in str(error), error
        assert len(str(error)) < 400
        return None


@by_field
def test_what_no_number_of_a_setting_can_be_is_refused(config, name, whole):
    for value in (float("nan"), float("-inf"), 10**400, -(10**400), np.float32("nan")):
        assert outcome(config, name, value) is None
    assert outcome(config, name, math.inf) == (math.inf if name in INFINITE else None)
    if whole:
        for value in (2**63, 1e38, 0.5):
            assert outcome(config, name, value) is None


@by_field
def test_other_values_are_held_as_they_are_or_refused(config, name, whole):
    for value in (0, -1, 1e38, 2**62):
        held = outcome(config, name, value)
        assert held is None or held == value


@pytest.mark.parametrize("value", ["nan", "inf", "1e400", "-1", "1" + "0" * 400])
def test_the_command_line_names_the_field(tmp_path, capsys, value):
    words = ["--env-id", "CartPole-v1", "--run-dir", str(tmp_path / "r"), f"--learning-rate={value}"]
    assert main(PPO, words) == 2
    assert "learning_rate" in capsys.readouterr().err.replace("-rate", "_rate")
    assert not (tmp_path / "r").exists()
