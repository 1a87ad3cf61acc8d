"""Loading a state dict into tensors: all checks come before the first copy, so a failed load changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from dynarl.autograd import Tensor, no_grad, tensor


class IncompatibleKeys(NamedTuple):
    """The keys that `load_state_dict` could not match by name."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


def load_into(owner: str, own: Mapping[str, Tensor], state_dict: Mapping[str, Any], strict: bool) -> IncompatibleKeys:
    """Copy `state_dict` into the tensors `own`, by name; raise RuntimeError naming every difference."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
    missing = [name for name in own if name not in state_dict]
    unexpected = [name for name in state_dict if name not in own]
    problems = []
    if strict and missing:
        problems.append(f"Missing key(s) in state_dict: {_quoted(missing)}. ")
    if strict and unexpected:
        problems.append(f"Unexpected key(s) in state_dict: {_quoted(unexpected)}. ")
    sources: dict[str, Any] = {}
    for name, target in own.items():
        if name in state_dict:
            source = as_source(state_dict[name])
            if source is None:
                problems.append(
                    f'While copying the parameter named "{name}", expected a Tensor or an array '
                    f"from checkpoint but received {type(state_dict[name])}"
                )
            elif tuple(source.shape) != tuple(target.shape):
                problems.append(
                    f"size mismatch for {name}: copying a param with shape {tuple(source.shape)} from "
                    f"checkpoint, the shape in current model is {tuple(target.shape)}."
                )
            else:
                sources[name] = source
    if problems:
        raise RuntimeError("Error(s) in loading state_dict for " + owner + ":\n\t" + "\n\t".join(problems))
    with no_grad():
        for name, source in sources.items():
            own[name].copy_(source)
    return IncompatibleKeys(missing, unexpected)


def as_source(value: Any) -> Tensor | None:
    """Return a value of a state dict as a Tensor, or None where it is not array-like."""
    if isinstance(value, Tensor):
        return value
    if not hasattr(value, "__array__"):
        return None
    for step in ("detach", "cpu"):  # a tensor of another library may require grad or be on a GPU
        value = getattr(value, step)() if hasattr(value, step) else value
    return tensor(np.asarray(value))


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
