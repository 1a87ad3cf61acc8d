"""Writes the source of a random program from the templates of its features."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Collection

from tests.helpers.fuzz.features import FEATURES, Feature

__all__ = ["Program", "write"]

_HOLE = re.compile(r"<(\w+)>")
_HEADER = """\
import collections
import contextlib
import copy
import dataclasses
import functools
import math
import types
import typing

import numpy as np

import dynarl
from dynarl import nn
from dynarl.batching import per_sample
"""
_DECORATOR = """\
def smaller(function):
    @functools.wraps(function)
    def wrapper(x, *args):
        return function(x * 0.5, *args)

    return wrapper


@smaller
"""
_SHAPES = ("function", "module", "method", "object", "partial", "decorated")


@dataclasses.dataclass(frozen=True)
class Program:
    """The source of a program and the features it uses."""

    seed: int
    source: str
    features: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where statements are written."""

    result: str  # kind of what the function returns
    own: bool = False  # in a function of its own, where the names of features are unknown
    loop: bool = False
    nest: int = 3
    loops: int = 0


class _Writer:
    def __init__(self, seed: int, names: Collection[str]) -> None:
        self.rng = r = random.Random(f"program {seed}")  # seeds that are near must not give similar programs
        self.count = 0
        chosen = r.sample(sorted(names), min(len(names), r.randint(3, 6)))
        self.features = [FEATURES[name] for name in sorted(chosen)]
        self.shapes = [shape for shape in _SHAPES if shape != "decorated" or "decorator" in names]
        self.loose = [f for f in self.features if not f.setup and not f.module]  # statements that fit everywhere

    def source(self) -> str:
        r = self.rng
        place = _Place(r.choice(("vector", "pair", "dict", "numbers", "list")))
        parts = [_HEADER]
        for f in self.features:
            if f.module:
                parts.append(self.fill(f.module, _Place("vector", own=True)))
        body = ["v0, v1, v2, s0, s1, n0, n1 = net.a(x), x * 0.5, net.p, x[0], x.sum(), 0, 1"]
        body += [self.fill(f.setup, place) for f in self.features if f.setup]
        body += self.statements(r.randint(4, 8), place)
        body.append("return " + self.result(place, every=True))
        parts.append(self.shape("\n".join(body)))
        return "\n\n".join(parts) + "\n"

    def shape(self, body: str) -> str:
        """Return the program in one of the shapes in which users write them; all are called `program` in the end."""
        shape = self.rng.choice(self.shapes)
        if shape == "module":
            return _method("forward", "nn.Module", body) + "\n\nprogram = Program()"
        if shape == "object":
            return _method("__call__", "", body) + "\n\nprogram = Program()"
        if shape == "method":
            return _method("choose", "", body) + "\n\nprogram = Program().choose"
        if shape == "partial":
            made = "functools.partial(forward, more=0.5)"
            return f"def forward(x, seq, flag, tree, given, more):\n{_indent(body)}\n\n\nprogram = {made}"
        function = f"def program(x, seq, flag, tree, given):\n{_indent(body)}"
        if shape == "function":
            return function
        return f"{_DECORATOR}{function}"

    # -- statements ---------------------------------------------------------------------------------------------------

    def statements(self, count: int, place: _Place) -> list[str]:
        return [self.statement(place) for _ in range(count)]

    def statement(self, place: _Place) -> str:
        r = self.rng
        features = self.loose if place.own else self.features
        if features and r.random() < 0.6:
            template = r.choice(r.choice(features).statements)
            small = place.nest > 0 or ("<block>" not in template and "<loop>" not in template)
            if small and (place.loops < 2 or ("for " not in template and "while " not in template)):
                return self.fill(template, place)
        return self.fill(r.choice(_PLAIN if place.nest <= 0 or place.loops > 1 else _NESTED), place)

    def fill(self, template: str, place: _Place) -> str:
        """Return a template with its holes filled."""
        names: dict[str, str] = {}
        return "\n".join(self.line(line, place, names) for line in template.split("\n"))

    def line(self, line: str, place: _Place, names: dict[str, str]) -> str:
        text = line.strip()
        space = line[: len(line) - len(line.lstrip())]
        if text in ("<block>", "<loop>", "<own>"):
            inside = dataclasses.replace(place, nest=place.nest - 1)
            if text == "<own>":
                inside = _Place("vector", own=True, nest=1)
                if self.rng.random() < 0.3:
                    return space + "v1 = v1 + 0.0"
            elif text == "<loop>":
                inside = dataclasses.replace(inside, loop=True, loops=place.loops + 1)
            return _indent("\n".join(self.statements(self.rng.randint(1, 2), inside)), space)
        return _HOLE.sub(lambda hole: self.hole(hole.group(1), place, names), line)

    def hole(self, name: str, place: _Place, names: dict[str, str]) -> str:
        r = self.rng
        if name.startswith("name"):
            if name not in names:
                self.count += 1
                names[name] = f"t{self.count}"
            return names[name]
        if name == "leave":
            return r.choice(("break", "continue")) if place.loop else "n1 = n1 % 3"
        if name == "result":
            return self.result(place)
        return {
            "v": lambda: self.var("v"),
            "s": lambda: self.var("s"),
            "n": lambda: self.var("n"),
            "V": lambda: self.vector(2),
            "S": lambda: self.scalar(2),
            "c": self.condition,
            "x": lambda: str(self.number()),
            "i": lambda: str(r.randrange(4)),
            "k": lambda: str(r.randint(1, 3)),
        }[name]()

    def result(self, place: _Place, *, every: bool = False) -> str:
        """Return what the program returns: a structure that is the same everywhere, with what features ended with."""
        r = self.rng
        finals = [] if place.own else [f.final for f in self.features if f.final and (every or r.random() < 0.3)]
        v = " + ".join([self.vector(1), *(f"({final})" for final in finals)])
        w, s = self.var("v"), self.scalar(1)
        return {
            "vector": v,
            "pair": f"({v}, {s})",
            "dict": "{'h': " + f"{v}, 'more': ({w}, {s})" + "}",
            "numbers": f"({v}, n0, n1 + 0.5, {r.choice(['n0 > 2', 's0 > s1 + 0.017', 'bool(s0 > 0.017)'])})",
            "list": f"[{v}, {s}]",
        }[place.result]

    # -- expressions --------------------------------------------------------------------------------------------------

    def var(self, stem: str) -> str:
        return stem + str(self.rng.randrange(3 if stem == "v" else 2))

    def number(self) -> float:
        """Return an odd number: predicates compare with it, and samples must not be equal to it but for rounding."""
        return round(self.rng.choice([-1, 1]) * self.rng.uniform(0.03, 0.6), 3)

    def vector(self, depth: int) -> str:
        if depth == 0:
            return self.var("v")
        a, b, s, n = self.vector(depth - 1), self.var("v"), self.var("s"), self.var("n")
        return self.rng.choice([
            a, f"net.{self.rng.choice('abc')}({a})", f"({a} + {b})", f"({a} * {b}).tanh()", f"({a} - {s})",
            f"{a}.softmax(-1)", f"({a} * {s}).tanh()", f"({a} * net.p)", f"{a}.relu()", f"{a}.sigmoid()",
            f"({a} + 0.1 * {n}).tanh()", f"({a} / (1 + {b}.abs()))", f"{a}.flip(0)", f"({a} - {a}.mean())",
            f"(net.p - {a})", f"{a}.cumsum(0).tanh()", f"(-{a})",
        ])  # fmt: skip

    def scalar(self, depth: int) -> str:
        if depth == 0:
            return self.var("s")
        v, s = self.vector(depth - 1), self.var("s")
        return self.rng.choice([
            f"{v}.sum()", f"{v}.mean()", f"{v}.max()", f"{v}[{self.rng.randrange(4)}]", f"({s} * 0.5 + {v}[-1])",
            f"({s} + {v}[0]).tanh()", f"({v} @ {self.var('v')})", f"{v}.norm()", f"{v}.logsumexp(-1)",
            f"net.h({v})[0]",
        ])  # fmt: skip

    def condition(self) -> str:
        v, s, n = self.var("v"), self.var("s"), self.var("n")
        one = self.rng.choice([
            f"{v}[{self.rng.randrange(4)}] > {self.number()}", f"{s} < {self.number()}",
            f"{v}.mean() > {self.number()}", f"{n} % 2 == 0", f"{v}.sum() > {s} + 0.013",
            f"({v} > {self.number()}).any()", f"({v} > -0.5).all()", f"{n} > 1",
            f"net.h({v})[0] > {self.number()}", f"float({v}[0] > 0.017) > 0.5",
        ])  # fmt: skip
        chance = self.rng.random()
        if chance < 0.12:
            return f"({one} and {self.condition()})"
        if chance < 0.24:
            return f"({one} or {self.condition()})"
        return f"(not ({one}))" if chance < 0.3 else f"({one})"


_PLAIN = ("<v> = <V>", "<v> = <V>", "<s> = <S>", "if <c>:\n    <leave>\n<s> = <S>", "<n> = <n> % 4 + <k>")
_NESTED = (
    *_PLAIN,
    "if <c>:\n    <block>",
    "if <c>:\n    <block>\nelse:\n    <block>",
    "if <c>:\n    <block>\nelif <c>:\n    <block>\nelse:\n    <block>",
    "for <name1> in range(<n> % 4):\n    <loop>",
    "for <name1> in range(<k>):\n    <loop>\n    if <c>:\n        break",
    "<name1> = 0\nwhile <name1> < 3 and <c>:\n    <name1> += 1\n    <loop>",
    "<name1> = 0\nwhile <c> and <name1> < 4:\n    <name1> += 1\n    <loop>",
)


def _method(name: str, base: str, body: str) -> str:
    heading = f"class Program({base}):" if base else "class Program:"
    return f"{heading}\n    def {name}(self, x, seq, flag, tree, given):\n{_indent(body, ' ' * 8)}"


def _indent(text: str, space: str = "    ") -> str:
    return "\n".join(space + line if line else line for line in text.split("\n"))


def write(seed: int, names: Collection[str] = ()) -> Program:
    """Return the program of a seed, made of some of the named features (all by default)."""
    writer = _Writer(seed, names or FEATURES.keys())
    source = writer.source()
    features: list[Feature] = writer.features
    return Program(seed, source, tuple(f.name for f in features))
