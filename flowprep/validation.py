"""Checks that records of settings share: the type of each field, the value of a field, unknown names."""

from __future__ import annotations

import dataclasses
from typing import Any

from flowprep.errors import SettingsError

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
        SettingsError: a value has another type.
    """
    for field in dataclasses.fields(record):
        value, kind = getattr(record, field.name), str(field.type)
        if kind in _TYPES:
            is_right = isinstance(value, _TYPES[kind]) and (kind == "bool" or not isinstance(value, bool))
            check(is_right, field.name, repr(value), f"a value of type {kind}")
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
