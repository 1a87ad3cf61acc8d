"""Policies by name, for `policy="name"` and `--policy name`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from dynarl.config.other_names import policy_hint

__all__ = ["POLICIES", "named_policy", "register_policy"]

# name: the class or factory, or its place as "module:Class", imported on first use
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
    """Return the registered class or factory of a name; a name is never imported as code."""
    found = POLICIES.get(name)
    if found is None:
        if other := policy_hint(name):
            raise ValueError(f"policy: {other}")
        known = ", ".join(sorted(POLICIES)) or "none"
        hint = (
            "; pass the class itself, PPO(env, policy=Class), or register it by register_policy" if ":" in name else ""
        )
        raise ValueError(f"policy: {name!r} is no registered policy, those are: {known}{hint}")
    if isinstance(found, str):
        module, _, attribute = found.partition(":")
        factory: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
        return factory
    return found
