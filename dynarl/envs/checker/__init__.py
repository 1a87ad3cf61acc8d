"""The checker of environments: it finds mistakes that make agents fail quietly."""

from dynarl.envs.checker.check import Finding, check

__all__ = ["Finding", "check"]
