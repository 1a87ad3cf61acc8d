"""Loading the saved state of an optimiser: dynarl's, PyTorch's, or arrays from a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.device import device_of, to_device, to_host
from dynarl.autograd.tensor import wrap

__all__ = ["loaded_hyperparameter", "loaded_state"]


def loaded_hyperparameter(value: Any) -> Any:
    """Return an option of a saved parameter group; a 0-dim tensor or array becomes a number."""
    return value.item() if hasattr(value, "item") else value


def loaded_state(
    name: str,
    saved: Mapping[Any, Mapping[str, Any]],
    owner: Mapping[int, Tensor],
    allowed: tuple[str, ...],
    counts_steps: bool,
) -> dict[Tensor, dict[str, Any]]:
    """Return per-parameter state checked against the parameters, copied, in their dtype and on their device."""
    state: dict[Tensor, dict[str, Any]] = {}
    for key, entry in saved.items():
        index = int(key)
        if index not in owner:
            raise ValueError(f"{name}.load_state_dict: state of parameter {index}, which no parameter group lists")
        p = owner[index]
        state[p] = loaded = {}
        for field, value in entry.items():
            if field == "step" and counts_steps:
                loaded["step"] = int(value)
            elif field not in allowed:
                raise ValueError(
                    f"{name}.load_state_dict: state of parameter {index} has {field!r}, {name} keeps "
                    f"{', '.join(allowed)}; was it saved by another optimizer?"
                )
            elif value is not None:
                loaded[field] = wrap(_loaded_array(name, index, field, value, p))
        if counts_steps and "step" not in loaded:
            raise ValueError(f"{name}.load_state_dict: state of parameter {index} has no 'step'")
    return state


def _loaded_array(name: str, index: int, field: str, value: Any, p: Tensor) -> Any:
    # PyTorch's CPU tensors are read through NumPy's protocol
    host = np.asarray(to_host(value.array if isinstance(value, Tensor) else value)).astype(p.dtype)
    if host.shape != tuple(p.shape):
        raise ValueError(
            f"{name}.load_state_dict: {field} of parameter {index} has shape {host.shape}, "
            f"the parameter {tuple(p.shape)}"
        )
    return to_device(host, device_of(p.array))
