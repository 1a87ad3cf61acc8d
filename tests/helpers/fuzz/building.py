"""Makes a program from its source, in a real file or in none, and the inputs it runs on."""

from __future__ import annotations

import itertools
import sys
import tempfile
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import dynarl
from dynarl import nn
from dynarl.batching import Draws, ObjectBatch, Ragged

__all__ = ["SAMPLES", "Inputs", "built", "draws_of", "draws_of_one"]

WIDTH = 4
SAMPLES = 14
_numbers = itertools.count()


class Net(nn.Module):
    """The parameters a program uses by the global name `net`, and the Modules that it defines."""

    def __init__(self, names: dict[str, Any], noise: Any) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Linear(WIDTH, WIDTH, dtype=np.float64), nn.Tanh())
        self.b = nn.Linear(WIDTH, WIDTH, dtype=np.float64)
        self.c = nn.Sequential(nn.Linear(WIDTH, WIDTH, dtype=np.float64), nn.Sigmoid())
        self.h = nn.Linear(WIDTH, 1, dtype=np.float64)
        self.p = nn.Parameter(dynarl.tensor(np.random.default_rng(3).standard_normal(WIDTH)))
        self.m = nn.Parameter(dynarl.tensor(np.random.default_rng(4).standard_normal((WIDTH, WIDTH)) * 0.5))
        self.register_buffer("shift", dynarl.tensor(np.linspace(-0.2, 0.3, WIDTH)))
        self.factor, self.weights, self.names = 0.75, [0.5, 1.25], {"up": 0.25, "down": -0.35}
        for name in ("Sub0", "Sub1", "Note", "Start", "Made"):
            if name in names:
                setattr(self, name.lower(), names[name]())
        with dynarl.no_grad():
            for parameter in self.parameters():
                parameter.copy_(dynarl.tensor(noise(parameter.detach().numpy())))


@contextmanager
def built(source: str, seed: int, *, file: bool = True, noise: Any = lambda x: x) -> Iterator[tuple[Any, Net]]:
    """Give (program, net) made from source. Without a file nobody finds the source."""
    name = f"fuzz_program_{seed}_{next(_numbers)}"
    module = types.ModuleType(name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.py"
        if file:
            path.write_text(source)
        sys.modules[name] = module  # dataclasses look their module up
        try:
            module.__file__ = str(path) if file else None
            exec(compile(source, str(path) if file else f"<{name}>", "exec"), module.__dict__)
            dynarl.manual_seed(seed)
            net = Net(module.__dict__, noise)
            module.__dict__["net"] = net
            yield module.__dict__["program"], net
        finally:
            del sys.modules[name]


class Inputs:
    """The batch of a seed: vectors, sequences, flags, trees and records; `noise` changes every number a little."""

    def __init__(self, seed: int, noise: Any = lambda x: x) -> None:
        rng = np.random.default_rng(seed)
        self.x = noise(rng.standard_normal((SAMPLES, WIDTH)))
        self.sequences = [noise(rng.standard_normal((n, WIDTH))) for n in rng.integers(1, 6, SAMPLES)]
        self.flag = rng.random(SAMPLES) < 0.4
        self.trees = [_tree(rng, int(rng.integers(1, 6)), noise) for _ in range(SAMPLES)]
        self.given = [
            {"n": int(n), "path": [0.5] * int(n), "record": ([], {"v": noise(rng.standard_normal(WIDTH))})}
            for n in rng.integers(0, 3, SAMPLES)
        ]

    def args(self) -> tuple[Any, ...]:
        """Return the arguments of a call."""
        objects = ObjectBatch(self.trees), ObjectBatch(self.given)
        return self.x, Ragged(self.sequences), dynarl.tensor(self.flag), *objects


def _tree(rng: np.random.Generator, size: int, noise: Any) -> Any:
    """Return a tree of nested tuples with `size` leaves [WIDTH]."""
    if size == 1:
        return noise(rng.standard_normal(WIDTH))
    first = int(rng.integers(1, size))
    if size > 2 and rng.random() < 0.3:
        return tuple(_tree(rng, 1, noise) for _ in range(size))
    return _tree(rng, first, noise), _tree(rng, size - first, noise)


def draws_of(seed: int) -> Draws:
    """Return the random streams of the samples."""
    return Draws(seed, np.arange(SAMPLES), 0)


@contextmanager
def draws_of_one(seed: int) -> Iterator[Any]:
    """Let ordinary calls of the random functions draw what one sample draws in a batch; gives `choose(sample)`."""
    draws, chosen = draws_of(seed), [0]

    def drawn(kind: str, shape: Any, dtype: Any) -> Any:
        rows = np.array(chosen)
        return draws.make(rows, draws.reserve(rows), kind, tuple(np.atleast_1d(shape)), dtype, None)[0]

    def categorical(probs: Any = None, logits: Any = None) -> Any:
        weights = (logits.softmax(-1) if probs is None else probs).detach()
        cdf = weights.cumsum(-1)
        return (cdf[:-1] <= drawn("uniform", (), None) * cdf[-1]).to(np.int64).sum(-1)

    with mock.patch.multiple(
        dynarl,
        rand=lambda shape, dtype=None: drawn("uniform", shape, dtype),
        randn=lambda shape, dtype=None: drawn("normal", shape, dtype),
        categorical=categorical,
    ):
        yield lambda sample: chosen.__setitem__(0, sample)
