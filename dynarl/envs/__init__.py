"""Gymnasium environments as arrays: making, stepping, resetting, seeding, normalising, saving them."""

from dynarl.envs.checker import Finding, check
from dynarl.envs.make import EnvLike, make
from dynarl.envs.normalize import ObservationNormalizer, RewardNormalizer, RunningMeanStd
from dynarl.envs.protocol import Environments, Step
from dynarl.envs.spaces import action_layout, encode, flat_size
from dynarl.envs.sync import SyncEnvironments
from dynarl.envs.tasks.corridors import register_corridors
from dynarl.envs.tasks.diagnostic import register_known
from dynarl.envs.tasks.errands import register_errands
from dynarl.envs.tasks.memory import register_memory
from dynarl.envs.tasks.nonstationary import register_surprises
from dynarl.envs.tasks.puzzles import register_questions
from dynarl.envs.tasks.ragged_obs import register_varying
from dynarl.envs.tasks.switching import register_switching
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
