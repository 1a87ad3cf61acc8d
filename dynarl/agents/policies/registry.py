"""Policies by name, for `policy="name"` and `--policy name`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

__all__ = ["POLICIES", "named_policy", "register_policy"]

# name: the class or factory, or where it is defined as "module:Class" (imported when it is asked for)
POLICIES: dict[str, str | Callable[..., Any]] = {
    "adaptive_computation": "dynarl.agents.conditional:AdaptiveComputation",
    "early_exit": "dynarl.agents.conditional:EarlyExit",
    "forgetful_gru": "dynarl.agents.conditional:ForgetfulGRU",
    "graph_walker": "dynarl.agents.conditional:GraphWalker",
    "mixture": "dynarl.agents.conditional:Mixture",
    "options": "dynarl.agents.conditional:Options",
    "pondernet": "dynarl.agents.conditional:PonderNet",
    "second_thoughts": "dynarl.agents.conditional:SecondThoughts",
    "set_encoder": "dynarl.agents.conditional:SetPolicy",
    "tree_evaluator": "dynarl.agents.conditional:TreeEvaluator",
    "tree_planner": "dynarl.agents.conditional:TreePlanner",
}


def register_policy(name: str, factory: str | Callable[..., Any]) -> None:
    """Register a policy class or factory under a name (see dynarl/agents/user_policy/policy.py)."""
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
