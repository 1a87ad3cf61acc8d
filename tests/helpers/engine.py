"""dynarl as the cases see it."""

from typing import Any

import numpy as np

import dynarl
from dynarl.autograd.ops import activation, affine, conv, indexing
from tests.helpers.case import Library

# softplus, logsigmoid, linear, one_hot and conv2d of nn.functional are the engine's
ENGINE = Library(dynarl, activation, affine, indexing, conv)


def is_tensor(value: Any) -> bool:
    """A tensor of dynarl or of torch."""
    return hasattr(value, "requires_grad")


def host(value: Any) -> Any:
    """The NumPy array of a tensor of either library, any other value as it is."""
    return np.asarray(value.detach().cpu().numpy()) if is_tensor(value) else value
