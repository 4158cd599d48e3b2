"""The command line of flowprep: parse, call, print. No logic lives here.

The commands are in `program.py`, which is imported when it is needed: Ctrl-C is handled before that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowprep.cli.program import main as main


def __getattr__(name: str) -> Any:
    if name != "main":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from flowprep.cli.program import main

    return main
