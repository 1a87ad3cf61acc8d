"""Features: the constructs a program can be made of, each switched on and off by name."""

from __future__ import annotations

import dataclasses
import textwrap

__all__ = ["FEATURES", "Feature", "feature"]


@dataclasses.dataclass(frozen=True)
class Feature:
    """One construct, as templates of source.

    In a template `<v>` is a vector's name, `<V>` an expression for a vector, `<s>` and `<S>` a scalar, `<n>` an int,
    `<c>` a condition, `<x>` a number, `<i>` an index, `<k>` an int from 1 to 3, `<result>` what the function returns,
    and `<name1>`, `<name2>` are new names. A line `<block>` is random statements, `<loop>` those of a loop's body.
    """

    name: str
    statements: tuple[str, ...]
    module: str = ""  # at the top of the file
    setup: str = ""  # at the beginning of `forward`; makes the feature's names
    final: str = ""  # a vector or number that shows what the statements did
    refusals: tuple[str, ...] = ()  # parts of messages with which the construct may be refused


FEATURES: dict[str, Feature] = {}


def feature(
    name: str, *statements: str, module: str = "", setup: str = "", final: str = "", refusals: tuple[str, ...] = ()
) -> None:
    """Add a feature."""
    if name in FEATURES:
        raise ValueError(f"feature: {name!r} is defined twice")
    texts = tuple(textwrap.dedent(text).strip("\n") for text in statements)
    module, setup = (textwrap.dedent(text).strip("\n") for text in (module, setup))
    FEATURES[name] = Feature(name, texts, module, setup, final, refusals)


from tests.helpers.fuzz.constructs import (  # noqa: E402, F401  (they call `feature`)
    batches,
    calls,
    containers,
    control,
    functions,
    objects,
    tensors,
    values,
)
