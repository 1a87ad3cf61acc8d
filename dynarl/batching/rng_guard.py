"""The guard against random numbers that are not per sample: detected after the run, and traced to their line.

A draw from Python's or NumPy's generators gives one number to all samples of a group, which silently correlates them.
"""

from __future__ import annotations

import contextlib
import ctypes
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType, FunctionType, MethodType
from typing import Any

import numpy as np

from dynarl.autograd.call_site import is_user_code
from dynarl.nn import Module

__all__ = ["drawing_line", "fingerprint", "generators_of", "state_of"]

_OTHERS = (str(Path(np.__file__).parent), random.__file__)


def _python_words() -> Any:
    """Return a function that views the state of a generator in memory, (words, index), or None if that is not possible.

    `getstate` makes 625 Python numbers each time, which would take a tenth of a small batched run. The view is used
    only if it agrees with `getstate` on a generator of the same kind, before and after drawing.
    """
    header = object.__basicsize__

    def view(generator: random.Random) -> Any:
        return (ctypes.c_uint32 * 625).from_address(id(generator) + header)

    trial = random.Random(7)
    if sys.implementation.name != "cpython" or sys.getsizeof(trial) < header + 4 * 625:
        return None
    for _ in range(3):
        words, (_, state, _) = view(trial), trial.getstate()
        if words[0] != state[-1] or tuple(words[1:6]) != state[:5]:
            return None
        trial.random()
    return view


_view = _python_words()
_drawn: Any = random.random
_python: Any = _drawn.__self__  # the generator behind the functions of the module
_python_state = _view(_python) if _view is not None else None


def fingerprint() -> tuple[Any, ...]:
    """Return a value that changes with every draw from Python's or NumPy's global generator."""
    if _python_state is None:
        state = _python.getstate()[1]
        python = state[-1], state[0], state[397]
    else:
        python = _python_state[0], _python_state[1], _python_state[398]
    return python, _numpy_fingerprint()


def _numpy_fingerprint() -> Any:
    bits = np.random.mtrand._rand._bit_generator
    words = _numpy_states.get(id(bits))
    if words is None or words[0] is not bits:
        if not isinstance(bits, np.random.MT19937):
            return repr(bits.state)
        address = bits.ctypes.state_address  # struct { uint32_t key[624]; int pos; }
        _numpy_states[id(bits)] = words = bits, (ctypes.c_uint32 * 625).from_address(address)
    return words[1][624], words[1][0], words[1][397]


_numpy_states: dict[int, Any] = {}


def generators_of(program: Any) -> list[Any]:
    """Return the generators of Python or NumPy that a program reaches by name: globals, closures, attributes."""
    found: list[Any] = []
    seen: set[int] = set()
    todo = [program]
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, (np.random.Generator, np.random.RandomState, random.Random)):
            found.append(value)
        elif isinstance(value, MethodType):
            todo += [value.__self__, value.__func__]
        elif isinstance(value, FunctionType):
            if is_user_code(value.__code__) and not value.__code__.co_filename.startswith(_OTHERS):
                todo += _named_by(value)
        elif isinstance(value, Module):
            todo += [*vars(value).values(), type(value).forward]
        elif value.__class__ in (dict, list, tuple) and len(value) <= _LARGEST:
            todo += value.values() if value.__class__ is dict else value
    return found


_LARGEST = 1000  # containers with more are data


def _named_by(function: FunctionType) -> list[Any]:
    values = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # not assigned yet
            values.append(cell.cell_contents)
    codes: list[Any] = [function.__code__]
    for code in codes:
        values += [function.__globals__[name] for name in code.co_names if name in function.__globals__]
        codes += [part for part in code.co_consts if isinstance(part, CodeType)]
    return values


def state_of(generators: list[Any]) -> tuple[Any, ...]:
    """Return a value that changes with every draw from the global generators or the given ones."""
    return fingerprint(), *[_state(generator) for generator in generators]


def _state(generator: Any) -> Any:
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, np.random.RandomState):
        return repr(generator.get_state())
    return repr(generator.bit_generator.state)


def drawing_line(run: Callable[[], Any], generators: list[Any]) -> str:
    """Run a program again and return the first line that draws from a generator, as `file:line in function`."""
    found: list[str] = []
    at: dict[FrameType, tuple[CodeType, int]] = {}
    before = state_of(generators)

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if found or not is_user_code(frame.f_code) or frame.f_code.co_filename.startswith(_OTHERS):
            return None
        if state_of(generators) != before:
            code, line = at.get(frame, (frame.f_code, frame.f_lineno))
            found.append(f"{code.co_filename}:{line} in {code.co_name}")
            return None
        at[frame] = frame.f_code, frame.f_lineno
        return trace

    earlier = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    except Exception:  # the program may fail, since its draws are different now
        pass
    finally:
        sys.settrace(earlier)
    return found[0] if found else "a line that did not draw again"
