"""Optimisers, learning-rate schedules, gradient clipping and Polyak averaging, under PyTorch's names."""

from dynarl.optim import lr_scheduler
from dynarl.optim.adam import Adam, AdamW
from dynarl.optim.clip import (
    clip_grad_norm_,
    clip_grad_value_,
    parameters_to_vector,
    vector_to_parameters,
)
from dynarl.optim.optimizer import Optimizer
from dynarl.optim.polyak import polyak_update
from dynarl.optim.rmsprop import RMSprop
from dynarl.optim.sgd import SGD

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
    "clip_grad_norm_",
    "clip_grad_value_",
    "lr_scheduler",
    "parameters_to_vector",
    "polyak_update",
    "vector_to_parameters",
]
