"""What `print` shows inside a per-sample program: the samples on this path, and their rows of each tensor.

The text of a tensor, `str(x)`, is one sample's: it reads the values, so that samples that differ go separate ways.
`print` must not change a program's paths; it therefore shows all samples that are together, once.
"""

from __future__ import annotations

import builtins
from typing import Any

from dynarl.batching.groups.execution import state
from dynarl.batching.groups.run import some_samples
from dynarl.batching.values.pytree import flatten
from dynarl.batching.values.sample_tensor import SampleTensor

__all__ = ["show"]


def show(*values: Any, **options: Any) -> None:
    """Print values for all samples on this path; in a replay, where they were printed before, print nothing.

    Where no value depends on the sample, this is `print`, but for the samples in front. Outside a program it is
    `print`.
    """
    execution = state.execution
    if execution is None:
        builtins.print(*values, **options)
        return
    if execution.replaying():
        return
    with_rows = any(leaf.__class__ is SampleTensor for value in values for leaf in flatten(value)[0])
    shown = [repr(value) if with_rows and value.__class__ is SampleTensor else value for value in values]
    builtins.print(f"[samples {some_samples(execution.group.samples())}]", *shown, **options)
