"""Policies that branch, each written for one environment in a file as short as its idea."""

from dynarl.agents.conditional.adaptive_computation import AdaptiveComputation
from dynarl.agents.conditional.early_exit import EarlyExit
from dynarl.agents.conditional.forgetting import ForgetfulGRU
from dynarl.agents.conditional.graphs import GraphWalker
from dynarl.agents.conditional.mixture import Mixture
from dynarl.agents.conditional.options import Options
from dynarl.agents.conditional.planning import TreePlanner
from dynarl.agents.conditional.pondering import PonderNet
from dynarl.agents.conditional.second_thoughts import SecondThoughts
from dynarl.agents.conditional.set_policy import SetPolicy
from dynarl.agents.conditional.tree import TreeEvaluator

__all__ = [
    "AdaptiveComputation",
    "EarlyExit",
    "ForgetfulGRU",
    "GraphWalker",
    "Mixture",
    "Options",
    "PonderNet",
    "SecondThoughts",
    "SetPolicy",
    "TreeEvaluator",
    "TreePlanner",
]
