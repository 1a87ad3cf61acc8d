"""Gymnasium environments as arrays: making, stepping, resetting, seeding, normalising, saving them."""

from dynarl.envs.check import Finding, check
from dynarl.envs.corridors import register_corridors
from dynarl.envs.errands import register_errands
from dynarl.envs.known import register_known
from dynarl.envs.make import EnvLike, make
from dynarl.envs.memory import register_memory
from dynarl.envs.normalize import ObservationNormalizer, RewardNormalizer, RunningMeanStd
from dynarl.envs.protocol import Environments, Step
from dynarl.envs.questions import register_questions
from dynarl.envs.spaces import action_layout, encode, flat_size
from dynarl.envs.surprises import register_surprises
from dynarl.envs.switching import register_switching
from dynarl.envs.sync import SyncEnvironments
from dynarl.envs.varying import register_varying
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

register_known()
register_memory()
register_varying()
register_questions()
register_switching()
register_corridors()
register_errands()
register_surprises()
