"""Distributions with PyTorch's names: lazily normalised, and able to sample from given noise."""

from dynarl.distributions.bernoulli import Bernoulli
from dynarl.distributions.branched import Branched
from dynarl.distributions.categorical import Categorical
from dynarl.distributions.distribution import Distribution
from dynarl.distributions.independent import Independent
from dynarl.distributions.kl import kl_divergence, register_kl
from dynarl.distributions.multi_categorical import MultiCategorical
from dynarl.distributions.normal import Normal
from dynarl.distributions.product import Product
from dynarl.distributions.state_dependent import StateDependentNormal
from dynarl.distributions.tanh_normal import TanhNormal
from dynarl.distributions.uniform import Uniform

__all__ = [
    "Bernoulli",
    "Branched",
    "Categorical",
    "Distribution",
    "Independent",
    "MultiCategorical",
    "Normal",
    "Product",
    "StateDependentNormal",
    "TanhNormal",
    "Uniform",
    "kl_divergence",
    "register_kl",
]
