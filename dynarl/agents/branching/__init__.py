"""Policies that branch, each written for one environment in a file as short as its idea."""

from dynarl.agents.branching.adaptive_computation import AdaptiveComputation
from dynarl.agents.branching.early_exit import EarlyExit
from dynarl.agents.branching.forgetting import ForgetfulGRU
from dynarl.agents.branching.graphs import GraphWalker
from dynarl.agents.branching.mixture import Mixture
from dynarl.agents.branching.options import Options
from dynarl.agents.branching.planning import TreePlanner
from dynarl.agents.branching.pondering import PonderNet
from dynarl.agents.branching.second_thoughts import SecondThoughts
from dynarl.agents.branching.sets import SetEncoder
from dynarl.agents.branching.tree import TreeEvaluator

__all__ = [
    "AdaptiveComputation",
    "EarlyExit",
    "ForgetfulGRU",
    "GraphWalker",
    "Mixture",
    "Options",
    "PonderNet",
    "SecondThoughts",
    "SetEncoder",
    "TreeEvaluator",
    "TreePlanner",
]
