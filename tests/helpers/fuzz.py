"""Random per-sample programs, run in every mode and compared with each sample run alone, values and gradients.

    python -m tests.helpers.fuzz --programs 2000 --first 0

A program is Python source, so real `if`, `while`, `for`, `break`, `return`, `try` and calls are at work. Everything is
float64, and predicates compare with odd numbers: a batch and one sample differ by 1e-15 and must not disagree on them.
"""

from __future__ import annotations

import argparse
import linecache
import random
import traceback
import warnings
from collections import Counter
from typing import Any
from unittest import mock

import numpy as np

import dynarl
from dynarl import nn
from dynarl.batching import DecisionRecorder, Draws, ObjectBatch, Ragged, batched, per_sample

WIDTH = 4
SAMPLES = 14
MODES = ("auto", "hidden auto", "eager", "lockstep", "hidden lockstep", "loop")


class Writer:
    """Writes one random program: a Module `Program` with submodules, functions and a `forward(x, seq, flag, tree)`."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.lines: list[str] = []
        self.used: Counter[str] = Counter()
        self.names = 0
        self.scope = "top"
        self.loops = 0

    def source(self) -> str:
        r = self.rng
        self.kinds = [r.choice(["vector", "pair", "dict", "number", "maybe", "list"]) for _ in range(3)]
        self.raising = [r.random() < 0.25 for _ in range(3)]
        for i in range(3):
            self.sub(i)
        self.recursive()
        self.walker()
        self.program()
        return "\n".join(self.lines) + "\n"

    def write(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)

    def name(self, stem: str) -> str:
        self.names += 1
        return f"{stem}{self.names}"

    # -- what is called -------------------------------------------------------------------------------------------

    def sub(self, i: int) -> None:
        """A Module or decorated function of one vector, with branches of its own."""
        self.scope, self.loops = "sub", 0
        module = self.rng.random() < 0.6
        self.write(0, f"class Sub{i}(nn.Module):" if module else "@per_sample")
        d = 1 if module else 0
        if module:
            self.write(1, "def __init__(self, net):")
            self.write(2, "super().__init__()")
            self.write(2, "self.__dict__['net'] = net  # shared, not owned")
            self.write(1, "def forward(self, v0):")
            self.write(2, "net = self.net")
        else:
            self.write(0, f"def sub{i}(net, v0):")
        d += 1
        self.write(d, "v1, v2, s0, s1, n0, n1 = net.p, v0 * 0.5, v0[0], v0.sum() * 0.5, 0, 1")
        if self.raising[i]:
            self.write(d, f"if {self.condition()}:")
            self.write(d + 1, "raise ValueError('a part of the samples')")
        self.block(d, self.rng.randint(1, 3), 2, self.kinds[i], calls=False)
        self.write(d, f"return {self.result(self.kinds[i])}")
        self.write(0, "")

    def recursive(self) -> None:
        if self.rng.random() < 0.5:
            self.write(0, "@per_sample")
        self.write(0, "def deeper(net, v, depth):")
        self.write(1, f"if depth == 0 or v[{self.rng.randrange(WIDTH)}] > {self.number()}:")
        self.write(2, "return net.a(v)")
        self.write(1, f"if v.sum() > {self.number()}:")
        self.write(2, "return deeper(net, net.b(v), depth - 1) * 0.5 + v")
        self.write(1, "return deeper(net, net.c(v) * 1.5, depth - 1)")
        self.write(0, "")

    def walker(self) -> None:
        """A function over a tree of tuples, with a branch at some of its nodes."""
        r = self.rng
        self.write(0, "@per_sample" if r.random() < 0.3 else "")
        self.write(0, "def node(net, v0, v1):")
        self.write(1, "v2, s0, s1, n0, n1 = net.p, v0[0], v1.sum(), 0, 1")
        self.block(1, r.randint(0, 2), 1, "vector", calls=False)
        self.write(1, f"return net.{r.choice('abc')}(v0 + v1).tanh()")
        self.write(0, "")
        self.write(0, "def walk(net, tree, v):")
        self.write(1, "if not isinstance(tree, tuple):")
        self.write(2, r.choice(["return net.a(tree)", "return (tree * net.p).tanh()", "return tree + v"]))
        self.write(1, "v = v * 0.5")
        self.write(1, "for part in tree:")
        self.write(2, "v = node(net, v, walk(net, part, v))")
        if r.random() < 0.3:
            self.write(2, f"if v[{r.randrange(WIDTH)}] > {abs(self.number())}:")
            self.write(3, r.choice(["break", "return v * 0.5", "v = net.c(v)"]))
        self.write(1, "return v")
        self.write(0, "")

    def program(self) -> None:
        self.scope, self.loops = "top", 0
        kind = self.rng.choice(["vector", "pair", "dict", "numbers", "list"])
        self.write(0, "def forward(x, seq, flag, tree):")
        self.write(1, "v0, v1, v2, s0, s1, n0, n1 = net.a(x), x * 0.5, net.p, x[0], x.sum(), 0, 1")
        self.block(1, self.rng.randint(3, 7), 3, kind, calls=True)
        self.write(1, f"return {self.result(kind)}")

    def result(self, kind: str) -> str:
        v, w, s = self.vector(1), self.var("v"), self.scalar(1)
        return {
            "vector": v,
            "pair": f"({v}, {s})",
            "dict": "{'h': " + f"{v}, 'more': ({w}, {s})" + "}",
            "number": f"({v}, {self.rng.choice(['n0', 'n1', 'n0 + n1', '0.5 * n0'])})",
            "numbers": f"({v}, n0, n1 + 0.5, {self.rng.choice(['n0 > 2', 's0 > s1 + 0.017', 'bool(s0 > 0.017)'])})",
            "maybe": self.rng.choice([f"({v}, None)", f"({v}, 'word')"]),
            "list": f"[{v}, {s}]",
        }[kind]

    # -- statements -----------------------------------------------------------------------------------------------

    def block(self, d: int, count: int, nest: int, kind: str, *, calls: bool, loop: bool = False) -> None:
        for _ in range(count):
            self.statement(d, nest, kind, calls=calls, loop=loop)

    def statement(self, d: int, nest: int, kind: str, *, calls: bool, loop: bool) -> None:
        plain = ["vector", "vector", "scalar", "count", "dispatch", "quiet", "pick"]
        nested = ["branch", "branch", "branch", "for", "while", "try", "early"] if nest else []
        more = (
            ["sub", "sub", "recursion", "ragged", "feedback", "collect", "caught", "mutate", "tree", "tree", "draw"]
            if calls and nest
            else []
        )
        if loop:
            plain += ["leave"]
        if self.loops >= 2:
            nested, more = nested[:3], more[:2]
        what = self.rng.choice(plain + nested + more)
        self.used[what] += 1
        getattr(self, "do_" + what)(d, nest, kind, calls, loop)

    def do_vector(self, d: int, *_: Any) -> None:
        self.write(d, f"{self.var('v')} = {self.vector(2)}")

    def do_scalar(self, d: int, *_: Any) -> None:
        self.write(d, f"{self.var('s')} = {self.scalar(2)}")

    def do_count(self, d: int, *_: Any) -> None:
        n = self.var("n")
        what = self.rng.choice(["n0 + 1", "n1 + 2", f"int({self.var('v')}.argmax())", "(n0 * 2 + n1) % 5",
                                f"int(({self.var('s')} * 1.5).floor().clamp(-2, 2))"])  # fmt: skip
        self.write(d, f"{n} = {what}")

    def do_dispatch(self, d: int, *_: Any) -> None:
        self.write(d, f"k = int({self.var('v')}[:3].argmax())")
        self.write(d, f"{self.var('v')} = (net.a, net.b, net.c)[k]({self.var('v')})")

    def do_quiet(self, d: int, *_: Any) -> None:
        if self.rng.random() < 0.5:
            self.write(d, f"{self.var('v')} = ({self.vector(2)}).detach()")
        else:
            self.write(d, "with dynarl.no_grad():")
            self.write(d + 1, f"{self.var('v')} = {self.vector(2)}")

    def do_pick(self, d: int, *_: Any) -> None:
        v, w = self.var("v"), self.var("v")
        self.write(d, self.rng.choice([
            f"s0 = {v}[{w}.argmax()]",
            f"s1 = {v}[int({w}.argmin())]",
            f"{v} = dynarl.where({w} > {self.number()}, {self.vector(1)}, {self.vector(1)})",
            f"{v} = dynarl.stack([{self.scalar(1)} for _ in range({WIDTH})])",
            f"{v} = dynarl.cat([{w}[:1], {v}[1:]])",
            f"{v} = net.m @ {w}",
        ]))  # fmt: skip

    def do_branch(self, d: int, nest: int, kind: str, calls: bool, loop: bool) -> None:
        self.write(d, f"if {self.condition()}:")
        self.block(d + 1, self.rng.randint(1, 2), nest - 1, kind, calls=calls, loop=loop)
        if self.rng.random() < 0.3:
            self.write(d, f"elif {self.condition()}:")
            self.block(d + 1, 1, nest - 1, kind, calls=calls, loop=loop)
        if self.rng.random() < 0.5:
            self.write(d, "else:")
            self.block(d + 1, self.rng.randint(1, 2), nest - 1, kind, calls=calls, loop=loop)

    def do_for(self, d: int, nest: int, kind: str, calls: bool, loop: bool) -> None:
        self.loops += 1
        over = self.rng.choice(["3", "n0 % 4", f"int({self.var('v')}.argmax()) + 1", "2"])
        self.write(d, f"for {self.name('i')} in range({over}):")
        self.block(d + 1, self.rng.randint(1, 2), nest - 1, kind, calls=calls, loop=True)
        if self.rng.random() < 0.3:
            self.write(d, "else:")
            self.write(d + 1, "v0 = v0 + 0.25")
        self.loops -= 1

    def do_while(self, d: int, nest: int, kind: str, calls: bool, loop: bool) -> None:
        self.loops += 1
        turns = self.name("turns")
        self.write(d, f"{turns} = 0")
        test = self.rng.choice([f"{turns} < {self.rng.randint(2, 5)} and ({self.condition()})",
                                f"({self.condition()}) and {turns} < {self.rng.randint(2, 5)}"])  # fmt: skip
        self.write(d, f"while {test}:")
        self.write(d + 1, f"{turns} += 1")
        self.block(d + 1, self.rng.randint(1, 3), nest - 1, kind, calls=calls, loop=True)
        self.loops -= 1

    def do_leave(self, d: int, *_: Any) -> None:
        self.write(d, f"if {self.condition()}:")
        self.write(d + 1, self.rng.choice(["break", "continue"]))

    def do_early(self, d: int, nest: int, kind: str, *_: Any) -> None:
        self.write(d, f"if {self.condition()}:")
        self.write(d + 1, f"return {self.result(kind)}")

    def do_try(self, d: int, nest: int, kind: str, calls: bool, loop: bool) -> None:
        self.write(d, "try:")
        self.block(d + 1, 1, nest - 1, kind, calls=calls, loop=loop)
        self.write(d + 1, f"if {self.condition()}:")
        self.write(d + 2, self.rng.choice(["raise KeyError('branch')", "[][1]", "1 / 0"]))
        self.write(d + 1, f"v1 = {self.vector(1)}")
        self.write(d, "except (LookupError, ZeroDivisionError):")
        self.block(d + 1, 1, 0, kind, calls=False)
        if self.rng.random() < 0.4:
            self.write(d, "finally:")
            self.write(d + 1, f"s0 = {self.scalar(1)}")

    def call_of(self, i: int, argument: str) -> str:
        return f"net.sub{i}({argument})" if f"class Sub{i}(nn.Module):" in self.lines else f"sub{i}(net, {argument})"

    def unpack(self, d: int, i: int, call: str) -> None:
        kind, v = self.kinds[i], self.var("v")
        if kind == "vector":
            self.write(d, f"{v} = {call}")
        elif kind in ("pair", "list"):
            self.write(d, f"{v}, s1 = {call}")
        elif kind == "dict":
            self.write(d, f"out = {call}")
            self.write(d, f"{v}, s0 = out['h'] + out['more'][0], out['more'][1]")
        elif kind == "number":
            self.write(d, f"{v}, n0 = {call}")
            self.write(d, "n0 = int(n0)")
        else:
            self.write(d, f"{v}, tag = {call}")
            self.write(d, "n1 = n1 + (tag is None)")

    def do_sub(self, d: int, *_: Any) -> None:
        i = self.rng.randrange(3)
        if self.raising[i]:
            self.do_caught(d, i=i)
        else:
            self.unpack(d, i, self.call_of(i, self.var("v")))

    def do_caught(self, d: int, *_: Any, i: int | None = None) -> None:
        i = self.rng.randrange(3) if i is None else i
        self.write(d, "try:")
        self.unpack(d + 1, i, self.call_of(i, self.vector(1)))
        self.write(d, "except ValueError as error:")
        self.write(d + 1, f"{self.var('v')} = {self.vector(1)} + len(str(error.args[0]))")

    def do_mutate(self, d: int, *_: Any) -> None:
        """A scope's list or dict, changed by the caller before samples part."""
        for i, kind in enumerate(self.kinds):
            if kind in ("list", "dict") and not self.raising[i]:
                out = self.name("out")
                self.write(d, f"{out} = {self.call_of(i, self.var('v'))}")
                if kind == "list":
                    self.write(d, f"{out}.append({self.var('v')})")
                    self.write(d, f"{out}[0] = {out}[0] * 2")
                    self.write(d, f"if {self.condition()}:")
                    self.write(d + 1, f"{out}.append({self.var('v')} * 0.5)")
                    self.write(d, f"v2 = {out}[0] + {out}[-1] * len({out})")
                else:
                    self.write(d, f"{out}['h'] = {out}['h'] * 2")
                    self.write(d, f"if {self.condition()}:")
                    self.write(d + 1, f"{out}['extra'] = v1")
                    self.write(d, f"v2 = {out}['h'] * len({out}) + {out}.get('extra', 0.5)")
                return
        self.do_vector(d)

    def do_recursion(self, d: int, *_: Any) -> None:
        self.write(d, f"{self.var('v')} = deeper(net, {self.var('v')}, {self.rng.randint(1, 3)})")

    def do_tree(self, d: int, *_: Any) -> None:
        self.write(d, f"{self.var('v')} = walk(net, tree, {self.vector(1)})")

    def do_draw(self, d: int, *_: Any) -> None:
        self.write(d, self.rng.choice([
            f"{self.var('v')} = dynarl.randn({WIDTH}, dtype=dynarl.float64) * 0.5 + {self.var('v')}",
            f"{self.var('s')} = dynarl.rand((), dtype=dynarl.float64)",
            f"{self.var('n')} = int(dynarl.categorical(logits={self.var('v')}))",
            f"while dynarl.rand(()) < 0.4: v0 = {self.vector(1)}",
        ]))  # fmt: skip

    def do_ragged(self, d: int, nest: int, kind: str, calls: bool, loop: bool) -> None:
        choice = self.rng.random()
        if choice < 0.2:
            self.write(d, "n0 = len(seq)")
        elif choice < 0.4:
            self.write(d, f"{self.var('v')} = seq[{self.rng.choice(['0', '-1', 'len(seq) - 1'])}] * 0.5")
        else:
            self.loops += 1
            self.write(d, "for e in seq:")
            self.write(d + 1, f"{self.var('v')} = net.{self.rng.choice('abc')}(e + {self.var('v')})")
            self.block(d + 1, self.rng.randint(0, 1), nest - 1, kind, calls=False, loop=True)
            self.loops -= 1

    def do_feedback(self, d: int, *_: Any) -> None:
        self.write(d, "if flag:")
        self.write(d + 1, f"v0 = {self.vector(2)}")

    def do_collect(self, d: int, *_: Any) -> None:
        found = self.name("found")
        self.write(d, f"{found} = []")
        self.write(d, f"for {self.name('i')} in range(3):")
        self.write(d + 1, f"{found}.append({self.vector(1)})")
        self.write(d + 1, f"v0 = {self.vector(1)}")
        self.write(d + 1, f"if {self.condition()}: break")
        self.write(d, f"v1 = dynarl.stack({found}).mean(0)")

    # -- expressions ----------------------------------------------------------------------------------------------

    def var(self, stem: str) -> str:
        return stem + str(self.rng.randrange(3 if stem == "v" else 2))

    def number(self) -> float:
        return round(self.rng.choice([-1, 1]) * self.rng.uniform(0.03, 0.6), 3)

    def vector(self, depth: int) -> str:
        if depth == 0:
            return self.var("v")
        a, b, s, n = self.vector(depth - 1), self.var("v"), self.var("s"), self.var("n")
        return self.rng.choice([
            a, f"net.{self.rng.choice('abc')}({a})", f"({a} + {b})", f"({a} * {b}).tanh()", f"({a} - {s})",
            f"{a}.softmax(-1)", f"({a} * {s}).tanh()", f"{a} * net.p", f"{a}.relu()", f"{a}.sigmoid()",
            f"({a} + 0.1 * {n}).tanh()", f"({a} / (1 + {b}.abs()))", f"{a}.flip(0)", f"({a} - {a}.mean())",
            f"(net.p - {a})", f"{a}.cumsum(0).tanh()", f"-{a}",
        ])  # fmt: skip

    def scalar(self, depth: int) -> str:
        if depth == 0:
            return self.var("s")
        v, s = self.vector(depth - 1), self.var("s")
        return self.rng.choice([
            f"{v}.sum()", f"{v}.mean()", f"{v}.max()", f"{v}[{self.rng.randrange(WIDTH)}]", f"({s} * 0.5 + {v}[-1])",
            f"({s} + {v}[0]).tanh()", f"{v} @ {self.var('v')}", f"{v}.norm()", f"{v}.logsumexp(-1)", f"net.h({v})[0]",
        ])  # fmt: skip

    def condition(self) -> str:
        v, s, n = self.var("v"), self.var("s"), self.var("n")
        one = self.rng.choice([
            f"{v}[{self.rng.randrange(WIDTH)}] > {self.number()}", f"{s} < {self.number()}", 
            f"{v}.mean() > {self.number()}",
            f"{n} % 2 == 0", f"{v}.sum() > {s} + 0.013", f"({v} > {self.number()}).any()", f"({v} > -0.5).all()",
            f"{n} > 1", f"net.h({v})[0] > {self.number()}", f"float({v}[0] > 0.017) > 0.5",
        ])  # fmt: skip
        chance = self.rng.random()
        if chance < 0.12:
            return f"{one} and {self.condition()}"
        if chance < 0.24:
            return f"{one} or {self.condition()}"
        return f"not ({one})" if chance < 0.3 else one


class Net(nn.Module):
    """The parameters a program draws on."""

    def __init__(self, names: dict[str, Any]) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Linear(WIDTH, WIDTH, dtype=np.float64), nn.Tanh())
        self.b = nn.Linear(WIDTH, WIDTH, dtype=np.float64)
        self.c = nn.Sequential(nn.Linear(WIDTH, WIDTH, dtype=np.float64), nn.Sigmoid())
        self.h = nn.Linear(WIDTH, 1, dtype=np.float64)
        self.p = nn.Parameter(dynarl.tensor(np.random.default_rng(3).standard_normal(WIDTH)))
        self.m = nn.Parameter(dynarl.tensor(np.random.default_rng(4).standard_normal((WIDTH, WIDTH)) * 0.5))
        for i in range(3):
            if f"Sub{i}" in names:
                self.__dict__[f"sub{i}"] = names[f"Sub{i}"](self)


class Built:
    """A program ready to run, and its inputs."""

    def __init__(self, seed: int) -> None:
        self.seed, writer = seed, Writer(seed)
        self.source = writer.source()
        self.used = writer.used
        names: dict[str, Any] = {"nn": nn, "per_sample": per_sample, "dynarl": dynarl}
        filename = f"<program {seed}>"
        linecache.cache[filename] = len(self.source), None, self.source.splitlines(True), filename
        exec(compile(self.source, filename, "exec"), names)
        dynarl.manual_seed(seed)
        self.net, self.forward = Net(names), names["forward"]
        names["net"] = self.net
        rng = np.random.default_rng(seed)
        self.x = rng.standard_normal((SAMPLES, WIDTH))
        self.sequences = [rng.standard_normal((n, WIDTH)) for n in rng.integers(1, 6, SAMPLES)]
        self.flag = rng.random(SAMPLES) < 0.4
        self.trees = [tree_of(rng, int(rng.integers(1, 6))) for _ in range(SAMPLES)]

    def run(self, mode: str, **paths: Any) -> tuple[list[np.ndarray], list[np.ndarray], str]:
        """Return (values, gradients of the input and of every parameter, explanation) in a mode, or alone."""
        for parameter in self.net.parameters():
            parameter.grad = None
        x = dynarl.tensor(self.x, requires_grad=True)
        why = ""
        if mode == "alone":
            samples = [
                leaves(self.forward(x[i], [dynarl.tensor(e) for e in seq], bool(self.flag[i]), alone_of(self.trees[i])))
                for i, seq in enumerate(self.sequences)
            ]
            outputs = [dynarl.stack(list(column)) for column in zip(*samples)]
        else:
            # a lambda hides the source from the rewrite: then branches stay apart until a scope ends
            hidden = mode.startswith("hidden ")
            forward = (lambda *args: self.forward(*args)) if hidden else self.forward
            program = batched(forward, mode=mode.removeprefix("hidden "))
            draws = Draws(self.seed, np.arange(SAMPLES), 0)
            outputs = leaves(
                program(x, Ragged(self.sequences), self.flag, ObjectBatch(self.trees), draws=draws, **paths)
            )
            why = program.explain()
        rng = np.random.default_rng(1)
        floats = [out for out in outputs if out.dtype.kind == "f" and out.requires_grad]
        loss = sum(((out * dynarl.tensor(rng.standard_normal(out.shape))).sum() for out in floats), x.sum() * 0)
        loss.backward()
        sources = [x, *self.net.parameters()]
        gradients = [np.zeros(t.shape) if t.grad is None else t.grad.array.copy() for t in sources]
        return [out.detach().array.astype(float) for out in outputs], gradients, why


def tree_of(rng: np.random.Generator, size: int) -> Any:
    """Return a tree of nested tuples with `size` leaves [WIDTH]."""
    if size == 1:
        return rng.standard_normal(WIDTH)
    first = int(rng.integers(1, size))
    if size > 2 and rng.random() < 0.3:
        return (tree_of(rng, 1), *(tree_of(rng, 1) for _ in range(size - 1)))
    return tree_of(rng, first), tree_of(rng, size - first)


def alone_of(tree: Any) -> Any:
    """Return a tree whose leaves are tensors."""
    return tuple(map(alone_of, tree)) if isinstance(tree, tuple) else dynarl.tensor(tree)


def leaves(tree: Any) -> list[Any]:
    """Return the tensors and numbers of a result in order, numbers as tensors."""
    if isinstance(tree, dict):
        return [leaf for key in sorted(tree) for leaf in leaves(tree[key])]
    if isinstance(tree, (tuple, list)):
        return [leaf for part in tree for leaf in leaves(part)]
    return [tree if isinstance(tree, dynarl.Tensor) else dynarl.tensor(float(tree), dtype=np.float64)]


def _decided(name: str) -> Any:
    """Return an argmax that refuses a choice which rounding made: a batch may choose otherwise."""
    plain = getattr(dynarl.Tensor, name)

    def method(self: Any, *args: Any) -> Any:
        ordered = np.sort(self.array if name == "argmax" else -self.array)
        if ordered[-1] - ordered[-2] < 1e-9 and np.any(ordered[-2:]):
            raise ArithmeticError("undecided")
        return plain(self, *args)

    return method


def check(seed: int, modes: tuple[str, ...] | None = None) -> Built:
    """Compare every mode of one program with its samples run alone; AssertionError shows the program."""
    built = Built(seed)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        try:
            with mock.patch.multiple(dynarl.Tensor, argmax=_decided("argmax"), argmin=_decided("argmin")):
                # a sample alone draws other numbers than it does in a batch, by itself or not
                values, gradients, _ = built.run("loop" if built.used["draw"] else "alone")
        except Exception:  # not a program that works on one sample, or rounding decides it
            values, gradients = [np.array(np.nan)], []
        if not all(np.isfinite(a).all() and np.abs(a).max(initial=0) < 1e6 for a in values + gradients):
            built.used["skipped"] += 1
            return built
        # one records its paths, the other takes them: pairs in which the same tensors are a sample's own
        ways = [("lockstep", "loop"), ("loop", "hidden lockstep"), ("eager", "eager")][seed % 3]
        for mode in [*(modes or MODES), "paths"]:
            try:
                if mode == "paths":
                    recorder = DecisionRecorder(SAMPLES)
                    built.run(ways[0], recorder=recorder)
                    got, pulled, why = built.run(ways[1], paths=recorder.paths())
                else:
                    got, pulled, why = built.run(mode)
                assert len(got) == len(values)
                for g, e in zip(got, values):
                    assert g.shape == e.shape
                    np.testing.assert_allclose(g, e, rtol=1e-6, atol=1e-7)
                for g, e in zip(pulled, gradients):
                    np.testing.assert_allclose(g, e, rtol=1e-7, atol=1e-8 * max(1, np.abs(e).max(initial=0)))
            except Exception as error:
                trace = "".join(traceback.format_exception(error)[-6:])
                raise AssertionError(f"{built.source}\nprogram {seed}, mode {mode!r}: {trace}") from error
            if why:
                built.used["groups"] += int(why.split(" groups")[0].split()[-1])
    return built


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--failures", type=int, default=3, help="stop after so many")
    options = parser.parse_args()
    total: Counter[str] = Counter()
    failed = 0
    for seed in range(options.first, options.first + options.programs):
        try:
            total += check(seed).used
        except AssertionError as error:
            failed += 1
            print(error)
            if failed >= options.failures:
                break
    print(f"{options.programs} programs, {failed} failed; {dict(total)}")


if __name__ == "__main__":
    main()
