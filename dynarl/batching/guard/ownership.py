"""Whose code a function or class is: the user's own is followed, that of libraries is not."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from types import CodeType, ModuleType

__all__ = ["is_users_class", "is_users_code", "is_users_module"]

_PACKAGE = str(Path(__file__).parents[2]) + "/"
_LIBRARIES = tuple({sysconfig.get_path(name) + "/" for name in ("purelib", "platlib")})
_STANDARD = tuple({sysconfig.get_path(name) + "/" for name in ("stdlib", "platstdlib")})


def _is_users(file: str) -> bool:
    return not file.startswith((_PACKAGE, *_LIBRARIES, *_STANDARD)) and "/site-packages/" not in file


_files: dict[str, bool] = {}


def is_users_code(code: CodeType) -> bool:
    """Return whether code is neither this package's nor that of Python's or an installed library."""
    file = code.co_filename
    found = _files.get(file)
    if found is None:
        # Frozen modules of Python have such names; a cell of a notebook and an `exec` have others.
        found = _files[file] = not file.startswith("<frozen") and _is_users(file)
    return found


def is_users_module(module: ModuleType) -> bool:
    """Return whether a module is neither this package's nor that of Python's or an installed library."""
    file = getattr(module, "__file__", None)
    if file is None:
        return module.__name__ == "__main__" or module.__name__ not in sys.builtin_module_names
    return _is_users(file)


def is_users_class(cls: type) -> bool:
    """Return whether a class is neither this package's nor that of Python's or an installed library."""
    module = sys.modules.get(cls.__module__)
    if module is None:
        return cls.__module__ != "builtins"
    return is_users_module(module)
