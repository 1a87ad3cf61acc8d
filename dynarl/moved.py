"""Public names of earlier versions: importing one fails with a line that gives the name of today."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["MOVED", "MovedFinder"]

MOVED = {
    "dynarl.Each": "dynarl.ObjectBatch",
    "dynarl.agents.branching": "dynarl.agents.conditional",
    "dynarl.agents.conditional.SetEncoder": "dynarl.agents.conditional.SetPolicy",
    "dynarl.cli": "dynarl.train.cli",
    "dynarl.distributed.replay": "dynarl.distributed.replay_failure",
    "dynarl.envs.corridors": "dynarl.envs.tasks.corridors",
    "dynarl.envs.errands": "dynarl.envs.tasks.errands",
    "dynarl.envs.known": "dynarl.envs.tasks.diagnostic",
    "dynarl.envs.memory": "dynarl.envs.tasks.memory_tasks",
    "dynarl.envs.questions": "dynarl.envs.tasks.puzzles",
    "dynarl.envs.surprises": "dynarl.envs.tasks.nonstationary",
    "dynarl.envs.switching": "dynarl.envs.tasks.nonstationary",
    "dynarl.envs.varying": "dynarl.envs.tasks.ragged_obs",
    "dynarl.evaluate": "dynarl.train.evaluate",
    "dynarl.metrics": "dynarl.train.metrics",
    "dynarl.plot": "dynarl.train.plot",
    "dynarl.progress": "dynarl.train.progress",
    "dynarl.run_directory": "dynarl.train.run_directory",
    "dynarl.seeds": "dynarl.train.seeds",
    "dynarl.strict_yaml": "dynarl.config.yaml",
    "dynarl.video": "dynarl.train.video",
}


class MovedFinder:
    """The last finder of sys.meta_path: it raises ModuleNotFoundError for the names in `MOVED` and finds nothing."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Raise ModuleNotFoundError with the new name of `name`, if it has one."""
        if name in MOVED:
            # Without name=, or `from dynarl import cli` would replace the message by its own.
            raise ModuleNotFoundError(f"{name} is now called {MOVED[name]}")
        return None
