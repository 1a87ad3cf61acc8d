"""Checks environments for mistakes that make agents fail silently."""

from dynarl.envs.checker.check import Finding, check

__all__ = ["Finding", "check"]
