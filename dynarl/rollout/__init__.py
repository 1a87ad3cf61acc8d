"""Fragments of experience, the collectors that fill them, and replay."""

from typing import Any

from dynarl.moved import missing_attribute
from dynarl.rollout.collect import ActingPolicy, ActResult, Collector
from dynarl.rollout.feedback import Feedback, map_state
from dynarl.rollout.fragment import Batch, Fragment
from dynarl.rollout.noise import NoiseStream
from dynarl.rollout.play import play
from dynarl.rollout.prioritized import PrioritizedReplay
from dynarl.rollout.replay import ReplayBuffer
from dynarl.rollout.stateful_collector import Rows, StatefulActingPolicy, StatefulCollector

__all__ = [
    "ActResult",
    "ActingPolicy",
    "Batch",
    "Collector",
    "Feedback",
    "Fragment",
    "NoiseStream",
    "PrioritizedReplay",
    "ReplayBuffer",
    "Rows",
    "StatefulActingPolicy",
    "StatefulCollector",
    "map_state",
    "play",
]


def __getattr__(name: str) -> Any:
    raise missing_attribute(__name__, name)
