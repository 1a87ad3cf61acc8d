"""Checkpoints: a directory of safetensors and JSON that is either complete and verified, or refused.

    ckpt-000000012345/
      arrays.safetensors   every array of the state, named by its path ("policy/net.0.weight")
      state.json           the rest of the state, with references to the arrays
      MANIFEST.json        size and sha256 of both, format version, library versions, meta, its own sha256

A checkpoint is written to a temporary directory, flushed to the disk, and renamed, so that a crash at any moment leaves
the old one or the new one. Nothing in it is pickled, and loading executes nothing.
"""

import contextlib
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dynarl.checkpoint.encoding import decode, encode

__all__ = [
    "FORMAT_VERSION",
    "Checkpoint",
    "CheckpointError",
    "load",
    "read_manifest",
    "recover",
    "save",
    "write_atomically",
]

FORMAT_VERSION = 1
MANIFEST, ARRAYS, STATE = "MANIFEST.json", "arrays.safetensors", "state.json"

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
_MAX_JSON_BYTES = 64 << 20
_STALE_AFTER_SECONDS = 3600.0


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written or must not be loaded."""


class Checkpoint(NamedTuple):
    """A loaded checkpoint: the state, its `meta`, and its path."""

    state: dict[str, Any]
    meta: dict[str, Any]
    path: Path


# ------------------------------------------------------------------------------------------------ writing


def save(directory: str | os.PathLike[str], state: Mapping[str, Any], *, meta: Mapping[str, Any]) -> Path:
    """Write `state` to the checkpoint `directory`, atomically, and return its absolute path.

    `state` nests dicts (string keys) and lists of NumPy arrays, numbers, strings, booleans and None.
    Integers may have any size, floats may be infinite or NaN, arrays keep dtype and shape (0-d too),
    NumPy scalars come back as 0-d arrays, tuples as lists. `meta` is JSON of the same kind without
    arrays. An older checkpoint of that name is replaced; another file or directory of that name is refused.

    Raises TypeError with the path of a value that would need pickle, CheckpointError if the files cannot be written; an
    older checkpoint is then still in place.
    """
    target = Path(directory).absolute()
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    tree = encode(state, "", arrays)
    described = encode(meta, "", None)
    if target.is_symlink() or (target.exists() and not _is_replaceable(target)):
        raise CheckpointError(f"checkpoint: {target} exists and is not a checkpoint; it is left as it is")
    scratch = target.with_name(f".{target.name}.tmp-{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _collect(target.parent, f".{target.name}.tmp-*", older_than=_STALE_AFTER_SECONDS)
        scratch.mkdir()
        _write_files(scratch, tree, arrays, described)
        _put_in_place(scratch, target)
    except OSError as error:
        raise CheckpointError(
            f"checkpoint: cannot write {target}: {error}; checkpoints written before are untouched"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _is_replaceable(target: Path) -> bool:
    return target.is_dir() and ((target / MANIFEST).is_file() or not any(target.iterdir()))


def _write_files(directory: Path, tree: Any, arrays: dict[str, Any], meta: Any) -> None:
    import safetensors.numpy

    contents = {
        ARRAYS: safetensors.numpy.save(arrays),
        STATE: json.dumps({"state": tree}, allow_nan=False).encode(),
    }
    manifest = {
        "format": "dynarl checkpoint",
        "format_version": FORMAT_VERSION,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": _versions(),
        "meta": meta,
        "files": {
            name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in contents.items()
        },
    }
    for name, content in contents.items():
        write_durably(directory / name, content)
    write_durably(directory / MANIFEST, _sealed(manifest))
    _sync_directory(directory)


def _sealed(manifest: dict[str, Any]) -> bytes:
    """Return the manifest as bytes that end in their own sha256, which detects any flipped bit."""
    body = json.dumps(manifest, indent=1, allow_nan=False)
    return json.dumps({**manifest, "sha256": hashlib.sha256(body.encode()).hexdigest()}, indent=1).encode()


def _put_in_place(scratch: Path, target: Path) -> None:
    """Rename `scratch` to `target`. Not every system can exchange two directories in one step, so the older one is
    renamed first; `load` finds it under that name if the process dies between the two renames."""
    aside = _aside(target)
    if target.exists():
        shutil.rmtree(aside, ignore_errors=True)
        target.rename(aside)
    scratch.rename(target)
    _sync_directory(target.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def write_durably(path: Path, content: bytes) -> None:
    """Create the file `path` with `content` and wait until it is on the disk."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file `path` by one with `content`; readers see the old file or the new one."""
    scratch = path.with_name(f".{path.name}.tmp-{secrets.token_hex(4)}")
    try:
        write_durably(scratch, content)
        scratch.replace(path)
        _sync_directory(path.parent)
    finally:
        scratch.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _collect(directory: Path, pattern: str, *, older_than: float) -> None:
    for stale in directory.glob(pattern):
        with contextlib.suppress(OSError):
            if time.time() - stale.stat().st_mtime >= older_than:
                shutil.rmtree(stale)


def recover(directory: Path) -> None:
    """Remove the leftovers of a killed process from `directory`. No other process may be writing there."""
    for aside in directory.glob(".*.old"):
        target = aside.with_name(aside.name[1 : -len(".old")])
        if target.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(target)
    _collect(directory, ".*.tmp-*", older_than=0.0)


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    versions = {"python": platform.python_version()}
    for package in ("dynarl", "numpy", "gymnasium", "safetensors"):
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


# ------------------------------------------------------------------------------------------------ reading


def load(path: str | os.PathLike[str]) -> Checkpoint:
    """Read the checkpoint at `path`, verify every byte of it, and return state and meta.

    Arrays own their memory and are writable. Raises CheckpointError with the reason: not a checkpoint, truncated,
    altered, of an unknown format version, or with names of files outside itself.
    """
    directory = _resolve(Path(path).absolute())
    manifest = read_manifest(directory)
    contents = {name: _verified(directory, name, entry) for name, entry in _entries(directory, manifest)}
    if missing := {ARRAYS, STATE} - contents.keys():
        raise CheckpointError(f"checkpoint: {directory} has no {', '.join(sorted(missing))} in its manifest")
    arrays = _arrays(directory / ARRAYS, contents[ARRAYS])
    tree = _parse(directory / STATE, contents[STATE])
    try:
        state, meta = decode(tree["state"], arrays), decode(manifest["meta"], {})
        if not isinstance(state, dict) or not isinstance(meta, dict):
            raise TypeError("state and meta must be objects")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError, MemoryError) as error:
        raise CheckpointError(f"checkpoint: {directory} is not well formed: {error!r}") from error
    return Checkpoint(state, meta, directory)


def read_manifest(directory: Path) -> dict[str, Any]:
    """Read and verify MANIFEST.json alone: sizes, digests, versions and meta, without the state."""
    if not directory.is_dir():
        what = "is a file" if directory.exists() else "does not exist"
        raise CheckpointError(f"checkpoint: {directory} {what}; a checkpoint is a directory")
    raw = _read(directory / MANIFEST, _MAX_JSON_BYTES)
    manifest = _parse(directory / MANIFEST, raw)
    if manifest.get("format") != "dynarl checkpoint":
        raise CheckpointError(f"checkpoint: {directory} is not a dynarl checkpoint")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"checkpoint: {directory} has format version {manifest.get('format_version')!r}, this dynarl "
            f"reads version {FORMAT_VERSION}; use the dynarl that wrote it, or a newer one"
        )
    body = {key: value for key, value in manifest.items() if key != "sha256"}
    try:
        intact = _sealed(body) == raw
    except ValueError:
        intact = False
    if not intact or not isinstance(body.get("files"), dict):
        raise CheckpointError(f"checkpoint: {directory / MANIFEST} was altered: its sha256 does not match")
    return manifest


def _resolve(path: Path) -> Path:
    """Return `path`, or the older checkpoint next to it if a crash interrupted its replacement."""
    aside = _aside(path)
    return aside if not path.exists() and aside.is_dir() else path


def _entries(directory: Path, manifest: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, entry in manifest["files"].items():
        if not _FILE_NAME.fullmatch(name):
            raise CheckpointError(
                f"checkpoint: the manifest of {directory} names {name!r}; only plain file names are allowed"
            )
        if not isinstance(entry, dict) or not isinstance(entry.get("size"), int):
            raise CheckpointError(f"checkpoint: the manifest of {directory} is not well formed at {name!r}")
        yield name, entry


def _verified(directory: Path, name: str, entry: dict[str, Any]) -> bytes:
    content = _read(directory / name, entry["size"])
    if len(content) != entry["size"]:
        raise CheckpointError(
            f"checkpoint: {directory / name} is cut short: {len(content)} bytes, the manifest says {entry['size']}"
        )
    if hashlib.sha256(content).hexdigest() != entry.get("sha256"):
        raise CheckpointError(f"checkpoint: {directory / name} was altered: its sha256 does not match")
    return content


def _read(path: Path, limit: int) -> bytes:
    """Read a plain file of at most `limit` bytes; links are not followed, pipes do not block."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        raise CheckpointError(
            f"checkpoint: {path.parent} has no {path.name}; it is incomplete, or not a checkpoint"
        ) from None
    except OSError as error:
        link = " (a link is never followed)" if path.is_symlink() else ""
        raise CheckpointError(f"checkpoint: cannot read {path}{link}: {error}") from error
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):  # a directory cannot be opened as a file at all
        os.close(handle)
        raise CheckpointError(f"checkpoint: {path} is not a plain file")
    with os.fdopen(handle, "rb") as file:
        if status.st_size > limit:
            raise CheckpointError(f"checkpoint: {path} has {status.st_size} bytes, at most {limit} expected")
        try:
            return file.read(status.st_size + 1)
        except (OSError, OverflowError, MemoryError) as error:
            raise CheckpointError(f"checkpoint: cannot read {path}: {error!r}") from error


def _parse(path: Path, content: bytes) -> dict[str, Any]:
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"checkpoint: {path} is not valid JSON: {error}") from error
    if not isinstance(tree, dict):
        raise CheckpointError(f"checkpoint: {path} must hold a JSON object, got {type(tree).__name__}")
    return tree


def _arrays(path: Path, content: bytes) -> dict[str, np.ndarray[Any, Any]]:
    import safetensors
    import safetensors.numpy

    try:
        views = safetensors.numpy.load(content)
        return {name: np.array(view) for name, view in views.items()}
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"checkpoint: {path} is not a safetensors file dynarl reads: {error}") from error
