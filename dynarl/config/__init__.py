"""Configurations: frozen dataclasses that are also the command line and the YAML file."""

from dynarl.config.loading import fields_of, from_file, from_mapping, load, replace, split, to_flat, to_yaml
from dynarl.config.migration import configuration, renamed
from dynarl.config.run_config import ConfigError, RunConfig, RunFailed

__all__ = [
    "ConfigError",
    "RunConfig",
    "RunFailed",
    "configuration",
    "fields_of",
    "from_file",
    "from_mapping",
    "load",
    "renamed",
    "replace",
    "split",
    "to_flat",
    "to_yaml",
]
