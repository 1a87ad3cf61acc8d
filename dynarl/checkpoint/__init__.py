"""Checkpoints: directories of safetensors and JSON, written atomically; loading executes nothing in them."""

from dynarl.checkpoint.files import (
    Checkpoint,
    CheckpointError,
    load,
    read_manifest,
    recover,
    save,
    write_atomically,
    write_durably,
)

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "load",
    "read_manifest",
    "recover",
    "save",
    "write_atomically",
    "write_durably",
]
