"""Automatic batching: programs written for one sample, run on many, forward and backward."""

from dynarl.batching.batched import Batched, batched
from dynarl.batching.cohort import PerSampleError
from dynarl.batching.each import Each
from dynarl.batching.paths import Paths, Recorder
from dynarl.batching.ragged import Ragged, RaggedGraph
from dynarl.batching.random import Draws, bernoulli, categorical, normal, rand, randn
from dynarl.batching.scope import per_sample
from dynarl.batching.trees import register_node

__all__ = [
    "Batched",
    "Draws",
    "Each",
    "Paths",
    "PerSampleError",
    "Ragged",
    "RaggedGraph",
    "Recorder",
    "batched",
    "bernoulli",
    "categorical",
    "normal",
    "per_sample",
    "rand",
    "randn",
    "register_node",
]
