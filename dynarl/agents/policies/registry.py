"""Policies by name, for `policy="name"` and `--policy name`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

__all__ = ["POLICIES", "named_policy", "register_policy"]

# name: the class or factory, or where it is defined as "module:Class" (imported when it is asked for)
POLICIES: dict[str, str | Callable[..., Any]] = {
    "adaptive_computation": "dynarl.agents.branching:AdaptiveComputation",
    "early_exit": "dynarl.agents.branching:EarlyExit",
    "forgetful_gru": "dynarl.agents.branching:ForgetfulGRU",
    "graph_walker": "dynarl.agents.branching:GraphWalker",
    "mixture": "dynarl.agents.branching:Mixture",
    "options": "dynarl.agents.branching:Options",
    "pondernet": "dynarl.agents.branching:PonderNet",
    "second_thoughts": "dynarl.agents.branching:SecondThoughts",
    "set_encoder": "dynarl.agents.branching:SetEncoder",
    "tree_evaluator": "dynarl.agents.branching:TreeEvaluator",
    "tree_planner": "dynarl.agents.branching:TreePlanner",
}


def register_policy(name: str, factory: str | Callable[..., Any]) -> None:
    """Let `policy=name` mean a policy class or factory; what it may be is said in dynarl/agents/programs.py."""
    if not name or ":" in name:
        raise ValueError(f"policy: a name must not be empty and must not contain ':', got {name!r}")
    if POLICIES.setdefault(name, factory) is not factory:
        raise ValueError(f"policy: the name {name!r} is taken by {POLICIES[name]}")


def named_policy(name: str) -> Callable[..., Any]:
    """Return the class or factory of a name. A name is never imported as code: only what was registered is found."""
    found = POLICIES.get(name)
    if found is None:
        known = ", ".join(sorted(POLICIES)) or "none"
        hint = "; give a class of yours itself, PPO(env, policy=Class), or register_policy it" if ":" in name else ""
        raise ValueError(f"policy: {name!r} is no registered policy, those are: {known}{hint}")
    if isinstance(found, str):
        module, _, attribute = found.partition(":")
        factory: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
        return factory
    return found
