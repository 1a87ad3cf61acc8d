"""Field names that configurations had in earlier versions.

A config class may have a classmethod `migrate(fields: dict) -> tuple[dict, list[str]]`: fields with old names in,
fields with today's names out, and one line for each change ("duelling is now called dueling"). Files and checkpoints
are migrated with a line on stderr for each change. Flags and keywords with an old name are refused with that line.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import sys
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, dataclass_transform

from dynarl.config.other_names import hint
from dynarl.config.validate import typed

__all__ = ["configuration", "migrated", "renamed", "unknown_field"]

T = TypeVar("T")


def migrated(config_cls: type, fields: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    """Return `fields` with today's names; each change is printed once on stderr, `source` names the file.

    Raises ValueError where a class of `config_cls` cannot migrate the values.
    """
    found = dict(fields)
    for cls in _classes(config_cls):
        found, changes = cls.migrate(found)
        for change in changes:
            _print_once(f"config: {source}: {change}")
    return found


def renamed(config_cls: type, name: str, value: Any = None) -> str | None:
    """Return the line that says what an old field is called today, None for a name that never was a field."""
    for cls in _classes(config_cls):
        _, changes = cls.migrate({name: value})
        if changes:
            return str(changes[0])
    return None


def unknown_field(config_cls: type, name: str, known: Iterable[str], value: Any = None) -> str:
    """Return the line that explains a name that is no field.

    It gives the field of today for a name of an earlier version or of another library, else the nearest field, else all
    fields; for a section of a nested file it says how configurations are written.
    """
    if old := renamed(config_cls, name, value):
        return old
    known = sorted(known)
    if other := hint(name, known):
        return f"unknown field {name!r}; {other}"
    if isinstance(value, Mapping):
        example = next((key for key in value if key in known), "learning_rate")
        return (
            f"unknown section {name!r}; configurations are flat: write each field at the top level, "
            f"`{example}: {value.get(example, 0.001)}`, without {name!r} above it"
        )
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    nearest = f"did you mean {near[0]!r}?" if near else f"the fields are {', '.join(known)}"
    return f"unknown field {name!r}; {nearest}"


@dataclass_transform(frozen_default=True, kw_only_default=True)
def configuration(cls: type[T]) -> type[T]:
    """Make `cls` a frozen keyword-only dataclass.

    Its constructor names the field that an unknown keyword means, and refuses values of another type.
    """
    made: Any = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    initialize = made.__init__

    @functools.wraps(initialize)
    def checked(self: Any, **fields: Any) -> None:
        kinds = _kinds(made)
        for name, value in fields.items():
            if name not in kinds:
                raise TypeError(f"{cls.__name__}: {unknown_field(cls, name, kinds, value)}")
        initialize(self, **{name: typed(name, value, kinds[name]) for name, value in fields.items()})

    made.__init__ = checked
    return typing.cast(type[T], made)


def _classes(config_cls: type) -> Iterator[Any]:
    """Yield the class and the nested dataclasses that have a `migrate`."""
    if hasattr(config_cls, "migrate"):
        yield config_cls
    hints = typing.get_type_hints(config_cls)
    for field in dataclasses.fields(config_cls):
        if isinstance(hints[field.name], type) and dataclasses.is_dataclass(hints[field.name]):
            yield from _classes(hints[field.name])


@functools.cache
def _kinds(config_cls: type) -> dict[str, Any]:
    """Return {field: type} of a dataclass."""
    hints = typing.get_type_hints(config_cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(config_cls)}


@functools.cache
def _print_once(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
