"""Replay an episode that failed in a worker: python -m dynarl.distributed.replay_failure FILE.json [--no-pdb]

The environment is made in this process, reset with the episode's seed, and stepped with the recorded actions. If the
failure occurs again, pdb opens in the frame of the exception.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pdb
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium

from dynarl.envs.guard import check_step
from dynarl.envs.observations import observation_layout

__all__ = ["main", "replay"]


def replay(record: dict[str, Any], make: Callable[[], gymnasium.Env[Any, Any]]) -> BaseException | None:
    """Run a recorded episode in the environment that `make` returns; return the exception that ends it, if any."""
    try:
        env = make()
        layout = observation_layout(env.observation_space)
        obs, _ = env.reset(seed=record["episode_seed"])
        check_step(layout, obs)
        for action in env.action_space.from_jsonable(record["actions"]):
            obs, reward, terminated, truncated, _ = env.step(action)
            check_step(layout, obs, reward, terminated, truncated)
    except Exception as error:  # of the user's environment: any
        return error
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Replay the episode of a file; return 0 if it failed again, 1 if it did not, 2 if it cannot be replayed."""
    parser = argparse.ArgumentParser(prog="python -m dynarl.distributed.replay_failure", description=__doc__)
    parser.add_argument("file", type=Path, help="record of a failure, DIR/failures/*.json of a run")
    parser.add_argument("--allow-import", action="append", default=[], help="module that defines the environment")
    parser.add_argument("--no-pdb", action="store_true", help="print the traceback, do not start pdb")
    options = parser.parse_args(argv)
    record = json.loads(options.file.read_text())
    why = _prepare(record, options.allow_import)
    if why is not None:
        print(f"error: {why}", file=sys.stderr)
        return 2
    print(f"{record['env_id']}, episode seed {record['episode_seed']}, {len(record['actions'])} actions")
    if not record["from_reset"]:
        print("warning: the run was resumed within this episode, so its first actions are not recorded")
    error = replay(record, lambda: _make(record))
    if error is None:
        print("the episode ended without the failure, which depends on more than seed and actions")
        return 1
    traceback.print_exception(error)
    if not options.no_pdb:
        pdb.post_mortem(error.__traceback__)
    return 0


def _prepare(record: dict[str, Any], allowed: Sequence[str]) -> str | None:
    """Import the allowed modules and register the environment; return the reason if that is not possible."""
    for module in allowed:
        importlib.import_module(module)
    name = record["env_id"].rpartition(":")[2]
    if name in gymnasium.registry:
        return None
    module, colon, _ = (record["entry_point"] or "").partition(":")
    if not colon or module == "__main__":
        return f"{name} is registered by your script; call dynarl.distributed.replay_failure.replay(record, make) there"
    if module not in allowed:
        return f"{name} is defined in the module {module}; allow its import with --allow-import {module}"
    gymnasium.register(name, entry_point=record["entry_point"])
    return None


def _make(record: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    name = record["env_id"].rpartition(":")[2]
    return gymnasium.make(name, disable_env_checker=True, **record["env_kwargs"])


if __name__ == "__main__":
    raise SystemExit(main())
