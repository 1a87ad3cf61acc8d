"""Automatic batching: programs written for one sample, run on many, forward and backward."""

from typing import Any

from dynarl.batching.batched import Batched, batched
from dynarl.batching.decisions import DecisionRecorder, Paths
from dynarl.batching.draws import Draws
from dynarl.batching.groups.group import PerSampleError
from dynarl.batching.random import bernoulli, categorical, normal, rand, randn
from dynarl.batching.scopes.scope import per_sample
from dynarl.batching.values.object_batch import ObjectBatch
from dynarl.batching.values.pytree import register_node
from dynarl.batching.values.ragged import Ragged, RaggedGraph
from dynarl.moved import missing_attribute

__all__ = [
    "Batched",
    "DecisionRecorder",
    "Draws",
    "ObjectBatch",
    "Paths",
    "PerSampleError",
    "Ragged",
    "RaggedGraph",
    "batched",
    "bernoulli",
    "categorical",
    "normal",
    "per_sample",
    "rand",
    "randn",
    "register_node",
]


def __getattr__(name: str) -> Any:
    raise missing_attribute(__name__, name)
