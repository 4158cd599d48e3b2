"""Checks that records of settings share, and checks of what a corpus on disk says: names, texts, counts."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from flowprep.errors import SettingsError

MAX_TEXT = 1000  # bytes of a setting
_TYPES: dict[str, Any] = {"int": int, "float": (int, float), "bool": bool, "str": str}


def check(ok: bool, name: str, value: object, allowed: str) -> None:
    """Refuse the value of a setting unless `ok`.

    Args:
        ok: whether the value is allowed.
        name: the setting.
        value: its value, as the message shows it.
        allowed: text that says which values are allowed.

    Raises:
        SettingsError: the message has all three.
    """
    if not ok:
        raise SettingsError(f"{name} is {value}; allowed: {allowed}")


def check_types(record: Any) -> None:
    """Check that each field of a frozen dataclass has its declared type; make whole numbers floats if needed.

    Raises:
        SettingsError: a value has another type, or is a very long text.
    """
    for field in dataclasses.fields(record):
        value, kind = getattr(record, field.name), str(field.type)
        if kind in _TYPES:
            is_right = isinstance(value, _TYPES[kind]) and (kind == "bool" or not isinstance(value, bool))
            check(is_right, field.name, repr(value), f"a value of type {kind}")
        if kind == "str":
            check_text(field.name, value, MAX_TEXT)
        if kind == "float":
            object.__setattr__(record, field.name, float(value))


def check_names(record_type: type, names: set[str]) -> None:
    """Refuse names that are no fields of a dataclass.

    Raises:
        SettingsError: it lists the unknown and the known names.
    """
    known = {field.name for field in dataclasses.fields(record_type)}
    if unknown := sorted(names - known):
        raise SettingsError(f"unknown setting {', '.join(unknown)}; known: {', '.join(sorted(known))}")


# --- What a corpus on disk says. It may come from a stranger, so nothing of it becomes a path unchecked.

LONGEST_NAME = 1 << 14  # bytes of an id, a label or a path: four times that of a path, as for `\\xNN`
MOST = 2**53  # of a count: whole numbers are exact in JSON up to here

_TASK = re.compile(r"[0-9A-Za-z_-]{1,100}")
_TOTAL = re.compile(r"[0-9A-Za-z_]{1,64}")


def is_task_id(value: object) -> bool:
    """Whether a value can be the id of a task: the names of its files are made of it."""
    return isinstance(value, str) and _TASK.fullmatch(value) is not None


def check_task_id(value: object) -> str:
    """Return the id of a task.

    Raises:
        SettingsError: it might lead to a file outside the corpus, or is no id.
    """
    check(is_task_id(value), "task", ascii(value)[:200], "1 to 100 letters a-z, digits, _ and -")
    return str(value)


def check_video_id(value: object) -> str:
    """Return the id of a video, or its path relative to the input.

    Raises:
        SettingsError: it is no text, is too long, has a zero byte, or has a part "..".
    """
    text = check_text("video id", value, LONGEST_NAME)
    parts = text.split("/") if "." in text else ()
    check(bool(text) and ".." not in parts, "video id", ascii(text)[:200], 'a path without the part ".."')
    return text


def check_path(value: object) -> str:
    """Return the path of a video's file. Bytes that are not UTF-8 are U+DC80 to U+DCFF in it, as in Python.

    Raises:
        SettingsError: it is no text, is too long, or has a zero byte.
    """
    if isinstance(value, str) and not value.isascii():
        check_text("path", re.sub("[\udc80-\udcff]", "?", value))
        return value
    return check_text("path", value)


def check_text(name: str, value: object, longest: int = LONGEST_NAME) -> str:
    """Return a text of a corpus.

    Args:
        name: what it is, for the message.
        value: the text.
        longest: in bytes of UTF-8.

    Raises:
        SettingsError: it is no text, is too long, has a zero byte, or cannot be stored as UTF-8.
    """
    if isinstance(value, str) and len(value) * 4 <= longest and value.isascii() and "\0" not in value:
        return value  # almost all; a plan may have millions
    ok = isinstance(value, str) and "\0" not in value
    ok = ok and len(str(value).encode("utf-8", "replace")) <= longest
    ok = ok and not any("\ud800" <= c <= "\udfff" for c in str(value))
    check(ok, name, ascii(value)[:200], f"text of at most {longest} bytes of UTF-8 without zero bytes")
    return str(value)


def check_count(name: str, value: object, least: int = 0) -> int:
    """Return a count of a corpus.

    Raises:
        SettingsError: it is no whole number, is below `least`, or has more than 53 bits.
    """
    ok = type(value) is int and least <= value <= MOST
    if not ok:  # the text of the message takes most of the time
        check(ok, name, ascii(value)[:40], f"a whole number from {least}")
    return value  # type: ignore[return-value]


def check_totals(values: object) -> dict[str, float]:
    """Return sums by name.

    Raises:
        SettingsError: a name is not made of letters, digits and _, or a value is not a finite number.
    """
    check(isinstance(values, Mapping), "totals", ascii(values)[:40], "numbers by name")
    totals: dict[str, float] = dict(values)  # type: ignore[call-overload]
    for name, value in totals.items():
        ok = isinstance(name, str) and _TOTAL.fullmatch(name) is not None
        check(ok, "the name of a total", ascii(name)[:80], "letters, digits and _")
        ok = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MOST
        check(ok, name, ascii(value)[:40], "a finite number")
    return totals
