"""The argument `policy=` and the calls of a user's policy. Its contract is in dynarl/rollout/feedback.py.

The argument is a Module, a class or function that makes one, or the name of a registered policy. A class or function
is called with (observation_space, action_space) if it takes two arguments, else without any. The Module is written for
ONE environment and is batched automatically, unless its class has ``takes_batch = True`` or `dynarl.batched` made it.
``self_check = 0`` in its class turns off the comparison with plain Python (`dynarl.batched(check=)`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dynarl.agents.policies.registry import named_policy
from dynarl.agents.policies.renamed_arguments import refuse_old_arguments
from dynarl.autograd.random import seeded
from dynarl.batching import batched
from dynarl.batching.batched import BatchedModule
from dynarl.nn import Module

__all__ = ["PolicyLike", "UserPolicy", "lockstep_flags", "make_policy", "set_lockstep_flags"]

PolicyLike = str | Module | Callable[..., Module]
"""A Module, a class or function that makes one, or the name of a registered policy."""

_NOT_BATCHED = (
    "the policy is called for ONE environment, without a batch axis, and batched automatically; one that is written "
    "for batches says so with the class attribute takes_batch = True"
)


def make_policy(policy: PolicyLike, spaces: tuple[Any, Any], seed: int, options: Mapping[str, Any]) -> Module:
    """Return the policy as a Module that takes batches; its parameters are drawn by `seed` unless it is an instance."""
    if isinstance(policy, Module):
        if options:
            raise ValueError(f"policy_kwargs: {dict(options)} are for a policy that is made here, got an instance")
        module = policy
    else:
        factory = named_policy(policy) if isinstance(policy, str) else policy
        with seeded(seed):
            module = factory(*_arguments(factory, spaces, options), **options)
        if not isinstance(module, Module):
            raise TypeError(f"policy: {_name(factory)} must make a dynarl.nn.Module, got {type(module).__name__}")
    if isinstance(module, BatchedModule) or getattr(module, "takes_batch", False):
        return module
    made: Module = batched(module, check=getattr(module, "self_check", 4))
    return made


def _arguments(factory: Callable[..., Any], spaces: tuple[Any, Any], options: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the positional arguments of a class or function that makes a policy: the two spaces, or none."""
    if not callable(factory):
        raise TypeError(
            f"policy: must be a dynarl.nn.Module, a class or function that makes one, or a name, got {factory!r}"
        )
    refuse_old_arguments(factory, options)
    parameters = inspect.signature(factory).parameters
    for arguments in (spaces, ()):
        needed = [
            name
            for name, parameter in parameters.items()
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is parameter.empty
        ]
        if len(needed) == len(arguments) and _fits(factory, *arguments, **options):
            return arguments
    raise TypeError(
        f"policy: {_name(factory)} must take (observation_space, action_space) or nothing, with policy_kwargs "
        f"{dict(options)} besides, got {inspect.signature(factory)}"
    )


class UserPolicy:
    """A policy with its signature: state, action masks, `info` fields and number of outputs.

    `module` is the user's Module, `policy` the one that takes a batch axis. With `agent_masks` the agent applies action
    masks itself, so that the policy need not take them. With `takes_aux` the policy may return auxiliary outputs (see
    dynarl/agents/user_policy/auxiliary.py). `returns` names the outputs, for errors.
    """

    def __init__(self, policy: Module, *, returns: str, agent_masks: bool = False, takes_aux: bool = False) -> None:
        self.policy, self.agent_masks, self.takes_aux = policy, agent_masks, takes_aux
        self.per_sample = isinstance(policy, BatchedModule)
        self.module: Any = policy.program if isinstance(policy, BatchedModule) else policy
        self.has_state = hasattr(self.module, "initial_state")
        self.info_fields = tuple(getattr(self.module, "info_fields", ()))
        self.name = type(self.module).__name__
        self.returned = returns.count(",") + 2  # outputs and state
        self.returns = f"({returns}, next_state)" if self.has_state else f"({returns})" if "," in returns else returns
        forward = self.module.forward
        self.takes_mask = self.has_state or _fits(forward, None, None)
        self.needs_mask = not self.has_state and self.takes_mask and not _fits(forward, None)
        if self.has_state and not _fits(forward, None, None, None):
            raise TypeError(
                f"policy: {self.where} has initial_state(), so its forward must take (obs, state, feedback), "
                f"got {inspect.signature(forward)}"
            )
        if not self.has_state and not _fits(forward, None) and not self.takes_mask:
            other = _fits(forward, None, None, None)
            missing = "must have initial_state(), which may return ()" if other else "must take (obs)"
            raise TypeError(f"policy: {self.where} has forward{inspect.signature(forward)}, so it {missing}")

    @property
    def where(self) -> str:
        """The policy's class and the line of its forward."""
        code = getattr(self.module.forward, "__code__", None)
        return self.name if code is None else f"{self.name} ({code.co_filename}:{code.co_firstlineno})"

    @property
    def last(self) -> Any:
        """The statistics of the last call of a per-sample policy."""
        policy: Any = self.policy
        return policy.run.last

    def initial_state(self) -> Any:
        """Return the state of one environment before its first step; () for a policy without."""
        return self.module.initial_state() if self.has_state else ()

    def __call__(self, obs: Any, state: Any, feedback: Any, **batching: Any) -> tuple[Any, ...]:
        """Return the outputs of a batch, the next state (() for a policy without) and the auxiliary outputs, if any.

        `batching` are `draws`, `recorder` and `paths` of a per-sample policy.
        """
        if not self.per_sample:
            batching = {}
        if self.has_state:
            out: tuple[Any, ...] = self.policy(obs, state, feedback, **batching)
            return out
        if feedback.action_mask is not None and not (self.agent_masks and not self.takes_mask):
            if not self.takes_mask:
                raise TypeError(
                    f"policy: the environment masks actions, so the forward of {self.where} must take "
                    "(obs, action_mask) and give forbidden actions probability 0"
                )
            out = self.policy(obs, feedback.action_mask, **batching)
        elif self.needs_mask:
            raise TypeError(
                f"policy: the environment masks no actions, so the forward of {self.where} must take (obs), or "
                "action_mask=None besides"
            )
        else:
            out = self.policy(obs, **batching)
        outputs = self.returned - 1
        return (*out[:outputs], (), *out[outputs:]) if isinstance(out, tuple) else (out, ())

    def first_call(self, obs: Any, state: Any, feedback: Any) -> tuple[Any, ...]:
        """Call the policy for the first time; a note on its error explains the arguments."""
        try:
            return self(obs, state, feedback)
        except Exception as error:
            if self.per_sample:
                error.add_note(f"policy: {_NOT_BATCHED}")
            raise

    def wrong(self, got: str) -> TypeError:
        """Return the error for wrong outputs, described by `got`."""
        each = "for one environment" if self.per_sample else "for a batch"
        note = f"; {_NOT_BATCHED}" if self.per_sample else ""
        return TypeError(f"policy: {self.where} must return {self.returns} {each}, got {got}{note}")


def lockstep_flags(networks: Iterable[Module]) -> list[int]:
    """Return which per-sample networks run in lock-step: part of the state, since rounding depends on it."""
    return [int(module.run.uses_lockstep) for module in _batched(networks)]


def set_lockstep_flags(networks: Iterable[Module], flags: Iterable[Any]) -> None:
    """Continue from `lockstep_flags`."""
    for module, flag in zip(_batched(networks), flags):
        module.run.uses_lockstep = bool(flag)


def _batched(networks: Iterable[Module]) -> list[BatchedModule]:
    return [module for network in networks for module in network.modules() if isinstance(module, BatchedModule)]


def _fits(function: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def _name(factory: Any) -> str:
    return getattr(factory, "__name__", type(factory).__name__)
