"""Fragments of experience and the worker that fills them."""

from dynarl.rollout.collect import ActingPolicy, Collector
from dynarl.rollout.fragment import Batch, Fragment

__all__ = ["ActingPolicy", "Batch", "Collector", "Fragment"]
