"""Fragments of experience and the worker that fills them."""

from dynarl.rollout.collect import ActingPolicy, Collector
from dynarl.rollout.fragment import Batch, Fragment
from dynarl.rollout.noise import NoiseStream
from dynarl.rollout.play import play
from dynarl.rollout.prioritized import PrioritizedReplay
from dynarl.rollout.replay import ReplayBuffer

__all__ = [
    "ActingPolicy",
    "Batch",
    "Collector",
    "Fragment",
    "NoiseStream",
    "PrioritizedReplay",
    "ReplayBuffer",
    "play",
]
