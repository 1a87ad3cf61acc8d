"""How to install an optional dependency: in the way that dynarl itself was installed."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["how_to_install"]

_PACKAGE = Path(__file__).parent


def how_to_install(*extras: str) -> str:
    """Return the pip command that installs the packages of an extra; several extras are alternatives.

    In a checkout it names the checkout: `pip install -e '.[ray]'`. Elsewhere it names the required packages, as
    `pip install 'dynarl[ray]'` would ask an index for a project of that name, which need not be this one.
    """
    return " or ".join(_command(extra) for extra in extras)


def _command(extra: str) -> str:
    checkout = _PACKAGE.parent
    if (checkout / "pyproject.toml").is_file():
        place = "." if checkout == Path.cwd() else str(checkout)
        return f"pip install -e '{place}[{extra}]'"
    return f"pip install {' '.join(repr(one) for one in _requirements(extra))}"


def _requirements(extra: str) -> list[str]:
    """Return the requirements of an extra in the metadata of the installed package."""
    from importlib.metadata import requires

    found = []
    for line in requires("dynarl") or ():
        requirement, _, condition = line.partition(";")
        if re.search(rf"extra\s*==\s*['\"]{extra}['\"]", condition):
            found.append(requirement.strip())
    return found
