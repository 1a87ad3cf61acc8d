"""Gymnasium environments as arrays: makes, steps, resets, seeds, normalises and saves them."""

from dynarl.envs.checker import Finding, check
from dynarl.envs.make import EnvLike, make
from dynarl.envs.normalize import ObservationNormalizer, RewardNormalizer, RunningMeanStd
from dynarl.envs.protocol import Environments, Step
from dynarl.envs.spaces import action_layout, encode, flat_size
from dynarl.envs.sync import SyncEnvironments
from dynarl.envs.tasks import register_tasks
from dynarl.envs.vector import VectorEnvironments

__all__ = [
    "EnvLike",
    "Environments",
    "Finding",
    "ObservationNormalizer",
    "RewardNormalizer",
    "RunningMeanStd",
    "Step",
    "SyncEnvironments",
    "VectorEnvironments",
    "action_layout",
    "check",
    "encode",
    "flat_size",
    "make",
]

register_tasks()
