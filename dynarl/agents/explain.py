"""Every implementation detail of an agent with its value, its meaning and its source."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from dynarl.nn import Module

__all__ = ["Detail", "Fact", "explain", "field_docs", "split_source", "table"]


class Detail(NamedTuple):
    """One line of `explain`: name, value, meaning, and its paper, equation or reference implementation."""

    name: str
    value: Any
    meaning: str
    source: str


class Fact(NamedTuple):
    """A detail that is no option. `value` may be a function of the agent."""

    name: str
    value: Any | Callable[[Any], Any]
    meaning: str
    source: str


class Explained(Protocol):
    """What `explain` reads of an agent; the values of facts may read more."""

    config: Any
    facts: tuple[Fact, ...]
    sources: Mapping[str, str]


def explain(agent: Explained) -> list[Detail]:
    """Return the agent's options with their values, then the details that are no options."""
    docs = field_docs(type(agent.config))
    found = []
    for field in dataclasses.fields(agent.config):
        meaning, source = split_source(docs.get(field.name, ""))
        source = source or agent.sources.get(field.name, "")
        found.append(Detail(field.name, getattr(agent.config, field.name), meaning, source))
    for fact in (*_SHARED, *agent.facts):
        value = fact.value(agent) if callable(fact.value) else fact.value
        found.append(Detail(fact.name, value, fact.meaning, fact.source))
    return found


def table(details: list[Detail], title: str) -> str:
    """Return details as text, one after another."""
    lines = [title]
    for detail in details:
        lines += ["", f"{detail.name} = {detail.value}"]
        lines += textwrap.wrap(detail.meaning, 100, initial_indent="    ", subsequent_indent="    ")
        if detail.source:
            lines += textwrap.wrap(f"source: {detail.source}", 100, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def field_docs(config_cls: type) -> dict[str, str]:
    """Return {field: its docstring, on one line} of a dataclass and of those it inherits from."""
    docs: dict[str, str] = {}
    for cls in reversed(config_cls.__mro__):
        if not dataclasses.is_dataclass(cls):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        assert isinstance(definition, ast.ClassDef)
        for field, text in zip(definition.body, definition.body[1:]):
            if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
                continue
            if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                docs[field.target.id] = " ".join(str(text.value.value).split())
    return docs


def split_source(doc: str) -> tuple[str, str]:
    """Return a field's docstring without its last sentence "Source: ...", and the source; "" where it has none."""
    meaning, _, source = doc.partition(" Source: ")
    return meaning, source.removesuffix(".")


def _networks(networks: Mapping[str, Module]) -> str:
    counts = {}
    for name, network in networks.items():
        counts[name] = sum(parameter.numel() for parameter in network.parameters())
    return ", ".join(f"{name}: {count:,} parameters" for name, count in counts.items())


_SHARED = (
    Fact("algorithm", lambda agent: agent.algorithm, "Name in checkpoints and summaries.", ""),
    Fact("networks", lambda agent: _networks(agent.networks()), "Networks and their numbers of parameters.", ""),
    Fact("observation_space", lambda agent: agent.observation_space, "Space of the observations.", "Gymnasium"),
    Fact("action_space", lambda agent: agent.action_space, "Space of the actions.", "Gymnasium"),
    Fact("seed", lambda agent: agent.seed, "Key of all random streams; there is no global random state.", ""),
    Fact(
        "random numbers",
        "Philox4x32-10",
        "Counter-based: a number depends on seed, purpose, environment and step, not on the order of calls.",
        "Salmon et al., SC 2011",
    ),
    Fact(
        "termination",
        "removes the bootstrap",
        "The value after a terminated state is 0.",
        "Sutton and Barto, 2nd edition, section 3.4",
    ),
    Fact(
        "truncation",
        "keeps the bootstrap",
        "A time limit is no property of the state: the target uses the value of the state reached, before its reset.",
        "arXiv:1712.00378, section 3",
    ),
    Fact(
        "evaluation",
        "deterministic, separate environments, a fixed number of episodes in each",
        "Taking the first episodes that end would count short ones more often.",
        "Stable-Baselines3 evaluation.py",
    ),
    Fact(
        "environment steps",
        "every valid transition of every environment",
        "The x axis of all curves and of all schedules; rows in which a vector environment resets do not count.",
        "",
    ),
)
