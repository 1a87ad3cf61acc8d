"""Names in code objects: which globals a function uses, and the chains of attributes that it reads from them."""

from __future__ import annotations

import dis
from dataclasses import dataclass
from types import CodeType

__all__ = ["Names", "names_in"]

_STARTS = {
    "LOAD_GLOBAL": "global", "LOAD_NAME": "global", "STORE_GLOBAL": "global", "DELETE_GLOBAL": "global",
    "LOAD_DEREF": "free", "LOAD_CLASSDEREF": "free", "IMPORT_NAME": "import",
}  # fmt: skip
_CONTINUES = frozenset(("LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR", "DELETE_ATTR", "IMPORT_FROM"))
_BETWEEN = frozenset(("CACHE", "NOP", "EXTENDED_ARG", "PUSH_NULL", "PRECALL"))


@dataclass(frozen=True)
class Names:
    """What a function names: chains ("global", "np", "random", "rand"), and the globals that it assigns."""

    chains: tuple[tuple[str, ...], ...]
    assigned: frozenset[str]


def names_in(code: CodeType) -> Names:
    """Return the names in a code object and those inside it."""
    found = _known.get(id(code))
    if found is None or found[0] is not code:
        found = _known[id(code)] = code, _read(code)
    return found[1]


_known: dict[int, tuple[CodeType, Names]] = {}


def _read(code: CodeType) -> Names:  # noqa: C901  (one pass over the instructions)
    chains: dict[tuple[str, ...], None] = {}
    assigned: set[str] = set()
    codes = [code]
    for part in codes:
        chain: list[str] = []
        for instruction in dis.get_instructions(part):
            name = instruction.opname
            if name in _BETWEEN:
                continue
            if name in _CONTINUES and chain:
                chain.append(instruction.argval)
                if name == "IMPORT_FROM":  # further names of the same module may follow
                    chains[tuple(chain)] = None
                    chain.pop()
                continue
            if name.startswith("STORE_") and chain and chain[0] == "import":
                continue
            if chain:
                chains[tuple(chain)] = None
                chain = []
            if name in _STARTS:
                chain = [_STARTS[name], instruction.argval]
                if name in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                    assigned.add(instruction.argval)
        if chain:
            chains[tuple(chain)] = None
        codes += [inner for inner in part.co_consts if isinstance(inner, CodeType)]
    return Names(tuple(chains), frozenset(assigned))
