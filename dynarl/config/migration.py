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
    """Return the line that explains a name that is no field: its name today, the nearest field, or all fields."""
    if old := renamed(config_cls, name, value):
        return old
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"the fields are {', '.join(known)}"
    return f"unknown field {name!r}; {hint}"


@dataclass_transform(frozen_default=True, kw_only_default=True)
def configuration(cls: type[T]) -> type[T]:
    """Make `cls` a frozen keyword-only dataclass whose constructor names the field that an unknown keyword means."""
    made: Any = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    initialize = made.__init__
    known = {field.name for field in dataclasses.fields(made)}

    @functools.wraps(initialize)
    def checked(self: Any, **fields: Any) -> None:
        for name, value in fields.items():
            if name not in known:
                raise TypeError(f"{cls.__name__}: {unknown_field(cls, name, known, value)}")
        initialize(self, **fields)

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
def _print_once(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
