"""Recurrent layers over a sequence, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.timing import Contestants, Goal, Report

INPUTS, HIDDEN, STEPS, ROWS = 64, 128, 64, 16


def forward_backward(lib: Any, kind: str, weights: dict[str, Any], x: Any) -> Callable[[], Any]:
    layer = getattr(lib.nn, kind)(INPUTS, HIDDEN)
    with lib.no_grad():
        for name, p in layer.named_parameters():
            p.copy_(lib.as_tensor(weights[name]))
    optimizer = lib.optim.Adam(layer.parameters())
    x = lib.as_tensor(x)

    def call() -> Any:
        optimizer.zero_grad()
        loss = layer(x)[0].square().mean()
        loss.backward()
        return loss

    return call


def recurrent_section(report: Report, libs: dict[str, Any]) -> None:
    """LSTM and GRU 64 -> 128 over 64 steps of 16 sequences."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(STEPS, ROWS, INPUTS)).astype(np.float32)
    for kind, gates in (("LSTM", 4), ("GRU", 3)):
        rows = gates * HIDDEN
        shapes = {"weight_ih_l0": (rows, INPUTS), "weight_hh_l0": (rows, HIDDEN)}
        shapes |= {"bias_ih_l0": (rows,), "bias_hh_l0": (rows,)}
        weights = {name: rng.uniform(-0.09, 0.09, shape).astype(np.float32) for name, shape in shapes.items()}
        contestants: Contestants = {name: forward_backward(lib, kind, weights, x) for name, lib in libs.items()}
        name = f"nn.{kind} {INPUTS}-{HIDDEN} fwd+bwd, {STEPS} steps of {ROWS}"
        report.add("recurrent", name, contestants, [Goal(1.3, "torch")], "matrix products of 16 rows")
