"""Modules, layers, losses and initial values under PyTorch's names."""

import importlib
from typing import Any

from dynarl.nn import functional, init
from dynarl.nn.activation import (
    ELU,
    GELU,
    SELU,
    Hardtanh,
    LeakyReLU,
    LogSigmoid,
    LogSoftmax,
    Mish,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Tanh,
)
from dynarl.nn.containers import ModuleDict, ModuleList, ParameterList, Sequential
from dynarl.nn.conv import AvgPool2d, Conv2d, MaxPool2d
from dynarl.nn.layers import Dropout, Embedding, Flatten, LayerNorm, RMSNorm, Unflatten
from dynarl.nn.linear import Identity, Linear
from dynarl.nn.loss import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
    SmoothL1Loss,
)
from dynarl.nn.module import Module
from dynarl.nn.parameter import Parameter
from dynarl.nn.recurrent import GRU, LSTM, GRUCell, LSTMCell

__all__ = [
    "ELU",
    "GELU",
    "GRU",
    "LSTM",
    "SELU",
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "Flatten",
    "GRUCell",
    "Hardtanh",
    "HuberLoss",
    "Identity",
    "KLDivLoss",
    "L1Loss",
    "LSTMCell",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSigmoid",
    "LogSoftmax",
    "MSELoss",
    "MaxPool2d",
    "Mish",
    "Module",
    "ModuleDict",
    "ModuleList",
    "NLLLoss",
    "Parameter",
    "ParameterList",
    "RMSNorm",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "Softplus",
    "Softsign",
    "Tanh",
    "Unflatten",
    "functional",
    "init",
]


def __getattr__(name: str) -> Any:
    if name == "utils":  # imports the optimisers: only for those who clip through PyTorch's path
        return importlib.import_module("dynarl.nn.utils")
    raise AttributeError(f"module 'dynarl.nn' has no attribute '{name}'")
