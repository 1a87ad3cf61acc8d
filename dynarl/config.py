"""A run's configuration: frozen dataclasses that are also the command line and the YAML file.

A field is named, typed, defaulted and explained once, in its dataclass. A YAML file gives differences
from the defaults, flags win over the file. Nested dataclasses appear flat: `learning_rate: 1e-3` in the
file, `--learning-rate 1e-3` on the command line, whichever dataclass owns the field.
"""

import dataclasses
import difflib
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from dynarl import strict_yaml

__all__ = ["ConfigError", "RunConfig", "fields_of", "from_mapping", "load", "replace", "to_yaml"]

Config = TypeVar("Config")


class ConfigError(ValueError):
    """A configuration that cannot be what was meant."""


@dataclass(frozen=True, kw_only=True)
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


_COMMAND_LINE_ONLY = ("allow_import", "resume")
_NOT_REPEATED = ("run_dir", "resume", "allow_import")


# ------------------------------------------------------------------------------------- flat view of a config


def fields_of(config_cls: Any) -> dict[str, tuple[tuple[str, ...], Any]]:
    """Return {field name: (path, type)} of a dataclass, fields of nested dataclasses as if its own.

    Raises TypeError if two nested dataclasses have a field of the same name.
    """
    found: dict[str, tuple[tuple[str, ...], Any]] = {}
    hints = typing.get_type_hints(config_cls)
    for own in dataclasses.fields(config_cls):
        hint = hints[own.name]
        inner = fields_of(hint) if dataclasses.is_dataclass(hint) else {own.name: ((), hint)}
        for name, (path, kind) in inner.items():
            if name in found:
                raise TypeError(f"config: {config_cls.__name__} has two fields named {name!r}")
            found[name] = ((own.name, *path) if dataclasses.is_dataclass(hint) else (name,), kind)
    return found


def to_flat(config: Any) -> dict[str, Any]:
    """Return {field name: value} of a config, nested dataclasses flattened."""
    flat = {}
    for name, (path, _) in fields_of(type(config)).items():
        value = config
        for step in path:
            value = getattr(value, step)
        flat[name] = value
    return flat


def to_yaml(config: Any) -> str:
    """Return the resolved config as YAML that `load` accepts.

    What belongs to one run only (its directory, whether it was resumed) is left out, so that the file
    starts the same run again somewhere else.
    """
    return strict_yaml.dump({k: v for k, v in to_flat(config).items() if k not in _NOT_REPEATED})


def replace(config: Config, changes: Mapping[str, Any]) -> Config:
    """Return `config` with the named (flat) fields replaced and checked."""
    return _build(type(config), {**to_flat(config), **changes})


def _build(config_cls: type[Config], flat: Mapping[str, Any], *, checked: bool = True) -> Config:
    """Make a config from flat values. Unchecked, it may be impossible until flags have been applied."""
    hints = typing.get_type_hints(config_cls)
    values = {
        own.name: _build(hints[own.name], flat, checked=checked)
        if dataclasses.is_dataclass(hints[own.name])
        else flat[own.name]
        for own in dataclasses.fields(config_cls)  # type: ignore[arg-type]  # a dataclass, by contract
    }
    if checked:
        return config_cls(**values)
    config = object.__new__(config_cls)
    for name, value in values.items():
        object.__setattr__(config, name, value)
    return config


# --------------------------------------------------------------------------------------------- YAML to fields


def from_file(config_cls: Any, path: Path) -> dict[str, Any]:
    """Return {field name: value} from a YAML file, every value converted to its field's type.

    Raises ConfigError for a file that is no YAML, and as `from_mapping` does.
    """
    try:
        tree = strict_yaml.read(path)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    for key in tree:
        if key.replace("-", "_") in _COMMAND_LINE_ONLY:
            raise ConfigError(f"config: {key!r} is only accepted on the command line, not in {path}")
    return from_mapping(config_cls, tree, source=str(path))


def from_mapping(config_cls: Any, tree: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    """Return {field name: value} from what YAML or JSON holds, every value converted to its field's type.

    Raises ConfigError for a key that is no field (with the nearest one that is) and for a value that does
    not fit its type; `source` says where it came from.
    """
    fields = fields_of(config_cls)
    values = {}
    for key, value in tree.items():
        name = key.replace("-", "_")
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else f"; the fields are {', '.join(sorted(fields))}"
            raise ConfigError(f"config: {source} has an unknown key {key!r}{hint}")
        try:
            values[name] = strict_yaml.coerce(value, fields[name][1])
        except (TypeError, ValueError) as error:
            raise ConfigError(f"config: {source}: {key}: {error}") from error
    return values


# ----------------------------------------------------------------------------------------------- command line


def load(
    config_cls: type[Config],
    argv: Sequence[str],
    *,
    prog: str,
    description: str = "",
    base: Mapping[str, Any] | None = None,
) -> Config:
    """Return the config that a command line `[CONFIG.yaml] [--any-field value]` describes.

    Defaults, then `base` (flat values), then the YAML file, then the flags; dashes and underscores are
    alike. Exits with status 2 and a message for a flag that is unknown or does not fit, and with 0 after
    `--help`. Raises ConfigError for a file that is wrong.
    """
    paths, flags = split(config_cls, argv)
    defaults = {name: _default(config_cls, path) for name, (path, _) in fields_of(config_cls).items()}
    flat = {**defaults, **(base or {})}
    for path in paths:
        flat |= from_file(config_cls, path)
    if not flags:
        return _build(config_cls, flat)
    return _parse(config_cls, flags, _build(config_cls, flat, checked=False), prog, description)


def split(config_cls: type, argv: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Return the YAML file of a command line (a list of none or one) and its flags.

    The file comes first, or anywhere as a name ending in .yaml or .yml. `--flag yes` of a boolean field
    becomes `--flag`, `--flag no` becomes `--no-flag`. Raises ConfigError for two files.
    """
    switches = {f"--{name}" for name, (_, kind) in fields_of(config_cls).items() if kind is bool}
    files: list[Path] = []
    flags: list[str] = []
    for i, token in enumerate(argv):
        named, _, value = token.replace("_", "-").partition("=")
        previous = flags[-1].replace("-", "_").replace("__", "--", 1) if flags else ""
        if not token.startswith("-") and (i == 0 or token.endswith((".yaml", ".yml"))):
            files.append(Path(token))
        elif previous in switches and token.lower() in strict_yaml.BOOLEANS:
            flags[-1] = flags[-1] if strict_yaml.BOOLEANS[token.lower()] else "--no-" + flags[-1][2:]
        elif named.replace("-", "_").replace("__", "--", 1) in switches and value.lower() in strict_yaml.BOOLEANS:
            flags.append(named if strict_yaml.BOOLEANS[value.lower()] else "--no-" + named[2:])
        else:
            flags.append(token)
    if len(files) > 1:
        raise ConfigError(f"config: one YAML file at most, got {', '.join(map(str, files))}")
    return files, flags


def _default(config_cls: type, path: tuple[str, ...]) -> Any:
    hints = typing.get_type_hints(config_cls)
    if len(path) > 1:
        return _default(hints[path[0]], path[1:])
    own = next(own for own in dataclasses.fields(config_cls) if own.name == path[0])
    if own.default_factory is not dataclasses.MISSING:
        return own.default_factory()
    if own.default is dataclasses.MISSING:
        raise TypeError(f"config: {config_cls.__name__}.{own.name} needs a default")
    return own.default


def _parse(config_cls: type[Config], flags: list[str], default: Config, prog: str, description: str) -> Config:
    import tyro
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

    registry = ConstructorRegistry()

    @registry.primitive_rule
    def _whole_number(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        if info.type is not int:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="INT",
            instance_from_str=lambda texts: strict_yaml.coerce(strict_yaml.parse(f"value: {texts[0]}")["value"], int),
            is_instance=lambda value: type(value) is int,
            str_from_instance=lambda value: [str(value)],
        )

    @registry.primitive_rule
    def _mapping(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        if info.type_origin is not dict:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="{KEY: VALUE}",
            instance_from_str=lambda texts: strict_yaml.parse(texts[0]),
            is_instance=lambda value: isinstance(value, dict),
            str_from_instance=lambda value: [strict_yaml.dump(value, one_line=True)],
        )

    return tyro.cli(
        config_cls,
        args=flags,
        default=default,
        prog=f"{prog} [CONFIG.yaml]",
        description=description,
        config=(tyro.conf.OmitArgPrefixes,),
        registry=registry,
    )
