"""The import path of `torch.nn.utils`: gradient clipping and parameter vectors, defined in `dynarl.optim.clip`."""

from dynarl.optim.clip import (
    clip_grad_norm_,
    clip_grad_value_,
    parameters_to_vector,
    vector_to_parameters,
)

__all__ = ["clip_grad_norm_", "clip_grad_value_", "parameters_to_vector", "vector_to_parameters"]
