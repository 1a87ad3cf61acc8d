"""Names in code objects: which globals a function uses, and the chains of attributes that it reads from them."""

from __future__ import annotations

import dis
from dataclasses import dataclass
from types import CodeType
from typing import Any

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


def _read(code: CodeType) -> Names:
    chains: dict[tuple[str, ...], None] = {}
    assigned: set[str] = set()
    codes = [code]
    for part in codes:
        reader = _Reader(chains, assigned)
        for instruction in dis.get_instructions(part):
            reader.read(instruction.opname, instruction.argval)
        reader.end()
        codes += [inner for inner in part.co_consts if isinstance(inner, CodeType)]
    return Names(tuple(chains), frozenset(assigned))


class _Reader:
    """Joins the instructions of a code object to chains."""

    def __init__(self, chains: dict[tuple[str, ...], None], assigned: set[str]) -> None:
        self.chains, self.assigned = chains, assigned
        self.chain: list[str] = []
        self.after_import = False
        self.imported: dict[str, list[str]] = {}  # local variable -> the chain of what was imported into it

    def end(self) -> None:
        """End the present chain."""
        if self.chain:
            self.chains[tuple(self.chain)] = None
        self.chain = []

    def read(self, name: str, argument: Any) -> None:
        """Take an instruction."""
        if name in _BETWEEN:
            return
        chain = self.chain
        if chain and name == "IMPORT_FROM":
            if len(chain) > 2 and self.after_import:  # a further name of the same module
                self.end()
                chain = self.chain = [chain[0], chain[1]]
            chain.append(argument)
        elif chain and name in _CONTINUES:
            chain.append(argument)
        elif chain and chain[0] == "import" and name.startswith("STORE_FAST"):
            self._store(argument)
        elif name in _STARTS:
            self.end()
            self.chain = [_STARTS[name], argument]
            if name in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                self.assigned.add(argument)
        elif name.startswith("LOAD_FAST") and argument in self.imported:
            self.end()
            self.chain = list(self.imported[argument])
        elif not (chain and chain[0] == "import" and name in _IN_IMPORT):
            self.end()
        self.after_import = name.startswith("STORE_") or name == "IMPORT_FROM"

    def _store(self, variable: str) -> None:
        chain = self.chain
        whole = len(chain) == 2 and variable == chain[1].partition(".")[0]  # `import a.b` assigns a
        self.imported[variable] = ["import", variable] if whole else list(chain)


_IN_IMPORT = frozenset(("SWAP", "POP_TOP"))  # `import a.b as c`
