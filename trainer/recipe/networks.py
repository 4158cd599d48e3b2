"""The networks outside this package that may be imported.

Importing a module runs its code. A checkpoint may come from a stranger, and its recipe names a network. So a
module is imported only if the user named it: in a recipe file, or by `allow_network`.
"""

from __future__ import annotations

import sys

_allowed: set[str] = set()


def allow_network(name: str) -> None:
    """Let recipes and checkpoints name a network outside this package.

    Args:
        name: "package.module" or "package.module:Class", as `model.name` of a recipe.
    """
    _allowed.add(name)


def is_allowed(name: str) -> bool:
    """Whether the user named the network, or its module is imported already."""
    return name in _allowed or name.partition(":")[0] in sys.modules
