"""File names as text."""

from __future__ import annotations

import os


def printable(name: str) -> str:
    """A file's name as text that can be stored as UTF-8: bytes that are not UTF-8 become `\\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
