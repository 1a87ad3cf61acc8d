"""Public names of earlier versions: importing one fails with a line that gives the name of today."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["MOVED", "MovedFinder", "missing_attribute"]

# {name of earlier versions: name of today}, below dynarl: modules, and classes and functions of packages
_RENAMED = {
    "Each": "ObjectBatch",
    "agents.branching": "agents.conditional",
    "agents.checks": "config.validate",
    "agents.compute": "agents.user_policy.cost",
    "agents.conditional.SetEncoder": "agents.conditional.SetPolicy",
    "agents.dqn.details": "agents.dqn.implementation_details",
    "agents.dqn.heads": "agents.dqn.q_distribution",
    "agents.dqn.programs": "agents.dqn.q_values",
    "agents.extra": "agents.user_policy.auxiliary",
    "agents.given_obs": "agents.user_obs",
    "agents.loading": "train.load_run",
    "agents.measures": "agents.update_metrics",
    "agents.off_policy.along": "agents.off_policy.sequence_runner",
    "agents.off_policy.details": "agents.off_policy.agent.REPLAY_DETAIL",
    "agents.off_policy.experience": "agents.off_policy.records",
    "agents.off_policy.feed": "agents.off_policy.replay_feed",
    "agents.policies.encoders": "agents.encoders.images",
    "agents.policies.ragged_encoders": "agents.encoders.sets",
    "agents.policies.ragged_input": "agents.encoders.ragged_input",
    "agents.ppo.details": "agents.ppo.implementation_details",
    "agents.ppo.rows": "agents.ppo.transitions",
    "agents.programs": "agents.user_policy.policy",
    "agents.sac.details": "agents.sac.implementation_details",
    "agents.sac.programs": "agents.sac.user_actor",
    "agents.schedules": "agents.dqn.exploration",
    "agents.sources": "envs.make",
    "agents.stateful": "agents.user_policy.runner",
    "agents.threads": "threads",
    "autograd.memory": "autograd.versions",
    "autograd.ops.batched": "autograd.ops.ensemble",
    "autograd.ops.loss": "autograd.ops.reduction",
    "batching.Each": "batching.ObjectBatch",
    "batching.Recorder": "batching.DecisionRecorder",
    "batching.cohort": "batching.groups.group",
    "batching.deferred": "batching.lockstep.lazy",
    "batching.each": "batching.values.object_batch",
    "batching.foreign": "batching.guard.generators",
    "batching.rng_guard": "batching.guard.generators",
    "batching.function_rules": "batching.rules.functions",
    "batching.gather": "batching.lockstep.gather",
    "batching.index_rules": "batching.rules.indexing",
    "batching.lane": "batching.values.sample_tensor",
    "batching.loops": "batching.scopes.loops",
    "batching.merge": "batching.lockstep.scheduler",
    "batching.noting": "batching.lockstep.tracer",
    "batching.operations": "batching.rules.operations",
    "batching.operators": "batching.values.sample_tensor",
    "batching.paths": "batching.decisions",
    "batching.ragged": "batching.values.ragged",
    "batching.rewrite": "batching.scopes.rewrite",
    "batching.rows": "batching.groups.rows",
    "batching.run": "batching.groups.run",
    "batching.scope": "batching.scopes.scope",
    "batching.together": "batching.lockstep.executor",
    "batching.trees": "batching.values.pytree",
    "cli": "train.cli",
    "distributed.Accounts": "distributed.FragmentLedger",
    "distributed.FeedingCollector": "distributed.RoundRobinCollector",
    "distributed.Plan": "distributed.WorkerPlan",
    "distributed.Stream": "distributed.OrderedFragments",
    "distributed.accounts": "distributed.ledger",
    "distributed.attached": "distributed.attach_workers",
    "distributed.feeding": "distributed.round_robin",
    "distributed.joining": "distributed.connect",
    "distributed.launch": "distributed.setup",
    "distributed.merge": "distributed.assemble",
    "distributed.plan": "distributed.plan_workers",
    "distributed.replay": "distributed.replay_failure",
    "distributed.resolved": "distributed.with_envs_per_group",
    "distributed.slot": "distributed.supervision",
    "distributed.stream": "distributed.ordered",
    "distributed.validate": "distributed.fragment_validator",
    "distributions.checks": "distributions.constraints",
    "envs.check": "envs.checker.check",
    "envs.check_episodes": "envs.checker.episodes",
    "envs.check_spaces": "envs.checker.declarations",
    "envs.corridors": "envs.tasks.corridors",
    "envs.errands": "envs.tasks.errands",
    "envs.group": "envs.env_group",
    "envs.known": "envs.tasks.diagnostic",
    "envs.memory": "envs.tasks.memory_tasks",
    "envs.part": "envs.env_group",
    "envs.questions": "envs.tasks.puzzles",
    "envs.ragged": "envs.ragged_spaces",
    "envs.registration": "envs.tasks",
    "envs.state": "envs.exact_state",
    "envs.surprises": "envs.tasks.nonstationary",
    "envs.switching": "envs.tasks.nonstationary",
    "envs.varying": "envs.tasks.ragged_obs",
    "envs.vector_state": "envs.exact_state",
    "evaluate": "train.evaluate",
    "identity": "checkpoint.compatibility",
    "metrics": "train.metrics",
    "nn.state": "nn.state_dict",
    "nn.structure": "nn.module",
    "optim.lr_scheduler.scheduler": "optim.lr_scheduler.schedule",
    "optim.runs": "optim.update_plan",
    "optim.state": "optim.saved_state",
    "phases": "train.clock",
    "plot": "train.plot",
    "process": "train.signals",
    "progress": "train.progress",
    "rollout.Acted": "rollout.ActResult",
    "rollout.stateful": "rollout.stateful_collector",
    "rollout.transitions": "rollout.transition_collector",
    "run_directory": "train.run_directory",
    "seeds": "train.seeds",
    "state_tree": "checkpoint.encoding",
    "strict_yaml": "config.yaml",
    "video": "train.video",
}
MOVED = {f"dynarl.{old}": f"dynarl.{new}" for old, new in _RENAMED.items()}


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


def missing_attribute(module: str, name: str) -> AttributeError:
    """Return the error for an attribute that a module lacks, with its name of today if it had one before."""
    old = f"{module}.{name}"
    return AttributeError(
        f"{old} is now called {MOVED[old]}" if old in MOVED else f"module {module!r} has no attribute {name!r}"
    )
