"""The fields of a run that do not belong to its algorithm, and their checks."""

import math
from dataclasses import field
from typing import Any, Literal

from dynarl.config.migration import configuration

__all__ = ["ConfigError", "RunConfig", "RunFailed"]


class ConfigError(ValueError):
    """A configuration that cannot be what was meant."""


class RunFailed(RuntimeError):
    """A run cannot continue; the message names the reason for its user."""


@configuration
class RunConfig:
    """Everything about a run that is not the algorithm's own. All intervals are in environment steps."""

    env_id: str = "CartPole-v1"
    """Gymnasium environment id. MODULE:ID imports MODULE, which allow_import must name."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment, as YAML or JSON: '{gravity: 9.0}'."""
    allow_import: tuple[str, ...] = ()
    """Modules that an env_id MODULE:ID may import. Only accepted on the command line, never from a file."""
    seed: int = 0
    """Seed of every random stream of the run."""
    total_steps: int = 100_000
    """Environment steps after which the run ends, resumed parts included."""
    device: str = "cpu"
    """Where the networks live: cpu, cuda, cuda:1."""
    num_threads: int = 1
    """Threads of the linear algebra library. More than 1 pays for wide networks on idle cores only."""
    num_workers: int = 0
    """Processes (Ray actors) that step the environments and act in them. 0: this process does."""
    envs_per_group: int | None = None
    """Environments that are stepped together; num_envs / envs_per_group groups are shared out among the workers.
    Results depend on it, and not on num_workers. None: num_envs / num_workers."""
    pipeline: bool = False
    """PPO's workers collect the next batch while this one is learned from: its policy is one update older. Results do
    not depend on num_workers."""
    asynchronous: bool = False
    """PPO learns from whatever its workers deliver first, and weighs it by V-trace. Fastest where workers differ in
    speed; results then depend on it."""
    max_lag: int | None = None
    """Updates by which a fragment may lag behind with asynchronous; older ones are dropped and counted. None: 4."""
    cpus_per_worker: float = 1.0
    """CPUs that Ray reserves for a worker."""
    placement: Literal["spread", "pack"] = "spread"
    """Put workers on many nodes of a cluster, or on few."""
    ray_address: str | None = None
    """Ray cluster to run the workers on: auto, HOST:PORT or ray://HOST:PORT. None: the job's own, else a private
    one on this machine that ends with the run."""
    ray_allow_open: bool = False
    """Use a cluster even if its dashboard is reached from other machines without a token: whoever reaches it can run
    any code there."""
    worker_timeout: float = 60.0
    """Seconds for a fragment after which a worker counts as hung (or 5 times what its fragments usually take, if
    that is longer) and is replaced."""
    run_dir: str | None = None
    """Directory of the run. None: runs/<env>-<algo>-<seed>-<time>."""
    resume: bool = False
    """Continue the run in run_dir from its latest good checkpoint (`--resume DIR` for short). Without a
    directory: the newest run of this environment, algorithm and seed."""
    stop_at_return: float | None = None
    """Stop once the mean return of a deterministic evaluation reaches this. None: never."""
    stop_without_improvement: int | None = None
    """Stop after this many evaluations in a row without a new best mean return. None: never."""
    eval_every: int = 10_000
    """Steps between deterministic evaluations during training. 0: none."""
    periodic_eval_episodes: int = 10
    """Episodes of each evaluation during training."""
    eval_episodes: int = 100
    """Episodes of the final evaluation, and of the one that confirms stop_at_return. 0: no evaluation."""
    checkpoint_every: int = 50_000
    """Steps between checkpoints. 0: only at the end of the run and when it is interrupted."""
    keep_checkpoints: int = 3
    """Newest checkpoints to keep; the one with the best evaluation is kept besides."""
    log_every: int = 2_000
    """Steps between records in metrics.jsonl and TensorBoard; each holds the means since the last one.
    0: a record for every iteration."""
    tensorboard: bool = True
    """Write TensorBoard event files into the run directory."""
    histogram_every: int = 0
    """Steps between TensorBoard histograms of the networks' parameters. 0: none."""
    video_every: int = 0
    """Steps between videos of a deterministic episode, in DIR/videos and TensorBoard. 0: none."""
    num_seeds: int = 1
    """Run this many seeds one after the other, from seed on, each in DIR/seed-N, and report mean, standard
    deviation and interquartile mean over them."""
    progress: bool = True
    """Show a progress bar where the output is a terminal."""

    def __post_init__(self) -> None:
        """Refuse values that no run can have."""
        for name, least in _LEAST.items():
            if (value := getattr(self, name)) < least:
                raise ValueError(f"{name}: must be at least {least}, got {value}")
        _check_workers(self)
        if not self.env_id:
            raise ValueError("env_id: must not be empty")
        if self.stop_at_return is not None and math.isnan(self.stop_at_return):
            raise ValueError("stop_at_return: must be a number or None, got nan")
        if self.stop_at_return is not None and (self.eval_every == 0 or self.eval_episodes == 0):
            raise ValueError(
                f"stop_at_return: {self.stop_at_return} needs evaluations, got eval_every {self.eval_every} "
                f"and eval_episodes {self.eval_episodes}"
            )
        if self.stop_without_improvement is not None and (self.stop_without_improvement < 1 or self.eval_every == 0):
            raise ValueError(
                "stop_without_improvement: must be at least 1 and needs evaluations, got "
                f"{self.stop_without_improvement} and eval_every {self.eval_every}"
            )
        module, colon, _ = self.env_id.partition(":")
        if colon and module not in self.allow_import:
            raise ValueError(
                f"env_id: {self.env_id!r} imports the module {module!r}; allow it with --allow-import {module}"
            )


_LEAST = {
    "seed": 0,
    "total_steps": 1,
    "num_threads": 1,
    "num_workers": 0,
    "eval_every": 0,
    "periodic_eval_episodes": 1,
    "eval_episodes": 0,
    "checkpoint_every": 0,
    "keep_checkpoints": 1,
    "log_every": 0,
    "histogram_every": 0,
    "video_every": 0,
    "num_seeds": 1,
}


def _check_workers(config: RunConfig) -> None:
    if config.envs_per_group is not None and config.envs_per_group < 1:
        raise ValueError(f"envs_per_group: must be at least 1 or None, got {config.envs_per_group}")
    if not 0 <= config.cpus_per_worker < math.inf:
        raise ValueError(f"cpus_per_worker: must be 0 or more, got {config.cpus_per_worker}")
    if config.placement not in ("spread", "pack"):
        raise ValueError(f"placement: must be spread or pack, got {config.placement!r}")
    if not config.worker_timeout > 0:
        raise ValueError(f"worker_timeout: must be positive, got {config.worker_timeout}")
    _check_schedule(config)
    if config.ray_address is not None and not config.num_workers:
        raise ValueError(f"ray_address: {config.ray_address!r} is for workers, got num_workers 0")


def _check_schedule(config: RunConfig) -> None:
    wanted = [name for name in ("pipeline", "asynchronous") if getattr(config, name)]
    if len(wanted) == 2:
        raise ValueError("pipeline: a run is either pipelined or asynchronous, got both")
    if wanted and not config.num_workers and config.envs_per_group is None:
        raise ValueError(f"{wanted[0]}: is about workers, got num_workers 0; give it some")
    if config.max_lag is not None and (not config.asynchronous or config.max_lag < 1):
        raise ValueError(
            f"max_lag: must be at least 1 and needs asynchronous, got {config.max_lag} and asynchronous "
            f"{config.asynchronous}"
        )
