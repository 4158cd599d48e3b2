"""File names as text."""

from __future__ import annotations

import os
import re

from flowprep.errors import UsageError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def printable(name: str) -> str:
    """A file's name as text that can be stored as UTF-8: bytes that are not UTF-8 become `\\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def check_no_address(place: str, text: str) -> None:
    """Refuse an address such as s3://bucket/name.

    Args:
        place: where it stands, for the message.
        text: a path as the user wrote it.

    Raises:
        UsageError: it is an address.
    """
    if _ADDRESS.match(text):
        raise UsageError(
            f"{place}{shorten(text)} is an address; only files of this machine are read and written. Copy it,"
            " or mount it and name the mounted folder"
        )


def shorten(text: str, length: int = 120) -> str:
    """A text for a message: without characters that are not printed, and not too long."""
    shown = repr(text)[1:-1] if not text.isprintable() else text
    return shown if len(shown) <= length else f"{shown[:length]}... ({len(text)} characters)"
