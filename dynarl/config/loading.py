"""A run's configuration as YAML and as a command line.

A YAML file gives differences from the defaults; flags override the file. Nested dataclasses appear flat:
`learning_rate: 1e-3` in the file, `--learning-rate 1e-3` on the command line, for a field of any nested dataclass.
"""

import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from dynarl.config import yaml
from dynarl.config.migration import migrated, renamed, unknown_field
from dynarl.config.other_names import hint
from dynarl.config.run_config import ConfigError

__all__ = ["fields_of", "from_file", "from_mapping", "load", "replace", "split", "to_flat", "to_yaml"]

Config = TypeVar("Config")


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

    Fields that belong to one run only (its directory, `resume`) are left out, so that the file starts the same run in
    another directory.
    """
    return yaml.dump({k: v for k, v in to_flat(config).items() if k not in _NOT_REPEATED})


def replace(config: Config, changes: Mapping[str, Any]) -> Config:
    """Return `config` with the named (flat) fields replaced and checked."""
    return _build(type(config), {**to_flat(config), **changes})


def _build(config_cls: type[Config], flat: Mapping[str, Any], *, checked: bool = True) -> Config:
    """Make a config from flat values; with `checked` False, its checks wait until flags have been applied."""
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
    """Return {field name: value} from a YAML file, every value converted to the type of its field.

    Raises ConfigError for a file that is not YAML, and as `from_mapping` does.
    """
    try:
        tree = yaml.read(path)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    for key in tree:
        if key.replace("-", "_") in _COMMAND_LINE_ONLY:
            raise ConfigError(f"config: {key!r} is only accepted on the command line, not in {path}")
    return from_mapping(config_cls, tree, source=str(path))


def from_mapping(config_cls: Any, tree: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    """Return {field name: value} from parsed YAML or JSON, every value converted to the type of its field.

    Field names of earlier versions are migrated (see dynarl.config.migration). Raises ConfigError for a key that is
    no field, with the nearest field, and for a value that does not fit its type; `source` names the file.
    """
    fields = fields_of(config_cls)
    try:
        tree = migrated(config_cls, {key.replace("-", "_"): value for key, value in tree.items()}, source=source)
    except ValueError as error:
        raise ConfigError(f"config: {source}: {error}") from error
    values = {}
    for name, value in tree.items():
        if name not in fields:
            raise ConfigError(f"config: {source}: {unknown_field(config_cls, name, fields, value)}")
        try:
            values[name] = yaml.coerce(value, fields[name][1])
        except (TypeError, ValueError) as error:
            raise ConfigError(f"config: {source}: {name}: {error}") from error
    return values


# ----------------------------------------------------------------------------------------------- command line


def load(
    config_cls: type[Config],
    argv: Sequence[str],
    *,
    prog: str,
    description: str = "",
    base: Mapping[str, Any] | None = None,
    find: Callable[[str], Path] = Path,
) -> Config:
    """Return the config that a command line `[CONFIG] [--any-field value]` describes.

    The order is: defaults, `base` (flat values), the YAML file, the flags. Dashes and underscores in flags are
    equivalent. `find` turns CONFIG into the path of the YAML file. Exits with status 2 and a message for a flag that
    is unknown or does not fit, and with 0 after `--help`. Raises ConfigError for a wrong file and for a flag with the
    name that a field had in an earlier version or has in another library.
    """
    names, flags = split(config_cls, argv)
    fields = fields_of(config_cls)
    flat = {**{name: _default(config_cls, path) for name, (path, _) in fields.items()}, **(base or {})}
    for name in names:
        flat |= from_file(config_cls, find(name))
    if not flags:
        return _build(config_cls, flat)
    _refuse_known_names(config_cls, flags, fields)
    return _parse(config_cls, flags, _build(config_cls, flat, checked=False), prog, description)


def _refuse_known_names(config_cls: type, flags: Sequence[str], fields: Mapping[str, Any]) -> None:
    """Raise ConfigError for a flag with the name that a field had in an earlier version or has in another library.

    The parser reports other unknown flags.
    """
    for i, flag in enumerate(flags):
        name, _, value = flag.removeprefix("--").removeprefix("no-").partition("=")
        name = name.replace("-", "_")
        if not flag.startswith("--") or name in fields:
            continue
        text = value or next(iter(flags[i + 1 : i + 2]), "")
        try:
            old = renamed(config_cls, name, yaml.parse(f"value: {text}")["value"])
        except ValueError:
            continue
        if other := old or hint(name, fields):
            raise ConfigError(f"config: {flag.partition('=')[0]}: {other}")


def split(config_cls: type, argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the CONFIG of a command line (a list of none or one) and its flags.

    CONFIG is the first argument, or any that ends in .yaml or .yml. `--flag yes` of a boolean field becomes `--flag`,
    `--flag no` becomes `--no-flag`. Raises ConfigError for two of them.
    """
    switches = {f"--{name}" for name, (_, kind) in fields_of(config_cls).items() if kind is bool}
    files: list[str] = []
    flags: list[str] = []
    for i, token in enumerate(argv):
        named, _, value = token.replace("_", "-").partition("=")
        previous = flags[-1].replace("-", "_").replace("__", "--", 1) if flags else ""
        if not token.startswith("-") and (i == 0 or token.endswith((".yaml", ".yml"))):
            files.append(token)
        elif previous in switches and token.lower() in yaml.BOOLEANS:
            flags[-1] = flags[-1] if yaml.BOOLEANS[token.lower()] else "--no-" + flags[-1][2:]
        elif named.replace("-", "_").replace("__", "--", 1) in switches and value.lower() in yaml.BOOLEANS:
            flags.append(named if yaml.BOOLEANS[value.lower()] else "--no-" + named[2:])
        else:
            flags.append(token)
    if len(files) > 1:
        raise ConfigError(f"config: one YAML file at most, got {', '.join(files)}")
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
            instance_from_str=lambda texts: yaml.coerce(yaml.parse(f"value: {texts[0]}")["value"], int),
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
            instance_from_str=lambda texts: yaml.parse(texts[0]),
            is_instance=lambda value: isinstance(value, dict),
            str_from_instance=lambda value: [yaml.dump(value, one_line=True)],
        )

    return tyro.cli(
        config_cls,
        args=flags,
        default=default,
        prog=f"{prog} [CONFIG]",
        description=description,
        config=(tyro.conf.OmitArgPrefixes,),
        registry=registry,
    )
