"""YAML for configurations: the safe subset, with the scalars of YAML 1.2.

Scalars are read as in YAML 1.2 and JSON: `1e-3` is a number, `no`, `on` and `1:30` are strings, `010` is 10. PyYAML
reads YAML 1.1, where they are a string, two booleans, 90 and 8. Anchors and aliases, tags, duplicate keys, deep
nesting and files over a megabyte are refused.
"""

import math
import re
import types
import typing
from collections.abc import Hashable
from pathlib import Path
from typing import Any

__all__ = ["BOOLEANS", "coerce", "dump", "parse", "read"]

_MAX_BYTES = 1 << 20
_MAX_DEPTH = 32
_TAG = "tag:yaml.org,2002:"


def read(path: Path) -> dict[str, Any]:
    """Return the mapping in the YAML file `path` (empty file: an empty mapping).

    Raises ValueError with the file, and with the line if it is known.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ValueError(f"larger than {_MAX_BYTES} bytes")
        return parse(content.decode())
    except OSError as error:
        raise ValueError(f"config: cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"config: {path} is not usable: {error}") from error


def parse(text: str) -> dict[str, Any]:
    """Return the mapping in `text`; raises ValueError if it holds none."""
    import yaml

    try:
        tree = yaml.load(text, Loader=_loader())
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    if tree is None:
        return {}
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise ValueError(f"expected a mapping of names to values, got {tree!r}"[:200])
    return tree


def dump(mapping: dict[str, Any], *, one_line: bool = False) -> str:
    """Return the YAML that `parse` turns into an equal mapping (tuples as lists)."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    Dumper.yaml_implicit_resolvers = _merged(Dumper.yaml_implicit_resolvers, _loader().yaml_implicit_resolvers)
    for kind in (list, tuple):
        Dumper.add_representer(
            kind, lambda dumper, value: dumper.represent_sequence(_TAG + "seq", value, flow_style=True)
        )
    Dumper.add_representer(float, lambda dumper, value: dumper.represent_scalar(_TAG + "float", _text(value)))
    width = 1 << 20 if one_line else 100
    style: dict[str, Any] = {"default_flow_style": one_line, "sort_keys": False, "allow_unicode": True}
    text = str(yaml.dump(mapping, Dumper=Dumper, width=width, **style))
    return text.rstrip("\n") if one_line else text


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return the resolvers of both YAML versions: a string that either reads as another type is written in quotes."""
    return {key: [*second.get(key, []), *first.get(key, [])] for key in {**first, **second}}


def _text(value: float) -> str:
    special = {math.inf: ".inf", -math.inf: "-.inf"}
    return ".nan" if value != value else special.get(value) or repr(value)


def _loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """PyYAML's safe loader with YAML 1.2 scalars and limits."""

        yaml_implicit_resolvers: dict[str, Any] = {}
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # types-PyYAML leaves it untyped
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
                raise yaml.YAMLError(f"anchors and aliases are not allowed{event.start_mark}")
            self.depth += 1
            if self.depth > _MAX_DEPTH:
                raise yaml.YAMLError(f"nested deeper than {_MAX_DEPTH}{event.start_mark}")
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            for i, key in enumerate(keys):
                if key in keys[:i]:
                    raise yaml.YAMLError(f"{key!r} appears twice{node.value[i][0].start_mark}")
            mapping: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
            return mapping

    for tag, pattern, first in _SCALARS:
        Loader.add_implicit_resolver(_TAG + tag, re.compile(pattern, re.VERBOSE), list(first))
    Loader.add_constructor(_TAG + "int", lambda loader, node: int(node.value))
    Loader.add_constructor(_TAG + "float", lambda loader, node: _float(node.value))
    return Loader


_SCALARS: tuple[tuple[str, str, str], ...] = (
    ("null", r"^(?:~|null|Null|NULL|None|)$", "~nN\0"),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?[0-9]+(?:_[0-9]+)*$", "-+0123456789"),
    (
        "float",
        r"""^(?:[-+]?(?:[0-9][0-9_]*\.[0-9]*|\.[0-9]+|[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?
            |[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$""",
        "-+.0123456789",
    ),
)


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


# ------------------------------------------------------------------------------------------------ to a type

BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def coerce(value: Any, kind: Any) -> Any:
    """Return `value`, as read from YAML, as the type `kind` of a field, without rounding.

    Raises TypeError or ValueError with the expected type.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin is typing.Annotated:
        return coerce(value, args[0])
    if origin is typing.Literal:
        return _coerce_literal(value, args)
    if origin in (typing.Union, types.UnionType):
        return _coerce_union(value, args)
    if origin in (tuple, list):
        return _coerce_sequence(value, origin, args)
    if kind is dict or origin is dict:
        if isinstance(value, dict):
            return value
        raise TypeError(f"expected a mapping, got {value!r}")
    return _coerce_scalar(value, kind)


def _coerce_scalar(value: Any, kind: Any) -> Any:
    if kind is bool and isinstance(value, str) and value.lower() in BOOLEANS:
        return BOOLEANS[value.lower()]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind is type(None) and value is None:
        return None
    if isinstance(kind, type) and type(value) is kind:
        return value
    expected = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}.get(kind)
    raise TypeError(f"expected {expected or getattr(kind, '__name__', kind)}, got {value!r}")


def _coerce_literal(value: Any, choices: tuple[Any, ...]) -> Any:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
    raise ValueError(f"expected one of {', '.join(map(repr, choices))}, got {value!r}")


def _coerce_union(value: Any, kinds: tuple[Any, ...]) -> Any:
    for kind in sorted(kinds, key=lambda kind: kind is not type(value)):
        try:
            return coerce(value, kind)
        except (TypeError, ValueError):
            continue
    names = " or ".join("None" if k is type(None) else getattr(k, "__name__", str(k)) for k in kinds)
    raise TypeError(f"expected {names}, got {value!r}")


def _coerce_sequence(value: Any, origin: Any, args: tuple[Any, ...]) -> Any:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, got {value!r}")
    if origin is list or args[-1:] == (...,):
        kinds = [args[0]] * len(value)
    else:
        kinds = list(args)
    if len(kinds) != len(value):
        raise ValueError(f"expected {len(kinds)} values, got {len(value)}")
    return origin(coerce(item, kind) for item, kind in zip(value, kinds, strict=True))
