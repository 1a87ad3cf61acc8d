"""Random generators of Python and NumPy: a draw from one gives all samples of a group the same number."""

from __future__ import annotations

import ctypes
import random
import sys
from typing import Any

import numpy as np

__all__ = ["GLOBAL", "fingerprint", "is_generator", "restore", "same", "state_of"]


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
GLOBAL = (_python, np.random.mtrand._rand)
"""The generators behind the functions of `random` and `numpy.random`, which `fingerprint` covers."""


def fingerprint() -> tuple[Any, ...]:
    """Return a value that changes with every draw from Python's or NumPy's global generator.

    But for every second normal number of NumPy's, which is kept from the first: `state_of` knows of it.
    """
    if _python_state is None:
        state = _python.getstate()[1]
        python = state[-1], state[0], state[397]
    else:
        python = _python_state[0], _python_state[1], _python_state[398]
    return python, _python.gauss_next, _numpy_fingerprint()


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
_KINDS = (
    np.random.Generator, np.random.RandomState, np.random.BitGenerator, np.random.SeedSequence, random.Random,
)  # fmt: skip


def is_generator(x: Any) -> bool:
    """Return whether an object is a random generator of Python or NumPy, with a state."""
    return isinstance(x, _KINDS) and not isinstance(x, random.SystemRandom)


def state_of(generator: Any) -> Any:
    """Return the state of a generator."""
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, np.random.SeedSequence):
        return generator.n_children_spawned
    if isinstance(generator, np.random.RandomState):
        return generator.get_state(legacy=False)
    bits = _bits(generator)
    return {"bits": bits.state, "spawned": getattr(bits.seed_seq, "n_children_spawned", 0)}


def same(a: Any, b: Any) -> bool:
    """Return whether two states of a generator are equal."""
    if a.__class__ is dict:
        return a.keys() == b.keys() and all(same(value, b[name]) for name, value in a.items())
    return bool(np.array_equal(a, b)) if isinstance(a, np.ndarray) else bool(a == b)


def restore(generator: Any, state: Any) -> None:
    """Give a generator a state that it had."""
    if isinstance(generator, random.Random):
        generator.setstate(state)
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    elif not isinstance(generator, np.random.SeedSequence):
        _bits(generator).state = state["bits"]


def _bits(generator: Any) -> Any:
    return getattr(generator, "bit_generator", generator)
