"""The fields of a run that do not belong to its algorithm, and their checks."""

import math
from dataclasses import field
from typing import Any, Literal

from dynarl.config.migration import configuration

__all__ = ["ConfigError", "RunConfig", "RunFailed"]


class ConfigError(ValueError):
    """A wrong configuration; the message says what to change."""


class RunFailed(RuntimeError):
    """A run that cannot continue; the message gives the reason."""


@configuration
class RunConfig:
    """The fields of a run that do not belong to its algorithm. All intervals are in environment steps."""

    env_id: str = "CartPole-v1"
    """Gymnasium environment id. MODULE:ID imports MODULE first, if allow_import names it."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment, as YAML or JSON: '{gravity: 9.0}'."""
    allow_import: tuple[str, ...] = ()
    """Modules that an env_id MODULE:ID may import. Accepted on the command line only, not in a file."""
    seed: int = 0
    """Seed of every random stream of the run."""
    total_steps: int = 100_000
    """Environment steps after which the run ends, counted over all its parts if it is resumed."""
    device: str = "cpu"
    """Device of the networks: cpu, cuda, cuda:1."""
    num_threads: int = 1
    """Threads of the linear algebra library. More than 1 is faster for wide networks on idle cores only."""
    num_workers: int = 0
    """Processes (Ray actors) that step the environments and act in them. 0: this process does both."""
    envs_per_group: int | None = None
    """Environments of a group, which are stepped together; the workers share num_envs / envs_per_group groups.
    Results depend on envs_per_group and not on num_workers. None: num_envs / num_workers."""
    pipeline: bool = False
    """PPO's workers collect the next batch during the update, with a policy that is one update old. Results do not
    depend on num_workers."""
    asynchronous: bool = False
    """PPO learns from the fragments that arrive first, corrected by V-trace. Fastest where workers differ in speed;
    results depend on the timing of the workers."""
    max_lag: int | None = None
    """Age in updates up to which asynchronous learning uses a fragment; older ones are dropped and counted. None: 4."""
    cpus_per_worker: float = 1.0
    """CPUs that Ray reserves for a worker."""
    placement: Literal["spread", "pack"] = "spread"
    """Put the workers on many nodes of a cluster (spread) or on few (pack)."""
    ray_address: str | None = None
    """Ray cluster of the workers: auto, HOST:PORT or ray://HOST:PORT. None: the cluster of the Ray job, else a private
    Ray on this machine that ends with the run."""
    ray_allow_open: bool = False
    """Use a cluster whose dashboard other machines can reach without a token: any user of that network can run code
    there."""
    worker_timeout: float = 60.0
    """Seconds after which a worker without a finished fragment is replaced, or 5 times the usual duration of its
    fragments if that is longer."""
    run_dir: str | None = None
    """Directory of the run. None: runs/<env>-<algo>-<seed>-<time>."""
    resume: bool = False
    """Continue the run in run_dir from its latest good checkpoint (`--resume DIR` for short). Without a
    directory: the newest run of this environment, algorithm and seed."""
    stop_at_return: float | None = None
    """Stop when the mean return of a deterministic evaluation reaches this value. None: never."""
    stop_without_improvement: int | None = None
    """Stop after this many evaluations in a row without a new best mean return. None: never."""
    eval_every: int = 10_000
    """Steps between deterministic evaluations during training. 0: none."""
    periodic_eval_episodes: int = 10
    """Episodes of each evaluation during training."""
    eval_episodes: int = 100
    """Episodes of the final evaluation and of the evaluation that confirms stop_at_return. 0: no evaluation."""
    checkpoint_every: int = 50_000
    """Steps between checkpoints. 0: only at the end of the run and when a signal stops it."""
    keep_checkpoints: int = 3
    """Number of newest checkpoints to keep; the checkpoint with the best evaluation is also kept."""
    log_every: int = 2_000
    """Steps between records in metrics.jsonl and TensorBoard; a record holds the means since the record before.
    0: a record for every iteration."""
    tensorboard: bool = True
    """Write TensorBoard event files into the run directory."""
    histogram_every: int = 0
    """Steps between TensorBoard histograms of the parameters. 0: none."""
    video_every: int = 0
    """Steps between videos of a deterministic episode, in DIR/videos and TensorBoard. 0: none."""
    num_seeds: int = 1
    """Run this many seeds one after the other, from seed on, each in DIR/seed-N, and report mean, standard
    deviation and interquartile mean over them."""
    progress: bool = True
    """Show a progress bar if the output is a terminal."""

    def __post_init__(self) -> None:
        """Refuse values that no run can have."""
        for name, least in _LEAST.items():
            if (value := getattr(self, name)) < least:
                raise ValueError(f"{name}: must be at least {least}, got {value}")
        _check_workers(self)
        if not self.env_id:
            raise ValueError("env_id: must not be empty")
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
        raise ValueError(
            f"ray_address: requires num_workers >= 1, got num_workers 0 and ray_address {config.ray_address!r}"
        )


def _check_schedule(config: RunConfig) -> None:
    wanted = [name for name in ("pipeline", "asynchronous") if getattr(config, name)]
    if len(wanted) == 2:
        raise ValueError("pipeline: at most one of pipeline and asynchronous may be true, got both")
    if wanted and not config.num_workers and config.envs_per_group is None:
        raise ValueError(f"{wanted[0]}: requires num_workers >= 1 or envs_per_group, got num_workers 0")
    if config.max_lag is not None and (not config.asynchronous or config.max_lag < 1):
        raise ValueError(
            f"max_lag: must be at least 1 and needs asynchronous, got {config.max_lag} and asynchronous "
            f"{config.asynchronous}"
        )
